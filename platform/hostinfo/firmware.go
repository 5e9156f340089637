package hostinfo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Firmware is UEFI firmware for guests: a pair of flash images.
type Firmware struct {
	Code   string // read-only, shared by all guests
	Vars   string // template: each guest gets a copy
	Source string // what named it: a descriptor's file, or "known place"
}

// pairs are where systems keep UEFI firmware without Secure Boot, the 4 MiB
// kind, which has room for more variables, before the 2 MiB kind.
var pairs = []struct{ dir, code, vars string }{
	{"/usr/share/OVMF", "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"},                             // Debian, Ubuntu
	{"/usr/share/edk2/x64", "OVMF_CODE.4m.fd", "OVMF_VARS.4m.fd"},                         // Arch
	{"/usr/share/qemu", "ovmf-x86_64-4m-code.bin", "ovmf-x86_64-4m-vars.bin"},             // openSUSE
	{"/usr/share/edk2/ovmf", "OVMF_CODE.fd", "OVMF_VARS.fd"},                              // Fedora
	{"/usr/share/OVMF", "OVMF_CODE.fd", "OVMF_VARS.fd"},                                   // Debian and Ubuntu before 4M, Alpine
	{"/usr/share/edk2-ovmf/x64", "OVMF_CODE.fd", "OVMF_VARS.fd"},                          // Arch before 2024
	{"/usr/share/edk2/OvmfX64", "OVMF_CODE.fd", "OVMF_VARS.fd"},                           // Gentoo
	{"/usr/share/edk2-ovmf", "OVMF_CODE.fd", "OVMF_VARS.fd"},                              // Gentoo before 2024
	{"/usr/share/qemu", "ovmf-x86_64-code.bin", "ovmf-x86_64-vars.bin"},                   // openSUSE, older
	{"/usr/share/qemu", "edk2-x86_64-code.fd", "edk2-i386-vars.fd"},                       // QEMU's own, most systems
	{"/run/current-system/sw/share/qemu", "edk2-x86_64-code.fd", "edk2-i386-vars.fd"},     // NixOS
	{"/home/linuxbrew/.linuxbrew/share/qemu", "edk2-x86_64-code.fd", "edk2-i386-vars.fd"}, // Homebrew on Linux
}

// FindFirmware finds UEFI firmware: first what the QEMU at path brings where
// that is the system's way (macOS, Windows), then what the distribution
// describes, then the known places. path may be empty.
func FindFirmware(qemu string) (Firmware, bool) {
	if runtime.GOOS != "linux" {
		return besideQEMU(qemu)
	}
	return findFirmware("/", descriptorDirs(), qemu)
}

// findFirmware looks below root, which is "/" but in tests.
func findFirmware(root string, dirs []string, qemu string) (Firmware, bool) {
	if f, ok := described(root, dirs); ok {
		return f, true
	}
	for _, p := range pairs {
		f := Firmware{filepath.Join(root, p.dir, p.code), filepath.Join(root, p.dir, p.vars), "known place"}
		if isFile(f.Code) && isFile(f.Vars) {
			return f, true
		}
	}
	return besideQEMU(qemu)
}

// besideQEMU finds the firmware that QEMU itself installs: in share beside the
// program on Windows, in ../share/qemu elsewhere, also through a package
// manager's link to the program.
func besideQEMU(qemu string) (Firmware, bool) {
	if qemu == "" {
		return Firmware{}, false
	}
	programs := []string{qemu}
	if real, err := filepath.EvalSymlinks(qemu); err == nil && real != qemu {
		programs = append(programs, real)
	}
	for _, p := range programs {
		for _, share := range []string{"share", filepath.Join("..", "share", "qemu")} {
			dir := filepath.Join(filepath.Dir(p), share)
			f := Firmware{filepath.Join(dir, "edk2-x86_64-code.fd"), filepath.Join(dir, "edk2-i386-vars.fd"), "QEMU's own"}
			if isFile(f.Code) && isFile(f.Vars) {
				return f, true
			}
		}
	}
	return Firmware{}, false
}

// descriptorDirs are where firmware descriptors lie, the most important last
// (QEMU, docs/interop/firmware.json).
func descriptorDirs() []string {
	dirs := []string{"/usr/share/qemu/firmware", "/etc/qemu/firmware"}
	if d, err := os.UserConfigDir(); err == nil {
		dirs = append(dirs, filepath.Join(d, "qemu", "firmware"))
	}
	return dirs
}

// described returns the first firmware that a descriptor offers and that is there.
// A file hides those with the same name in folders before; an empty one hides
// without offering anything.
func described(root string, dirs []string) (Firmware, bool) {
	files := map[string]string{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // most systems have only one of them
		}
		for _, e := range entries {
			if path.Ext(e.Name()) == ".json" {
				files[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) { // numbers at the front give the order
		b, err := os.ReadFile(files[name])
		if err != nil || len(b) == 0 {
			continue
		}
		f, err := parseDescriptor(b)
		if err != nil {
			continue // another kind of firmware, or broken: not for us
		}
		f.Code, f.Vars, f.Source = filepath.Join(root, f.Code), filepath.Join(root, f.Vars), files[name]
		if isFile(f.Code) && isFile(f.Vars) {
			return f, true
		}
	}
	return Firmware{}, false
}

// parseDescriptor reads a firmware descriptor and says why it does not fit a
// q35 guest without Secure Boot.
func parseDescriptor(b []byte) (Firmware, error) {
	type image struct{ Filename, Format string }
	var d struct {
		Interfaces []string `json:"interface-types"`
		Mapping    struct {
			Device     string
			Mode       string
			Executable image
			Template   image `json:"nvram-template"`
		}
		Targets []struct {
			Architecture string
			Machines     []string
		}
		Features []string
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return Firmware{}, fmt.Errorf("read firmware descriptor: %w", err)
	}
	m := d.Mapping
	fits := false
	for _, t := range d.Targets {
		fits = fits || t.Architecture == "x86_64" && slices.ContainsFunc(t.Machines, func(pattern string) bool {
			ok, err := path.Match(pattern, "pc-q35-7.2")
			return ok && err == nil
		})
	}
	switch {
	case !slices.Contains(d.Interfaces, "uefi"):
		return Firmware{}, errors.New("it is no UEFI firmware")
	case m.Device != "flash" || m.Mode != "" && m.Mode != "split":
		return Firmware{}, errors.New("it is no pair of code and variables")
	case !fits:
		return Firmware{}, errors.New("it is for other machines")
	case slices.Contains(d.Features, "requires-smm"), slices.Contains(d.Features, "enrolled-keys"):
		return Firmware{}, errors.New("it is for Secure Boot")
	case m.Executable.Format != "raw" || m.Template.Format != "raw":
		return Firmware{}, errors.New("it is not raw")
	}
	for _, f := range []string{m.Executable.Filename, m.Template.Filename} {
		if !strings.HasPrefix(f, "/") || !fs.ValidPath(strings.TrimPrefix(f, "/")) {
			return Firmware{}, fmt.Errorf("it names %q, which is no full path", f)
		}
	}
	return Firmware{Code: m.Executable.Filename, Vars: m.Template.Filename}, nil
}
