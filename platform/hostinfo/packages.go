package hostinfo

import (
	"os"
	"runtime"
	"slices"
	"strings"
)

// Part is something that HXEN needs from the distribution.
type Part string

const (
	PartQEMU     Part = "qemu"     // qemu-system-x86_64
	PartImg      Part = "qemu-img" // makes and converts disks
	PartFirmware Part = "firmware" // UEFI for guests
	PartOpenGL   Part = "opengl"   // libGL and libwayland-client, for the window
	PartTPM      Part = "tpm"      // swtpm, a TPM for guests
	PartExample  Part = "example"  // what the example guest is made from
)

// manager is a package manager: its command and its names for the parts.
type manager struct {
	install string
	root    bool // needs sudo
	names   map[Part]string
}

// managers by the os-release ID that a distribution has or descends from.
var managers = map[string]manager{
	"debian": {"apt-get install", true, map[Part]string{
		PartQEMU: "qemu-system-x86", PartImg: "qemu-utils", PartFirmware: "ovmf", PartTPM: "swtpm", PartOpenGL: "libgl1 libwayland-client0", PartExample: "busybox-static xz-utils zstd"}},
	"fedora": {"dnf install", true, map[Part]string{
		PartQEMU: "qemu-system-x86", PartImg: "qemu-img", PartFirmware: "edk2-ovmf", PartTPM: "swtpm", PartOpenGL: "libglvnd-glx libwayland-client"}},
	"rhel": {"dnf install", true, map[Part]string{
		PartQEMU: "qemu-kvm", PartImg: "qemu-img", PartFirmware: "edk2-ovmf", PartTPM: "swtpm", PartOpenGL: "libglvnd-glx libwayland-client"}},
	"arch": {"pacman -S", true, map[Part]string{
		PartQEMU: "qemu-system-x86", PartImg: "qemu-img", PartFirmware: "edk2-ovmf", PartTPM: "swtpm", PartOpenGL: "libglvnd wayland"}},
	"suse": {"zypper install", true, map[Part]string{
		PartQEMU: "qemu-x86", PartImg: "qemu-tools", PartFirmware: "qemu-ovmf-x86_64", PartTPM: "swtpm", PartOpenGL: "libglvnd libwayland-client0"}},
	"alpine": {"apk add", true, map[Part]string{
		PartQEMU: "qemu-system-x86_64", PartImg: "qemu-img", PartFirmware: "ovmf", PartTPM: "swtpm", PartOpenGL: "mesa-gl wayland-libs-client"}},
	"macos": {"brew install", false, map[Part]string{
		PartQEMU: "qemu", PartImg: "qemu", PartFirmware: "qemu"}},
	"windows": {"winget install", false, map[Part]string{
		PartQEMU:     "SoftwareFreedomConservancy.QEMU",
		PartImg:      "SoftwareFreedomConservancy.QEMU",
		PartFirmware: "SoftwareFreedomConservancy.QEMU"}},
}

// InstallCommand is what installs the missing parts on this system: a command
// where the package manager is known, else a sentence.
func InstallCommand(missing ...Part) string {
	return installCommand(System(), os.Geteuid() == 0, missing)
}

func installCommand(o OS, root bool, missing []Part) string {
	m, _ := managerOf(o)
	_, names, ok := packages(o, missing)
	if !ok || len(names) == 0 {
		what := make([]string, len(missing))
		for i, p := range missing {
			what[i] = string(p)
		}
		return "Install " + strings.Join(what, ", ") + " with your system's package manager."
	}
	command := m.install + " " + strings.Join(names, " ")
	if m.root && !root {
		command = "sudo " + command
	}
	return command
}

// Packages names this system's package manager ("apt-get", "dnf", ...) and its
// packages for the parts. ok is false where the manager is not known.
func Packages(parts ...Part) (manager string, names []string, ok bool) {
	return packages(System(), parts)
}

func packages(o OS, parts []Part) (string, []string, bool) {
	m, ok := managerOf(o)
	if !ok {
		return "", nil, false
	}
	var names []string
	for _, p := range parts {
		for n := range strings.FieldsSeq(m.names[p]) {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	manager, _, _ := strings.Cut(m.install, " ")
	return manager, names, true
}

// managerOf finds the package manager of a system, or of the first it descends from.
func managerOf(o OS) (manager, bool) {
	id := o.ID
	switch id {
	case "centos", "rocky", "almalinux", "ol":
		id = "rhel" // they say "rhel centos fedora"; Fedora's names differ
	}
	for _, id := range append([]string{id}, o.Like...) {
		if strings.HasPrefix(id, "opensuse") || id == "sles" {
			id = "suse"
		}
		if id == "ubuntu" {
			id = "debian"
		}
		if m, ok := managers[id]; ok {
			return m, true
		}
	}
	return manager{}, false
}

// exe is the program's file name on this system.
func exe(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}
