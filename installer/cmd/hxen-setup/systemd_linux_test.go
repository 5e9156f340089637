package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// systemdStep is a hang guard: guests run in an emulated processor inside another.
const systemdStep = 10 * time.Minute

// listing tells of every file that is not a user's or the running system's.
const listing = `find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /dev -o -path /payload -o -path /root -o -path /home ` +
	`-o -path /var/log -o -path /var/cache -o -path /var/tmp -o -path /var/lib/systemd -o -path /var/lib/dpkg -o -path '/etc/*-' \) -prune -o -printf '%p %y %m %s\n' | grep -v ' d ' | sort >`

// TestSystemd installs HXEN silently on a Debian with systemd that has no OpenGL,
// from the single file and from the package: the service starts a guest when the
// computer starts, an upgrade leaves the guest running, and when HXEN is removed,
// nothing but the guest is left.
func TestSystemd(t *testing.T) {
	long(t)
	const store = "HXEN_HOME=/home/ann/.local/share/hxen"
	d := hvtest.NewDebian(t, "qemu-system-x86", "qemu-utils", "seabios", "polkitd")
	for _, c := range []struct {
		name                       string
		old, new                   string // files to install from
		install, upgrade, removing string // commands of root, whom ann has become by sudo
		prefix                     string
	}{
		// The store that the setup takes for its user's is the one that the service serves.
		{"single file", older(t), newer(t), store + " /payload/old --system --yes --components command", store + " /payload/new --system --yes --components command",
			"hxen-setup --uninstall --yes", "/usr/local"},
		{"deb", one(t, build(t, "v1.0.0", 1700000000, "deb"), ".deb"), one(t, build(t, "v1.1.0", 1710000000, "deb"), ".deb"),
			"dpkg -i /payload/old", "dpkg -i /payload/new", "dpkg -P hxen", "/usr"},
	} {
		t.Run(c.name, func(t *testing.T) {
			payload := t.TempDir()
			for from, to := range map[string]string{c.old: "old", c.new: "new"} {
				if out, err := exec.Command("cp", from, filepath.Join(payload, to)).CombinedOutput(); err != nil {
					t.Fatalf("%s", out)
				}
			}
			if err := os.Chmod(filepath.Join(payload, "old"), 0o755); err != nil {
				t.Fatal(err)
			}
			hvtest.GuestDisk(t, payload)
			pc := d.NewComputer(t, payload, systemdStep)
			pc.Why = "journalctl -u hxen -o short-monotonic | tail -n 100"
			asAnn := func(command string) string { return pc.Run("su - ann -c '" + command + "'") }
			sudo := func(command string) string {
				return pc.Run("SUDO_USER=ann SUDO_UID=$(id -u ann) SUDO_GID=$(id -g ann) " + command)
			}
			const guests = store + " hxen autostart"
			running := func(out string) bool { return strings.Contains(out, "Running") }

			pc.On()
			if out := pc.Run("ldconfig -p"); strings.Contains(out, "libGL.so") {
				t.Fatal("the computer has OpenGL")
			}
			pc.Run(listing + " /root/before")
			sudo(c.install)
			if v := asAnn("hxen version"); !strings.Contains(v, "v1.0.0") {
				t.Errorf("hxen version: %s", v)
			}
			if out := pc.Run("systemctl show -p ActiveState,UnitFileState,User,ExecStart hxen"); !strings.Contains(out, "ActiveState=active") ||
				!strings.Contains(out, "User=ann") || !strings.Contains(out, "UnitFileState=enabled") || !strings.Contains(out, "path="+c.prefix) {
				t.Errorf("systemd says %q", out)
			}
			pc.Run("install -o ann /payload/guest.img /home/ann/guest.img")
			asAnn("hxen new web --disk guest.img --copy --memory 32M --no-network")
			asAnn("hxen autostart web on")
			pc.Off("systemctl reboot")

			pc.On()
			pc.Until("the guest runs with nobody logged in", guests, running)
			before := pc.Run("pgrep -x hxen-worker")
			sudo(c.upgrade)
			if v := asAnn("hxen version"); !strings.Contains(v, "v1.1.0") {
				t.Errorf("hxen version after the upgrade: %s", v)
			}
			if out := pc.Run("systemctl is-active hxen"); strings.TrimSpace(out) != "active" {
				t.Errorf("after the upgrade the service is %s", out)
			}
			pc.Until("the guest runs on", guests, running)
			if after := pc.Run("pgrep -x hxen-worker"); after != before {
				t.Errorf("the upgrade ended the guest's worker: %s, now %s", before, after)
			}
			asAnn("hxen destroy web")
			sudo(c.removing)
			pc.Run(listing + " /root/after")
			if out, _ := pc.Try("diff /root/before /root/after"); out != "" {
				t.Errorf("left or changed:\n%s", out)
			}
			if out, code := pc.Try("systemctl cat hxen || pgrep -x hxen"); code == 0 {
				t.Errorf("the service is still there: %s", out)
			}
			pc.Run("ls /home/ann/.local/share/hxen/guests/*/spec.json")
			pc.Off("systemctl poweroff")
		})
	}
}
