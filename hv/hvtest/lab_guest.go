package hvtest

import (
	_ "embed"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// guestInit is the first process of a guest whose console is hvc0.
//
//go:embed testdata/guest-init
var guestInit []byte

// GuestDHCP is what udhcpc runs.
const GuestDHCP = `#!/bin/busybox sh
case $1 in
deconfig) ifconfig $interface up ;;
bound) ifconfig $interface $ip netmask $subnet && route add default gw $router ;;
esac
`

// GuestReady is what guestInit says when it takes commands. It reads them line
// by line and answers each with what it printed, GuestDone and its status.
const (
	GuestReady = "@@ ready\r\n"
	GuestDone  = "@@ done "
)

// PutModules copies modules of a kernel's package into the folder modules of an initial
// ramdisk, with their order in a file beside them, a line each.
func PutModules(t testing.TB, pkg, stage string, modules ...string) {
	t.Helper()
	for _, m := range modules {
		PutModule(t, KernelPackage(t, pkg), m, filepath.Join(stage, "modules"))
	}
	if err := os.WriteFile(filepath.Join(stage, "modules", "order"), []byte(strings.Join(modules, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// GuestInitrd makes the initial ramdisk of a guest with a shell on hvc0, BusyBox
// and modules of the kernel's package, which are loaded in their order, and
// returns its path.
func GuestInitrd(t testing.TB, pkg string, modules ...string) string {
	t.Helper()
	stage := t.TempDir()
	Mkdirs(t, stage, "dev", "proc", "sys", "tmp", "modules", "sbin")
	PutBusybox(t, stage)
	PutModules(t, pkg, stage, modules...)
	files := map[string]string{
		"init":        string(guestInit),
		"sbin/udhcpc": GuestDHCP,
		// What the kernel runs when Xen asks for it.
		"sbin/poweroff": "#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n",
		"sbin/reboot":   "#!/bin/busybox sh\nexec /bin/busybox reboot -f\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(stage, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return PackInitrd(t, stage)
}
