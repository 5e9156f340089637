package hostinfo

import (
	"fmt"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

func hideWindow(*exec.Cmd) {}

// Processor describes the processor.
func Processor() CPU {
	c := CPU{Count: runtime.NumCPU()}
	c.Model, _ = unix.Sysctl("machdep.cpu.brand_string")
	if v, err := unix.SysctlUint32("kern.hv_support"); err == nil && v != 0 {
		c.Virtual = "hvf"
	}
	return c
}

// Memory tells how many bytes of RAM there are, and how many of them could be
// used without swapping: free pages and those that only hold files.
func Memory() (total, free uint64, err error) {
	total, err = unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the memory (sysctl hw.memsize): %w", err)
	}
	page := uint64(unix.Getpagesize())
	for _, name := range []string{"vm.page_free_count", "vm.page_pageable_external_count"} {
		n, err := unix.SysctlUint32(name)
		if err != nil {
			return 0, 0, fmt.Errorf("ask for the memory (sysctl %s): %w", name, err)
		}
		free += uint64(n) * page
	}
	return total, min(free, total), nil
}

// MemoryShort reports whether macOS calls the pressure on memory critical, which
// is when it ends programs (DISPATCH_MEMORYPRESSURE_CRITICAL, dispatch/source.h).
func MemoryShort() (short bool, free uint64, err error) {
	const critical = 4
	level, err := unix.SysctlUint32("kern.memorystatus_vm_pressure_level")
	if err != nil {
		return false, 0, fmt.Errorf("ask for the pressure on memory: %w", err)
	}
	_, free, err = Memory()
	return level == critical, free, err
}

func diskFree(path string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, err
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

// System describes the operating system.
func System() OS {
	o := OS{ID: "macos"}
	o.Version, _ = unix.Sysctl("kern.osproductversion")
	o.Kernel, _ = unix.Sysctl("kern.osrelease")
	o.Name = "macOS " + o.Version
	return o
}

// conflicts: on macOS every hypervisor shares the system's own.
func conflicts() []string { return nil }

// conflict is never called: there are none.
func conflict(string) (detail, cure string) { return "", "" }

// pendingReboot: macOS restarts within its updates.
func pendingReboot() string { return "" }

// ServiceManager names what starts services, and says whether it runs: every Mac has launchd.
func ServiceManager() (name string, ok bool) { return "launchd", true }

// checkLibraries: OpenGL is part of macOS.
func checkLibraries() Check {
	return Check{ID: "opengl", Title: "OpenGL", State: OK, Detail: "macOS brings it"}
}

// display: a Mac has one wherever somebody has logged in.
func display() (string, bool) { return "the Mac's own", true }
