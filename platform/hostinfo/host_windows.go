package hostinfo

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// hideWindow keeps a console window from flashing up.
func hideWindow(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW}
}

// Processor describes the processor.
func Processor() CPU {
	c := CPU{Count: runtime.NumCPU()}
	c.Model = machineString(`HARDWARE\DESCRIPTION\System\CentralProcessor\0`, "ProcessorNameString")
	vendor := machineString(`HARDWARE\DESCRIPTION\System\CentralProcessor\0`, "VendorIdentifier")
	if firmwareVirtualization() {
		c.Virtual = "vmx"
		if vendor == "AuthenticAMD" {
			c.Virtual = "svm"
		}
	}
	return c
}

func machineString(path, value string) string {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.QUERY_VALUE)
	if err != nil {
		return ""
	}
	defer k.Close()
	s, _, err := k.GetStringValue(value)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(s)
}

func diskFree(path string) (free, total uint64, err error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, 0, err
	}
	err = windows.GetDiskFreeSpaceEx(p, &free, &total, nil)
	return free, total, err
}

// System describes the operating system. The registry's ProductName says
// "Windows 10" on Windows 11 too; the build number tells (22000 and later).
func System() OS {
	v := windows.RtlGetVersion()
	name := fmt.Sprint(v.MajorVersion)
	if v.MajorVersion == 10 && v.BuildNumber >= 22000 {
		name = "11"
	}
	o := OS{ID: "windows", Kernel: fmt.Sprintf("%d.%d.%d", v.MajorVersion, v.MinorVersion, v.BuildNumber)}
	o.Version = strings.Join(strings.Fields(fmt.Sprintf("%s %s (%d)", name,
		machineString(`SOFTWARE\Microsoft\Windows NT\CurrentVersion`, "DisplayVersion"), v.BuildNumber)), " ")
	o.Name = "Windows " + o.Version
	return o
}

// conflicts: on Windows every hypervisor shares the system's own.
func conflicts() []string { return nil }

// checkLibraries: Windows always has opengl32.dll; whether the driver behind it
// is good enough only the window itself finds out.
func checkLibraries() Check {
	return Check{ID: "opengl", Title: "OpenGL", State: OK, Detail: "Windows brings it"}
}

// display: Windows has one wherever somebody has logged in.
func display() (string, bool) { return "the Windows desktop", true }
