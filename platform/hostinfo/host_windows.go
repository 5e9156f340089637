package hostinfo

import (
	"fmt"
	"os/exec"
	"runtime"
	"slices"
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

// conflicting are drivers of other hypervisors, by their services' names.
var conflicting = map[string]string{"VBoxSup": "VirtualBox", "VBoxDrv": "VirtualBox", "vmx86": "VMware"}

// conflicts names other hypervisors that are installed. All share Windows' own
// where that runs, and then are slower than alone.
func conflicts() (names []string) {
	for service, name := range conflicting {
		k, err := registry.OpenKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Services\`+service, registry.QUERY_VALUE)
		if err != nil {
			continue
		}
		k.Close()
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// conflict says what others that are installed mean, and what to do.
func conflict(who string) (detail, cure string) {
	return who + " is installed; beside the Windows Hypervisor Platform its guests run through Windows' hypervisor too, and slower",
		"Use a version of " + who + " that knows Windows' hypervisor, and expect its guests to be slower."
}

// rebootKeys are what Windows' servicing and its updates leave until a restart.
var rebootKeys = []string{
	`SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending`,
	`SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired`,
}

// pendingReboot says why the computer should be restarted; empty if nothing says so.
func pendingReboot() string {
	for _, path := range rebootKeys {
		if k, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.QUERY_VALUE); err == nil {
			k.Close()
			return "Windows waits for a restart to finish an update or a feature"
		}
	}
	return ""
}

// ServiceManager names what starts services, and says whether it runs: every Windows has one.
func ServiceManager() (name string, ok bool) { return "Windows' service manager", true }

// checkLibraries: Windows always has opengl32.dll; whether the driver behind it
// is good enough only the window itself finds out.
func checkLibraries() Check {
	return Check{ID: "opengl", Title: "OpenGL", State: OK, Detail: "Windows brings it"}
}

// display: Windows has one wherever somebody has logged in.
func display() (string, bool) { return "the Windows desktop", true }
