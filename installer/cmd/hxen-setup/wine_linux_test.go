package main

// The setup for Windows, as "make dist" makes it, under wine: its wizard with the
// keyboard, and silently. What it makes of files, registry, Start menu, PATH and
// services is looked at, and that removing leaves nothing.

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// wineVar asks for the tests that need minutes and a Windows.
const wineVar = "HXEN_WINE"

// wine is a Windows of its own, on a screen.
type wine struct {
	*screen
	script string
	drive  string // C:
}

// wineGuard bounds one command: wine is slow to begin, and this computer may be busy.
const wineGuard = 5 * time.Minute

func newWine(t *testing.T) *wine {
	t.Helper()
	if os.Getenv(wineVar) == "" {
		t.Skip("make test-windows runs it: it takes minutes")
	}
	hvtest.Require(t, "wine", "mingw")
	script, err := filepath.Abs("../../../.ci/wine")
	if err != nil {
		t.Fatal(err)
	}
	prefix := filepath.Join(t.TempDir(), "prefix")
	w := &wine{screen: newScreen(t, "1024x768"), script: script, drive: filepath.Join(prefix, "drive_c")}
	w.env = append(w.env, "WINEPREFIX="+prefix, "LP_NUM_THREADS=2", "LC_ALL=C.UTF-8")
	t.Cleanup(func() { // ends the programs of this Windows alone
		for _, how := range []string{"-k", "-w"} {
			cmd := exec.Command("wineserver", how)
			cmd.Env = w.env
			_ = cmd.Run()
		}
	})
	w.run(0, "cmd", "/c", "mkdir", `C:\downloads`)
	w.run(0, "reg", "add", `HKCU\Software\Wine`, "/v", "Version", "/d", "win10", "/f")
	return w
}

// run runs a Windows program, which is to end with code, and returns what it
// printed.
func (w *wine) run(code int, args ...string) string {
	w.t.Helper()
	for {
		out, ended, err := w.try(args)
		if ended == code {
			return out
		}
		if !strings.Contains(out, wineTired) {
			w.t.Fatalf("%q: %v, not %d\n%s", args, err, code, out)
		}
		w.t.Logf("%q: once more: %s", args, out) // a test that has no time left ends it
	}
}

// wineTired is what a busy wine now and then says instead of starting a program.
const wineTired = "ShellExecuteEx failed: Internal error"

func (w *wine) try(args []string) (said string, code int, err error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), wineGuard)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.script, args...)
	cmd.Env = w.env
	cmd.WaitDelay = 10 * time.Second // what it has started may hold on to its output
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	code = -1
	if cmd.ProcessState != nil {
		code = cmd.ProcessState.ExitCode()
	}
	return strings.ReplaceAll(out.String(), "\r\n", "\n"), code, err
}

// start starts a Windows program that has a window.
func (w *wine) start(args ...string) {
	w.t.Helper()
	cmd := exec.Command(w.script, args...)
	cmd.Env = append(w.env, "FYNE_THEME=light")
	w.said = &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = w.said, w.said
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	w.ended = ended
}

// pages goes through a wizard's pages, and takes a picture of each.
func (w *wine) pages(photo string, titles ...string) {
	w.t.Helper()
	for i, title := range titles {
		w.window("^" + title)
		w.photo("wine-" + photo + "-" + strings.ToLower(strings.ReplaceAll(title, " ", "-")))
		if i < len(titles)-1 {
			w.keys("Return")
		}
	}
}

// glimpse takes a picture of what does not stay, for people to look at.
func (w *wine) glimpse(name string) {
	if dir := os.Getenv(photosVar); dir != "" {
		cmd := exec.Command("import", "-window", "root", filepath.Join(dir, name+".png"))
		cmd.Env = w.env
		_ = cmd.Run()
	}
}

// state is what a Windows consists of: files by their path, and the registry's
// values and keys.
func (w *wine) state() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(w.drive, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(w.drive, path)
		st, err := d.Info()
		if err != nil {
			return nil // gone meanwhile
		}
		all[name] = "folder"
		if !d.IsDir() {
			all[name] = fmt.Sprintf("%d bytes", st.Size())
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, root := range []string{"HKLM", "HKCU"} {
		w.run(0, "reg", "export", root, `C:\downloads\`+root+".reg", "/y")
		b, err := os.ReadFile(filepath.Join(w.drive, "downloads", root+".reg"))
		if err != nil {
			w.t.Fatal(err)
		}
		key := ""
		for line := range strings.Lines(fromUTF16(b)) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, "["):
				key = line
				all[key] = "key"
			case strings.HasPrefix(line, "@="), strings.HasPrefix(line, `"`):
				name, value, _ := strings.Cut(line, "=")
				all[key+name] = value
			}
		}
		delete(all, filepath.Join("downloads", root+".reg"))
	}
	return all
}

// fromUTF16 reads what reg exports: little-endian with a mark before it.
func fromUTF16(b []byte) string {
	var s strings.Builder
	for i := 2; i+1 < len(b); i += 2 {
		s.WriteRune(rune(b[i]) | rune(b[i+1])<<8)
	}
	return s.String()
}

// restless is what a Windows changes by itself while its programs run.
var restless = regexp.MustCompile(`(?i)^users/[^/]*/temp|^windows/temp|\\ServiceCurrent\]|\\Control\\Video\\|\\Wine\\Temporary System Parameters|` +
	// and what is the user's, and stays: guests, and what the window keeps
	`^users/[^/]*/appdata/(local|roaming)/(hxen|fyne$|fyne/io\.github)|^programdata/hxen(/|$)`)

func (w *wine) settled(before map[string]string, what string) {
	w.t.Helper()
	// What was moved away because it ran is deleted a moment after the end.
	var d []string
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Second) {
		d = differences(before, w.state(), restless.MatchString)
		if len(d) == 0 {
			break
		}
		if time.Now().After(end) {
			w.t.Errorf("%s left:\n%s", what, strings.Join(d, "\n"))
			return
		}
	}
	if left, _ := filepath.Glob(w.drive + "/users/*/Temp/hxen-*"); len(left) > 0 {
		w.t.Errorf("%s left %q", what, left)
	}
}

// TestWineSetup goes through the wizard as a person does, with the keyboard alone,
// removes what it has installed, and does both again without being asked anything.
func TestWineSetup(t *testing.T) {
	w := newWine(t)
	dir := build(t, "v1.0.0", 1700000000, "exe")
	program, err := os.ReadFile(filepath.Join(dir, "hxen-setup-windows-amd64.exe"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.drive, "downloads", "hxen-setup.exe"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	const setup, prefix = `C:\downloads\hxen-setup.exe`, `C:\Program Files\HXEN\`
	if out := w.run(0, setup, "--version"); !strings.Contains(out, "v1.0.0") {
		t.Errorf("--version: %q", out)
	}
	before := w.state()

	w.start(setup)
	w.pages("install", "Set up HXEN", "This computer", "What and where", "What will be done")
	w.keys("Return")
	w.glimpse("wine-install-progress")
	w.pages("install", "HXEN is installed")
	w.keys("Tab", "Escape")
	if err := w.end(); err != nil {
		t.Fatalf("the wizard: %v\n%s", err, w.said)
	}
	w.installed(prefix)
	if out := w.run(0, prefix+"hxen.exe", "service", "status"); !strings.Contains(out, "runs") {
		log, err := os.ReadFile(filepath.Join(w.drive, "ProgramData", "HXEN", "service.log"))
		t.Errorf("the service: %s\n%s\n%v", out, log, err)
	}

	// The window, from the Start menu.
	w.start("start", "/wait", `C:\ProgramData\Microsoft\Windows\Start Menu\Programs\HXEN.lnk`)
	w.window("^HXEN$")
	w.photo("wine-window")
	w.close()
	w.run(0, prefix+"hxen.exe", "list")

	// The installed setup repairs, and removes.
	if err := os.Remove(filepath.Join(w.drive, "Program Files", "HXEN", "hxen-netd.exe")); err != nil {
		t.Fatal(err)
	}
	w.start(prefix + "hxen-setup.exe")
	w.pages("repair", "HXEN v1.0.0 is installed", "This computer", "What and where", "What will be done")
	w.keys("Return")
	w.pages("repair", "HXEN is installed")
	w.keys("Tab", "Escape")
	w.end()
	w.installed(prefix)
	w.start(prefix+"hxen-setup.exe", "--uninstall")
	w.pages("remove", "Remove HXEN", "What will be done")
	w.keys("Return")
	w.pages("remove", "HXEN was removed")
	w.keys("Escape")
	if err := w.end(); err != nil {
		t.Errorf("the wizard: %v\n%s", err, w.said)
	}
	w.settled(before, "removing")

	// Silently, for one user, and by what Windows' list of apps would run.
	t.Log(w.run(0, setup, "--yes", "--user", "--components", "command,window"))
	own := `C:\users\` + w.user() + `\AppData\Local\Programs\HXEN\`
	if out := w.run(0, "reg", "query", `HKCU\`+uninstall, "/v", "QuietUninstallString"); !strings.Contains(out, `"`+own+`hxen-setup.exe" --uninstall --yes`) {
		t.Errorf("the list of apps: %s", out)
	}
	if out := w.run(0, "reg", "query", `HKCU\Environment`, "/v", "Path"); !strings.Contains(out, strings.TrimSuffix(own, `\`)) {
		t.Errorf("PATH: %s", out)
	}
	w.run(0, own+"hxen-setup.exe", "--uninstall", "--yes")
	w.settled(before, "removing silently")

	t.Log(w.run(0, setup, "--yes", "--system"))
	w.installed(prefix)
	w.run(0, prefix+"hxen-setup.exe", "--uninstall", "--yes")
	w.settled(before, "removing silently for everybody")
}

const uninstall = `Software\Microsoft\Windows\CurrentVersion\Uninstall\HXEN`

// user is who runs programs there.
func (w *wine) user() string {
	w.t.Helper()
	all, err := filepath.Glob(w.drive + "/users/*/AppData")
	if err != nil || len(all) != 1 {
		w.t.Fatalf("users: %q, %v", all, err)
	}
	return filepath.Base(filepath.Dir(all[0]))
}

// installed looks at what was installed for everybody.
func (w *wine) installed(prefix string) {
	w.t.Helper()
	for _, name := range []string{"hxen.exe", "hxen-worker.exe", "hxen-netd.exe", "hxen-desktop.exe", "hxen-setup.exe"} {
		if _, err := os.Stat(filepath.Join(w.drive, "Program Files", "HXEN", name)); err != nil {
			w.t.Error(err)
		}
	}
	for _, q := range []struct{ key, name, want string }{
		{`HKLM\` + uninstall, "DisplayVersion", "v1.0.0"},
		{`HKLM\` + uninstall, "UninstallString", `"` + prefix + `hxen-setup.exe" --uninstall`},
		{`HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment`, "Path", strings.TrimSuffix(prefix, `\`)},
		{`HKLM\Software\Classes\.iso\OpenWithProgids`, "HXEN.iso", "REG_SZ"},
		{`HKLM\Software\Classes\HXEN.ova\shell\open\command`, "", `"` + prefix + `hxen-desktop.exe" "%1"`},
		{`HKLM\SYSTEM\CurrentControlSet\Services\hxen`, "ImagePath", prefix + "hxen.exe"},
	} {
		args := []string{"reg", "query", q.key, "/ve"}
		if q.name != "" {
			args = append(args[:3], "/v", q.name)
		}
		if out := w.run(0, args...); !strings.Contains(out, q.want) {
			w.t.Errorf("%s, %s: %s", q.key, q.name, out)
		}
	}
	if out := w.run(0, "cmd", "/c", "hxen", "version"); !strings.Contains(out, "v1.0.0") {
		w.t.Errorf("by PATH: %s", out)
	}
	links, _ := filepath.Glob(w.drive + "/ProgramData/Microsoft/Windows/Start Menu/Programs/*")
	if !slices.ContainsFunc(links, func(l string) bool { return filepath.Base(l) == "HXEN.lnk" }) {
		w.t.Errorf("the Start menu has %q", links)
	}
}

// TestWineScreen shows the screen of a guest in the Windows window: QEMU runs on
// this Linux, and its picture comes over loopback TCP. Between QEMU and the window is
// a service for tests, as the Windows service starts no QEMU under wine.
func TestWineScreen(t *testing.T) {
	hvtest.Require(t, "qemu")
	w := newWine(t)
	w.env = append(w.env, `HXEN_HOME=C:\guests`)
	bin := filepath.Join(w.drive, "hxen")
	for program, cgo := range map[string]string{"./app/cmd/hxen/testdata/screens": "0", "./app/cmd/hxen-desktop": "1"} {
		cmd := exec.Command("go", "build", "-ldflags", "-s -w -buildid= -H=windowsgui", "-o", bin+"/", program)
		if cgo == "0" {
			cmd = exec.Command("go", "build", "-o", bin+"/", program)
		}
		cmd.Dir = "../../.."
		cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED="+cgo, "CC=x86_64-w64-mingw32-gcc",
			"GOFLAGS=-trimpath -buildvcs=false") // as the setup is built, which has compiled the toolkit
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	monitor := filepath.Join(t.TempDir(), "monitor")
	qemu := exec.Command("qemu-system-x86_64", "-accel", "tcg", "-m", "64", "-vga", "std", "-display", "none", "-nic", "none",
		"-vnc", "127.0.0.1:0,to=900", "-monitor", "unix:"+monitor+",server=on,wait=off")
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = qemu.Process.Kill()
		_ = qemu.Wait()
	})
	address := vncOf(t, monitor)
	t.Logf("QEMU's screen is at %s", address)

	service := exec.Command(w.script, `C:\hxen\screens.exe`, address)
	service.Env = w.env
	said, err := service.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Process.Kill() })
	ready := make([]byte, len("ready"))
	if _, err := io.ReadFull(said, ready); err != nil || string(ready) != "ready" {
		t.Fatalf("the service said %q, %v", ready, err)
	}
	w.start(`C:\hxen\hxen-desktop.exe`, "--console", "on Linux")
	w.window("on Linux")
	// SeaBIOS finds nothing to boot and says so, in the grey of text modes.
	letters := 0
	for end := time.Now().Add(guard); letters < 1000 && time.Now().Before(end); {
		letters = points(t, w.photo("wine-screen"), color.Gray{0xa8})
	}
	if letters < 1000 {
		t.Errorf("%d points are of the colour of SeaBIOS' letters: that is no guest's screen", letters)
	}
	w.close()
}

// vncOf asks QEMU's monitor where its screen is.
func vncOf(t *testing.T, monitor string) string {
	t.Helper()
	at := regexp.MustCompile(`127\.0\.0\.1:59\d\d`)
	for end := time.Now().Add(guard); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		nc, err := net.Dial("unix", monitor)
		if err != nil {
			continue // it is not there yet
		}
		_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintln(nc, "info vnc")
		said, r := "", bufio.NewReader(nc)
		for at.FindString(said) == "" {
			line, err := r.ReadString('\n')
			if err != nil {
				break
			}
			said += line
		}
		nc.Close()
		if a := at.FindString(said); a != "" {
			return a
		}
	}
	t.Fatal("QEMU does not say where its screen is")
	return ""
}

// points counts the points of a picture that are of a colour.
func points(t *testing.T, picture []byte, c color.Gray) (n int) {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			if r, g, b, _ := img.At(x, y).RGBA(); r>>8 == uint32(c.Y) && g>>8 == uint32(c.Y) && b>>8 == uint32(c.Y) {
				n++
			}
		}
	}
	return n
}
