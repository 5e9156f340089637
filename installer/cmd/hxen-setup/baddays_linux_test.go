package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const silentSetup = "./hxen-setup --system --yes --components command "

// same fails the test if the computer is not as it was.
func (m *machine) same(t *testing.T, what string, before map[string]string) {
	t.Helper()
	if d := differences(before, m.files(), never); len(d) > 0 {
		t.Errorf("%s changed the computer:\n%s", what, strings.Join(d, "\n"))
	}
}

// TestBadDays goes through what may go wrong on a real computer, with the real
// program: each has its sentence and its code, and leaves everything as it was.
func TestBadDays(t *testing.T) {
	m := newMachine(t, plainPackages)
	m.put(older(t), "hxen-setup")
	m.put(newer(t), "hxen-setup-new")
	m.env = append(m.env, "DISPLAY=")
	m.run("ann", "echo a guest > precious")
	before := m.files()
	for _, c := range []struct {
		what       string
		make, undo string // as root
		line       string // as ann
		code       int
		says       string
	}{
		{"no space", "mount -t tmpfs -o size=8M tmpfs /usr/local", "umount /usr/local", silentSetup, exitFailed, "not enough room"},
		{"the disk fills up", "mount -t tmpfs -o nr_inodes=20 tmpfs /usr/local", "umount /usr/local", silentSetup, exitFailed, "free some space"},
		{"a target that cannot be written", "mount --bind /usr/local /usr/local; mount -o remount,bind,ro /usr/local", "umount /usr/local", silentSetup, exitFailed, "choose another place"},
		{"a journal that cannot be written", "mount --bind /var/lib /var/lib; mount -o remount,bind,ro /var/lib", "umount /var/lib", silentSetup, exitFailed, "cannot keep its journal"},
		{"no network for packages", "", "", "sudo -n unshare -n su ann -c './hxen-setup --system --yes --components command,qemu'", exitFailed, "connect to the network and try again"},
		{"the password dialog is closed", `printf '#!/bin/sh\nexit 126\n' >/usr/bin/pkexec; chmod 755 /usr/bin/pkexec`, "rm /usr/bin/pkexec", silentSetup, exitRights, "password was not given, so nothing was changed"},
		{"nobody may ask for a password", "mv /etc/sudoers.d/ann /tmp/ann-sudo", "mv /tmp/ann-sudo /etc/sudoers.d/ann", silentSetup, exitRights, "start the setup in a terminal with --text, or as root"},
		{"neither sudo nor pkexec", "chmod 0 /usr/bin/sudo; mv /usr/bin/sudo /usr/bin/sudo-away", "mv /usr/bin/sudo-away /usr/bin/sudo; chmod 4755 /usr/bin/sudo", silentSetup, exitRights, "run the setup as root"},
		{"a foreign file in the way", "mkdir -p /usr/local/lib/hxen; echo mine >/usr/local/lib/hxen/hxen", "rm -r /usr/local/lib/hxen", silentSetup, exitFailed, "is there already and is not from this setup"},
		{"a link in the way", "ln -s /etc /usr/local/lib/hxen", "rm /usr/local/lib/hxen", silentSetup, exitFailed, "is a link, and the setup does not write through links"},
		{"a link for a file", "ln -s /etc/passwd /usr/local/bin/hxen", "rm /usr/local/bin/hxen", silentSetup, exitFailed, "is there already"},
		{"a place outside", "", "", silentSetup + "--prefix /etc/hxen", exitUsage, "outside of the folders"},
		{"a tampered plan", "", "", `./hxen-setup --system --components command --print-plan >plan.json; sed -i 's,/usr/local,/etc,' plan.json; ./hxen-setup --from-plan plan.json; c=$?; rm plan.json; exit $c`, exitUsage, "not one of this setup program"},
		{"a plan for the helper with another step", "", "", `{ ./hxen-setup --system --components command --print-plan | tr -d '\n' | sed 's,"files","kvm",'; echo; } | sudo -n ./hxen-setup --elevated`, exitFailed, "not one of this setup program"},
		{"a plan for the helper with a strange package", "", "", `{ ./hxen-setup --system --components command --print-plan | tr -d '\n' | sed 's,"packages": [a-z[]*\]*,"packages": ["rootkit"],'; echo; } | sudo -n ./hxen-setup --elevated`, exitFailed, "not one of this setup program"},
		{"a plan for another user", "", "", `{ ./hxen-setup --system --components command --print-plan | tr -d '\n' | sed 's,"ann","root",'; echo; } | sudo -n ./hxen-setup --elevated`, exitFailed, "not one of this setup program"},
		{"a tampered payload", "", "", `cp hxen-setup bad; printf XXXX | dd of=bad bs=1 seek=$(($(stat -c %s bad) - 4000000)) conv=notrunc 2>/dev/null; ./bad --system --yes --components command,window; c=$?; rm bad; exit $c`, exitFailed, "download it again"},
		{"a download that was cut short", "", "", `head -c 20000000 hxen-setup >bad; chmod +x bad; ./bad --system --yes; c=$?; rm bad; exit $c`, exitFailed, "download it again"},
		{"nothing to remove", "", "", "./hxen-setup --uninstall --yes", exitUsage, "nothing to remove"},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := *m
			m.t = t
			if c.make != "" {
				m.run("root", c.make)
			}
			made := m.files()
			start := time.Now()
			out, code := m.try("ann", c.line)
			if code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("code %d, want %d with %q; it said:\n%s", code, c.code, c.says, out)
			}
			t.Logf("%v: %s", time.Since(start).Round(time.Millisecond), lastLine(out))
			m.same(t, c.what, made)
			if c.undo != "" {
				m.run("root", c.undo)
			}
		})
	}
	m.same(t, "all that", before)

	t.Run("QEMU is too old", func(t *testing.T) {
		m := *m
		m.t = t
		fake := "#!/bin/sh\ncase $* in\n--version) echo 'QEMU emulator version 5.2.0';;\n-accel*) printf 'Accelerators supported:\\ntcg\\n';;\n" +
			"-machine*) echo 'q35 Standard PC (alias of pc-q35-5.2)';;\nesac\n"
		if err := os.WriteFile(filepath.Join(m.root, "usr/local/bin/qemu-system-x86_64"), []byte(fake), 0o755); err != nil {
			t.Fatal(err)
		}
		out, _ := m.try("ann", "yes n | ./hxen-setup --text --system")
		if !strings.Contains(out, "5.2.0") || !strings.Contains(out, "older than HXEN is made for (7.2)") {
			t.Errorf("it said:\n%s", out)
		}
		m.run("root", "rm /usr/local/bin/qemu-system-x86_64")
		m.same(t, "an old QEMU", before)
	})

	t.Run("an older version", func(t *testing.T) {
		m := *m
		m.t = t
		m.run("ann", strings.Replace(silentSetup, "hxen-setup", "hxen-setup-new", 1))
		standing := m.files()
		out, code := m.try("ann", silentSetup)
		if code != exitRefused || !strings.Contains(out, "HXEN v1.1.0 is installed, which is newer than the v1.0.0") {
			t.Errorf("code %d:\n%s", code, out)
		}
		m.same(t, "an older version", standing)
		// A helper that is given a plan of the older one refuses it too.
		m.run("ann", "./hxen-setup --system --components command --print-plan >plan.json || true; ! sudo -n ./hxen-setup --elevated <plan.json && rm plan.json")
		m.same(t, "an older version's helper", standing)
		m.run("ann", "hxen-setup --uninstall --yes")
		m.same(t, "removing", before)
	})
}

func lastLine(out string) string {
	out = strings.TrimSpace(out)
	return out[strings.LastIndexByte(out, '\n')+1:]
}

// TestSilentAndText installs without a window on a computer that has no OpenGL:
// silently for everybody, then by questions for one user. Both leave nothing.
func TestSilentAndText(t *testing.T) {
	m := newMachine(t, plainPackages)
	m.put(older(t), "hxen-setup")
	before := m.files()
	if out, code := m.try("root", "ldconfig -p | grep -c libGL.so.1"); code == 0 {
		t.Fatalf("this computer has OpenGL: %s", out)
	}
	start := time.Now()
	out := m.run("ann", "./hxen-setup --system --yes --components command,window --no-service --json")
	t.Logf("installing our own files took %v", time.Since(start).Round(time.Millisecond))
	if !strings.Contains(out, `"ok":true`) {
		t.Errorf("it said:\n%s", out)
	}
	if v := m.run("ann", "hxen version"); !strings.Contains(v, "v1.0.0") {
		t.Errorf("hxen version: %s", v)
	}
	if v := m.run("ann", "hxen-setup --version"); !strings.Contains(v, "v1.0.0") {
		t.Errorf("hxen-setup --version: %s", v)
	}
	m.run("ann", "hxen list; hxen new kept --disk-size 10M --memory 64M --no-network || true")
	m.run("ann", "hxen-setup --uninstall --yes")
	if d := differences(before, m.files(), userData); len(d) > 0 {
		t.Errorf("left:\n%s", strings.Join(d, "\n"))
	}

	// With a display that shows nothing for want of OpenGL it goes on as text.
	m.run("root", "rm -rf /home/ann/.local")
	m.env = append(m.env, "DISPLAY=:77")
	out = m.run("ann", `printf 'n\n\ny\nn\nn\ny\n' | ./hxen-setup`)
	t.Logf("the questions:\n%s", out)
	if !strings.Contains(out, "HXEN v1.0.0 is installed.") {
		t.Error("it was not installed")
	}
	if v := m.run("ann", ".local/bin/hxen version"); !strings.Contains(v, "v1.0.0") {
		t.Errorf("hxen version: %s", v)
	}
	m.run("ann", ".local/bin/hxen-setup --uninstall --yes")
	if d := differences(before, m.files(), never); len(d) > 0 {
		t.Errorf("left:\n%s", strings.Join(d, "\n"))
	}
}

// TestKilledForReal kills the real program with a signal at its n-th change to
// the disk, for every n, as it installs, upgrades and removes; strace(1) does the
// killing. The next run ends well.
func TestKilledForReal(t *testing.T) {
	m := newMachine(t, plainPackages)
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	m.put(older(t), "hxen-setup")
	m.put(newer(t), "hxen-setup-new")
	before := m.files()
	const all = " --system --yes --components command --no-service"
	m.run("root", "./../home/ann/hxen-setup"+all)
	one := m.files()
	m.run("root", "/home/ann/hxen-setup-new"+all)
	two := m.files()
	m.run("root", "hxen-setup --uninstall --yes")
	m.same(t, "removing", before)
	for _, c := range []struct{ what, first, killed, next string }{
		{"installing, then again", "true", "/home/ann/hxen-setup" + all, "/home/ann/hxen-setup" + all},
		{"upgrading, then again", "/home/ann/hxen-setup" + all, "/home/ann/hxen-setup-new" + all, "/home/ann/hxen-setup-new" + all},
		{"upgrading, then removing", "/home/ann/hxen-setup" + all, "/home/ann/hxen-setup-new" + all, "/home/ann/hxen-setup-new --uninstall --yes"},
		{"removing, then again", "/home/ann/hxen-setup" + all, "/home/ann/hxen-setup --uninstall --yes", "/home/ann/hxen-setup --uninstall --yes"},
	} {
		kills := 0
		for n := 1; ; n += stride() {
			m.run("root", c.first)
			if !m.killAt(n, c.killed) {
				m.try("root", "/home/ann/hxen-setup-new --uninstall --yes")
				break
			}
			kills++
			out, code := m.try("root", c.next)
			if code != 0 && !strings.Contains(out, "nothing to remove") {
				t.Fatalf("%s, killed at %d: code %d\n%s", c.what, n, code, out)
			}
			want := map[string]map[string]string{"upgrading, then again": two, "installing, then again": one}[c.what]
			if want == nil {
				want = before
			}
			if d := differences(want, m.files(), journals); len(d) > 0 {
				t.Fatalf("%s, killed at %d:\n%s", c.what, n, strings.Join(d, "\n"))
			}
			m.try("root", "/home/ann/hxen-setup-new --uninstall --yes")
			m.run("root", "rm -rf /var/lib/hxen-setup") // killed before its first line
		}
		t.Logf("%s: %d kills", c.what, kills)
		if kills < 5 {
			t.Errorf("%s: only %d kills", c.what, kills)
		}
	}
}

// stride is how many places are passed over between two kills.
func stride() int {
	if os.Getenv("HXEN_LONG") != "" {
		return 1
	}
	return 13
}

func journals(name string) bool { return strings.HasPrefix(name, "var/lib/hxen-setup") }

// killAt runs a command of root's and kills it at its n-th change to the disk;
// false if it had fewer.
func (m *machine) killAt(n int, line string) bool {
	m.t.Helper()
	calls := "mkdirat,renameat,renameat2,unlinkat,linkat,symlinkat,fsync,fchmod,fchmodat"
	inside := m.command("root", "exec "+line)
	cmd := exec.Command("strace", append([]string{"-f", "-qq", "-o", "/dev/null", "-e", "trace=" + calls, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", calls, n)}, inside.Args...)...)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if code := cmd.ProcessState.ExitCode(); code != 137 && code != -1 {
		m.t.Fatalf("strace: %v\n%s", err, out)
	}
	return true
}
