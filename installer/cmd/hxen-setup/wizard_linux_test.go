package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// photosVar names a folder for pictures of the screen, for people to look at.
const photosVar = "HXEN_TEST_PHOTOS"

// screen is an X server with a window manager, and hands.
type screen struct {
	t       *testing.T
	display *hvtest.Display
	env     []string
	ended   chan error // of the program that is shown; nil while none is
	said    *bytes.Buffer
}

func newScreen(t *testing.T, size string) *screen {
	t.Helper()
	if err := os.MkdirAll("/tmp/.X11-unix", 0o1777); err != nil {
		t.Fatal(err)
	}
	d := hvtest.NewDisplay(t, size)
	return &screen{t: t, display: d, env: append(d.Env(), "HOME="+t.TempDir())}
}

// show starts a program of ann's on the screen.
func (s *screen) show(m *machine, line string, env ...string) {
	s.t.Helper()
	c := *m
	c.env = append(append(c.env, "DISPLAY="+s.display.Name, "LP_NUM_THREADS=2"), env...)
	cmd := c.command("ann", line)
	s.said = &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = s.said, s.said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.ended = ended
}

// end waits until the program has ended.
func (s *screen) end() error {
	s.t.Helper()
	select {
	case err := <-s.ended:
		s.ended = nil
		return err
	case <-time.After(guard):
		s.t.Fatalf("the program does not end; it said:\n%s", s.said)
		return nil
	}
}

// hands runs xdotool and returns what it printed; empty if it found nothing.
func (s *screen) hands(args ...string) string {
	cmd := exec.Command("xdotool", args...)
	cmd.Env = s.env
	out, _ := cmd.Output()
	return strings.TrimSpace(string(out))
}

// window waits for a window with this name, and has it take the keyboard.
func (s *screen) window(name string) {
	s.t.Helper()
	for hang := time.Now().Add(guard); ; time.Sleep(50 * time.Millisecond) {
		if s.hands("search", "--onlyvisible", "--name", name) != "" {
			s.display.Activate(s.t, name)
			return
		}
		select {
		case err := <-s.ended:
			s.t.Fatalf("the program ended (%v) before there was a window %q; it said:\n%s", err, name, s.said)
		default:
		}
		if time.Now().After(hang) {
			s.photo("hung")
			s.t.Fatalf("there is no window %q but %q; the program said:\n%s", name, s.hands("search", "--onlyvisible", "--name", ".", "getwindowname"), s.said)
		}
	}
}

func (s *screen) keys(keys ...string) { s.hands(append([]string{"key", "--delay", "60"}, keys...)...) }

// close closes the window that has the keyboard as its button does, which ends the
// program. xdotool's windowclose destroys it, which a Windows program is never told.
func (s *screen) close() {
	s.t.Helper()
	s.keys("alt+F4")
	s.end()
}

// photo takes a picture when the screen has come to rest, and keeps it where
// HXEN_TEST_PHOTOS says.
func (s *screen) photo(name string) []byte {
	s.t.Helper()
	var last []byte
	for range 40 {
		cmd := exec.Command("import", "-window", "root", "png:-")
		cmd.Env = s.env
		now, err := cmd.Output()
		if err != nil {
			s.t.Fatalf("import: %v", err)
		}
		if last != nil && len(now) > painted && bytes.Equal(pixels(now), pixels(last)) {
			break
		}
		last = now
		time.Sleep(150 * time.Millisecond)
	}
	if dir := os.Getenv(photosVar); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), last, 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	return last
}

// painted is what a picture of a window that shows something takes at least; one
// of a window that is black yet takes 6,000 bytes.
const painted = 12000

// pixels leaves out what a PNG file says of its time.
func pixels(png []byte) []byte {
	if i := bytes.Index(png, []byte("IDAT")); i >= 0 {
		if j := bytes.Index(png[i:], []byte("tEXt")); j >= 0 {
			return png[i : i+j]
		}
		return png[i:]
	}
	return png
}

// TestWizard goes the whole way as a person does, with the keyboard alone: the
// wizard installs, QEMU too; what it installed works; a newer one upgrades under a
// running guest, the installed one repairs and removes; guests stay.
func TestWizard(t *testing.T) {
	long(t)
	s := newScreen(t, "800x600")
	m := newMachine(t, desktopPackages)
	m.put(older(t), "hxen-setup")
	m.put(newer(t), "hxen-setup-new")
	before := m.files()

	s.show(m, "exec ./hxen-setup", "FYNE_THEME=dark")
	wizard := func(photo string, titles ...string) {
		t.Helper()
		for _, title := range titles {
			s.window("^" + title)
			s.photo(photo + "-" + strings.ToLower(strings.ReplaceAll(title, " ", "-")))
			if title == titles[len(titles)-1] {
				return
			}
			s.keys("Return")
		}
	}
	wizard("install", "Set up HXEN", "This computer", "What and where", "What will be done")
	s.keys("Return")
	s.window("^Installing HXEN")
	s.photo("install-progress")
	wizard("install", "HXEN is installed")
	s.keys("Tab", "Escape")
	if err := s.end(); err != nil {
		t.Fatalf("the wizard: %v\n%s", err, s.said)
	}
	if who := m.run("root", "id ann"); !strings.Contains(who, "(kvm)") {
		t.Errorf("ann may not use KVM: %s", who)
	}
	m.installed(t, "v1.0.0")

	// The window, and a guest.
	m.run("ann", "hxen new web --disk-size 64M --memory 64M --no-network && hxen start web")
	s.show(m, "exec hxen-desktop", "FYNE_THEME=dark")
	s.window("^HXEN$")
	s.photo("window")
	s.close()
	worker := m.run("ann", "pgrep -x hxen-worker")
	if installed := m.files(); len(installed) == 0 {
		t.Fatal("no files")
	}

	// A newer one upgrades, and the guest goes on.
	s.show(m, "exec ./hxen-setup-new", "FYNE_THEME=light")
	wizard("upgrade", "HXEN v1.0.0 is installed", "This computer", "What and where", "What will be done")
	s.keys("Return")
	wizard("upgrade", "HXEN is installed")
	s.keys("Escape")
	if err := s.end(); err != nil {
		t.Fatalf("the wizard: %v\n%s", err, s.said)
	}
	m.installed(t, "v1.1.0")
	if now := m.run("ann", "pgrep -x hxen-worker"); now != worker {
		t.Errorf("the guest's worker was %s and is %s", worker, now)
	}
	if list := m.run("ann", "hxen list"); !strings.Contains(list, "web") {
		t.Errorf("the guest is lost:\n%s", list)
	}
	upgraded := m.files()

	// The older one is refused, with the reason.
	s.show(m, "exec ./hxen-setup", "FYNE_THEME=light")
	wizard("refused", "HXEN v1.1.0 is installed", "This computer", "What and where", "This cannot be done")
	s.keys("Escape")
	s.end()
	if d := differences(upgraded, m.files(), userData); len(d) > 0 {
		t.Errorf("the refused setup changed:\n%s", strings.Join(d, "\n"))
	}

	// The installed one repairs.
	m.run("root", "rm /usr/local/lib/hxen/hxen-netd /usr/local/share/applications/hxen.desktop /usr/local/bin/hxen")
	s.show(m, "exec /usr/local/bin/hxen-setup", "FYNE_THEME=dark")
	wizard("repair", "HXEN v1.1.0 is installed", "This computer", "What and where", "What will be done")
	s.keys("Return")
	wizard("repair", "HXEN is installed")
	s.keys("Escape")
	s.end()
	// The journal tells of a repair, too.
	if d := differences(upgraded, m.files(), func(name string) bool { return userData(name) || journals(name) }); len(d) > 0 {
		t.Errorf("after the repair:\n%s", strings.Join(d, "\n"))
	}

	// And removes; the guest, which runs, goes on and stays.
	s.show(m, "exec hxen-setup --uninstall", "FYNE_THEME=light")
	wizard("remove", "Remove HXEN", "What will be done")
	s.keys("Return")
	wizard("remove", "HXEN was removed")
	s.keys("Escape")
	if err := s.end(); err != nil {
		t.Errorf("the wizard: %v\n%s", err, s.said)
	}
	packaged := m.packaged()
	after := m.files()
	for name := range after {
		if strings.HasPrefix(name, "home/ann/.local/share/hxen/guests/") && strings.HasSuffix(name, "/spec.json") {
			delete(after, name) // looked for below
		}
	}
	may := func(name string) bool { return packaged(name) || userData(name) || systemData(name) }
	if d := differences(before, after, may); len(d) > 0 {
		t.Errorf("removing left:\n%s", strings.Join(d, "\n"))
	}
	if out, code := m.try("root", "ls /home/ann/.local/share/hxen/guests/*/spec.json"); code != 0 {
		t.Errorf("the guest is gone: %s", out)
	}
	if now := m.run("ann", "pgrep -x hxen-worker"); now != worker {
		t.Errorf("the guest's worker was %s and is %s", worker, now)
	}
}

// userData are ann's guests, and what programs keep in her home.
func userData(name string) bool { return strings.HasPrefix(name, "home/ann/.local") }

// systemData are what the distribution's packages make when they are installed.
func systemData(name string) bool {
	for _, p := range []string{"etc/alternatives", "var/lib/", "etc/group", "etc/gshadow", "etc/passwd", "etc/shadow", "etc/subuid", "etc/subgid", "etc/mailcap", "usr/bin", "etc/rc",
		"usr/share/mime", "usr/share/applications/mimeinfo.cache", "usr/share/icons", "usr/share/glib-2.0", "usr/lib/x86_64-linux-gnu/gdk-pixbuf", "etc/ssl/certs", "etc/systemd"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// installed looks at what stands in /usr/local.
func (m *machine) installed(t *testing.T, version string) {
	t.Helper()
	if v := m.run("ann", "hxen version"); !strings.Contains(v, version) {
		t.Errorf("hxen version: %s", v)
	}
	doctor, code := m.try("ann", "hxen doctor")
	t.Logf("hxen doctor, code %d:\n%s", code, doctor)
	if code != 0 && !strings.Contains(doctor, "QEMU") {
		t.Errorf("hxen doctor: code %d\n%s", code, doctor)
	}
	if list := m.run("ann", "hxen list"); !strings.Contains(list, "Name") {
		t.Errorf("hxen list:\n%s", list)
	}
	for _, name := range []string{"share/man/man1/hxen.1", "share/bash-completion/completions/hxen", "share/applications/hxen.desktop",
		"share/metainfo/io.github.hxen_project.hxen.metainfo.xml", "share/mime/packages/hxen.xml", "share/icons/hicolor/256x256/apps/hxen.png", "lib/hxen/hxen-worker"} {
		if _, err := os.Stat(filepath.Join(m.root, "usr/local", name)); err != nil {
			t.Error(err)
		}
	}
}
