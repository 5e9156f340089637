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

// bootVar asks for the test that boots a whole computer several times.
const bootVar = "HXEN_BOOT"

// bootStep is a hang guard: guests run in an emulated processor inside another.
const bootStep = 10 * time.Minute

// TestBoot installs HXEN by its own means on a real systemd, restarts the
// computer, and has nobody log in: guests start in their order, and stop with the
// computer by their policies. One is saved and goes on with the next boot.
func TestBoot(t *testing.T) {
	if os.Getenv(bootVar) == "" {
		t.Skip("make test-boot runs it: it takes minutes")
	}
	d := hvtest.NewDebian(t, "qemu-system-x86", "qemu-utils", "seabios", "polkitd")
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	payload := t.TempDir()
	for _, p := range []string{"hxen", "hxen-worker", "hxen-netd"} {
		if out, err := exec.Command("cp", filepath.Join(bin, p), payload).CombinedOutput(); err != nil {
			t.Fatalf("%s", out)
		}
	}
	hvtest.GuestDisk(t, payload)
	c := d.NewComputer(t, payload, bootStep)
	c.Why = "journalctl -u hxen -o short-monotonic | tail -n 150; tail -n 40 /home/ann/.local/share/hxen/guests/*/worker.log"
	c.On()
	c.Run("mkdir -p /var/log/journal; systemctl restart systemd-journald; install -m 755 /payload/hxen* /usr/local/bin/")
	c.Run("cp /payload/guest.img /home/ann/ && chown ann: /home/ann/guest.img")
	if out := c.Run("SUDO_USER=ann hxen service install"); !strings.Contains(out, "/home/ann/.local/share/hxen") {
		t.Errorf("install says %q", out)
	}
	c.Run("SUDO_USER=ann hxen service install && hxen service status") // it can be said again
	if out := c.Run("systemctl show -p ActiveState,User,Type hxen"); !strings.Contains(out, "ActiveState=active") || !strings.Contains(out, "User=ann") {
		t.Errorf("systemd says %q", out)
	}
	ann := func(command string) string { return c.Run("su - ann -c '" + command + "'") }
	for _, name := range []string{"first", "second"} {
		ann("hxen new " + name + " --disk guest.img --copy --memory 32M --no-network")
	}
	ann("hxen autostart first on --order 1 --delay 10s")
	ann("hxen autostart second on --order 2 --on-host-stop save --wait-for network")
	c.Off("systemctl reboot")

	c.On()
	const home = "HXEN_HOME=/home/ann/.local/share/hxen "
	running := func(out string) bool { return strings.Count(out, "Running") == 2 }
	list := c.Until("both running", home+"hxen autostart", running)
	t.Logf("after the boot:\n%s", list)
	if !strings.Contains(list, "first") || strings.Index(list, "first") > strings.Index(list, "second") {
		t.Errorf("the start order is\n%s", list)
	}
	if who := c.Run("loginctl list-sessions --no-legend | grep -v root || true"); strings.Contains(who, "ann") {
		t.Errorf("somebody is logged in: %s", who)
	}
	times := strings.Fields(c.Run("journalctl -b -u hxen -o short-unix | grep 'started a guest with the host' | cut -d. -f1"))
	if len(times) != 2 || seconds(times[1])-seconds(times[0]) < 10 {
		t.Errorf("they were started at %q, 10 seconds apart is wanted", times)
	}
	// The service is replaced under its guests.
	before := c.Run("pgrep -x hxen-worker | sort")
	c.Run("systemctl restart hxen")
	if list := c.Until("both running", home+"hxen autostart", running); before != c.Run("pgrep -x hxen-worker | sort") {
		t.Errorf("a restart of the service ended guests:\n%s", list)
	}
	const ready = "grep -c READY /home/ann/.local/share/hxen/guests/*/worker/console.log | sort"
	booted := c.Until("guests said READY", ready, func(out string) bool { return strings.Count(out, ":0") == 0 && strings.Count(out, ":") == 2 })
	c.Off("systemctl poweroff")

	c.On()
	c.Until("both running", home+"hxen autostart", running)
	log := c.Run("journalctl -b -1 -u hxen --no-pager -o cat")
	for _, want := range []string{"a guest has shut down with the host", "saved a guest with the host", "all guests have been stopped"} {
		if !strings.Contains(log, want) {
			t.Errorf("the service did not say %q when the computer stopped; it said:\n%s", want, log)
		}
	}
	// One booted once more, the other went on.
	again := c.Until("one guest booted", ready, func(out string) bool { return out != booted })
	t.Logf("READY was said (file:times)\nbefore: %s\nafter:  %s", booted, again)
	if was, is := strings.Fields(booted), strings.Fields(again); len(was) != 2 || len(is) != 2 || (was[0] == is[0]) == (was[1] == is[1]) {
		t.Errorf("before: %s\nafter: %s\none of the two, which was saved, must not have booted", booted, again)
	}
	c.Run(home + "hxen list")
	c.Off("systemctl poweroff")
}

func seconds(s string) (n int) {
	for _, r := range s {
		n = n*10 + int(r-'0')
	}
	return n
}
