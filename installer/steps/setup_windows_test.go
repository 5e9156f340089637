package steps

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows/registry"

	"github.com/hxen-project/hxen/installer/plan"
)

// computer is a made-up Windows in a folder and a key of the registry: what the
// steps do to files, registry and shortcuts is real, DISM and hxen.exe are not.
type computer struct {
	t      *testing.T
	dir    string
	below  string
	points int    // passed so far
	kill   int    // at this point; 0 = never
	fail   string // of a program that does not want to
	last   string // where it was killed
	pl     plan.Plan
	comps  []plan.Component
}

const path0 = `C:\Windows\system32;%SystemRoot%\x;` // as people leave it

func newComputer(t *testing.T) *computer {
	t.Helper()
	dir, err := os.MkdirTemp("", "computer")
	if err != nil {
		t.Fatal(err)
	}
	c := &computer{t: t, dir: dir, below: `Software\hxen-test\` + filepath.Base(dir) + `\`,
		comps: []plan.Component{plan.Command, plan.Window}}
	t.Cleanup(func() {
		for _, root := range []registry.Key{registry.LOCAL_MACHINE, registry.CURRENT_USER} {
			removeKeys(root, strings.TrimSuffix(c.below, `\`))
		}
		os.RemoveAll(dir) // what a played kill left open stays
	})
	start := programs(plan.System)
	for _, d := range []string{programFiles(), start, `C:\ProgramData`, `C:\windows\system32`} {
		if err := os.MkdirAll(dir+d[2:], 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range []struct{ key, name, kind, content string }{
		{environmentAll, "Path", "x", path0}, {classesKey + ".iso", "", "s", "Windows.IsoFile"}, {classesKey + `.ova\OpenWithProgids`, "Other.ova", "s", ""},
		{`Software\Microsoft\Windows\CurrentVersion\Uninstall\Other`, "DisplayName", "s", "Other"},
	} {
		k, _, err := registry.CreateKey(registry.LOCAL_MACHINE, c.below+v.key, registry.SET_VALUE)
		if err != nil {
			t.Fatal(err)
		}
		if v.kind == "x" {
			err = k.SetExpandStringValue(v.name, v.content)
		} else {
			err = k.SetStringValue(v.name, v.content)
		}
		k.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func removeKeys(root registry.Key, path string) {
	if k, err := registry.OpenKey(root, path, registry.ENUMERATE_SUB_KEYS); err == nil {
		names, _ := k.ReadSubKeyNames(-1)
		k.Close()
		for _, n := range names {
			removeKeys(root, path+`\`+n)
		}
	}
	registry.DeleteKey(root, path)
}

func (c *computer) point(op, name string) error {
	if c.points++; c.points == c.kill {
		c.last = op + " " + name
		panic(killed{})
	}
	return nil
}

// Run implements Runner.
func (c *computer) Run(_ context.Context, _ []string, program string, args ...string) (string, error) {
	base := filepath.Base(program)
	library := filepath.Join(filepath.Dir(program), "WinHvPlatform.dll")
	all := strings.Join(args, " ")
	if strings.Contains(all, "/get-featureinfo") {
		state := "Disabled"
		if _, err := os.Stat(library); err == nil {
			state = "Enabled"
		}
		return "Deployment Image Servicing\r\n\r\nFeature Name : HypervisorPlatform\r\nState : " + state + "\r\n", nil
	}
	c.point("run", base)
	if base == c.fail {
		return "", &Ended{1, base + ": it does not want to"}
	}
	var err error
	switch {
	case strings.Contains(all, "/enable-feature"):
		err = os.WriteFile(library, []byte("a library"), 0o644)
	case strings.Contains(all, "/disable-feature"):
		err = os.Remove(library)
	case slices.Contains(args, "install"):
		err = os.WriteFile(c.dir+`\service`, []byte(strings.ReplaceAll(program, c.dir, "")), 0o644)
	case slices.Contains(args, "uninstall"):
		os.Remove(c.dir + `\service`)
	}
	c.point("ran", base)
	if err == nil && base == "dism.exe" {
		err = &Ended{needsRestart, "dism.exe: restart"}
	}
	return "", err
}

func (c *computer) setup(p *Payload) *Setup {
	s := &Setup{Payload: p, Account: `DESK\ann`, Home: c.dir + `\users\ann`, Program: `C:\setup.exe`, admin: func() bool { return true }, point: c.point}
	s.Host = &Host{Run: c, Root: c.dir, Registry: c.below, Has: func(string) bool { return false }}
	return s
}

// do plans and runs as one process would; ended is false if that was killed.
func (c *computer) do(action plan.Action, p *Payload) (r plan.Result, ended bool) {
	defer func() {
		if e := recover(); e != nil {
			if _, ok := e.(killed); !ok {
				panic(e)
			}
		}
	}()
	s := c.setup(p)
	o := plan.Options{Scope: plan.System, Account: s.Account, Prefix: s.Prefix(plan.System), Service: true, KVM: true, Components: c.comps}
	pl, err := s.Plan(context.Background(), action, o)
	if err != nil {
		if action == plan.Uninstall && strings.Contains(err.Error(), "nothing to remove") {
			os.RemoveAll(c.dir + `\ProgramData\hxen-setup`)
			return plan.Result{OK: true}, true
		}
		c.t.Fatal(err)
	}
	if err := s.Accept(pl); err != nil {
		c.t.Fatalf("its own plan is refused: %v", err)
	}
	c.pl = pl
	return s.run(context.Background(), pl, nil), true
}

// files is all there is: files, shortcuts by what they lead to, and the registry.
func (c *computer) files() map[string]string {
	all := map[string]string{}
	filepath.Walk(c.dir, func(path string, st os.FileInfo, err error) error {
		if err != nil {
			c.t.Error(err)
			return nil
		}
		name, _ := filepath.Rel(c.dir, path)
		switch {
		case st.IsDir():
			all[name] = "folder"
		case filepath.Ext(name) == ".lnk":
			to, err := readShortcut(path)
			if err != nil {
				c.t.Error(err)
			}
			all[name] = "leads to " + strings.ReplaceAll(to, c.dir, "")
		case st.Name() != "journal":
			b, _ := os.ReadFile(path)
			all[name] = strings.ReplaceAll(string(b), c.dir, "")
		}
		return nil
	})
	c.values(all, "")
	return all
}

func (c *computer) values(all map[string]string, key string) {
	h := &hive{root: registry.LOCAL_MACHINE, below: c.below}
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, strings.TrimSuffix(c.below+key, `\`), registry.READ)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer k.Close()
	names, _ := k.ReadValueNames(-1)
	for _, n := range names {
		d, err := h.get(strings.TrimSuffix(key, `\`), n)
		if err != nil {
			c.t.Error(err)
		}
		all["HKLM:"+key+n] = strings.ReplaceAll(string(d), c.dir, "")
	}
	subs, _ := k.ReadSubKeyNames(-1)
	for _, s := range subs {
		all["HKLM:"+key+s+`\`] = "key"
		c.values(all, key+s+`\`)
	}
}

var (
	setup1 = map[string]string{"hxen.exe": "program 1", "hxen-desktop.exe": "window 1", "old.txt": "of 1"}
	setup2 = map[string]string{"hxen.exe": "program two", "hxen-desktop.exe": "window two", "new.txt": "of 2"}
)

// carried makes a payload that its program carries.
func carried(t *testing.T, version string, stamp int64, content map[string]string) *Payload {
	p, program := makePayload(t, version, stamp, content)
	p.self = program + ".payload"
	return p
}

// staying is what removing leaves behind.
func staying(m map[string]string) map[string]string {
	delete(m, `windows\system32\WinHvPlatform.dll`)
	return m
}

// TestWindowsSteps looks at what is installed, that removing leaves nothing but
// the feature, and that what others have put there stays.
func TestWindowsSteps(t *testing.T) {
	t.Setenv("HXEN_HOME", t.TempDir())
	p1, p2 := carried(t, "1", 1, setup1), carried(t, "2", 2, setup2)
	c := newComputer(t)
	before := c.files()
	r, _ := c.do(plan.Install, p1)
	if !r.OK || !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "Restart the computer") }) {
		t.Fatalf("%+v", r)
	}
	one := c.files()
	t.Logf("installed:\n%s", show(one))
	prefix := strings.TrimPrefix(c.pl.Prefix, c.dir)
	uninstall := "HKLM:" + uninstallKey + `\`
	for k, want := range map[string]string{
		`HKLM:` + environmentAll + `\Path`:                             "x:" + path0 + prefix,
		uninstall + "DisplayVersion":                                   "s:1",
		uninstall + "QuietUninstallString":                             `s:"` + prefix + `\hxen-setup.exe" --uninstall --yes`,
		uninstall + "EstimatedSize":                                    "d:0",
		`HKLM:Software\Classes\.iso\`:                                  "s:Windows.IsoFile",
		`HKLM:Software\Classes\.iso\OpenWithProgids\HXEN.iso`:          "s:",
		`HKLM:Software\Classes\HXEN.qcow2\shell\open\command\`:         `s:"` + prefix + `\hxen-desktop.exe" "%1"`,
		`HKLM:Software\Classes\.ova\OpenWithProgids\Other.ova`:         "s:",
		strings.TrimPrefix(programs(plan.System), `C:\`) + `\HXEN.lnk`: "leads to " + prefix + `\hxen-desktop.exe`,
		`service`: prefix + `\hxen.exe`,
	} {
		if got := one[k]; got != want {
			t.Errorf("%s is %q, not %q", k, got, want)
		}
	}
	// After the restart the setup goes on by itself.
	own := &hive{root: registry.CURRENT_USER, below: c.below}
	want := textData(`"` + c.pl.Prefix + `\hxen-setup.exe" --resume`)
	if got, err := own.get(runOnce, runOnceName); got != want || err != nil {
		t.Errorf("RunOnce has %q, not %q: %v", got, want, err)
	}
	// Again, which changes nothing; a newer one, and one without the window.
	if r, _ := c.do(plan.Install, p1); !r.OK || compare(one, c.files()) != "" {
		t.Errorf("%+v\n%s", r, compare(one, c.files()))
	}
	if r, _ := c.do(plan.Install, p2); !r.OK || c.files()[uninstall+"DisplayVersion"] != "s:2" {
		t.Errorf("%+v", r)
	}
	c.comps = []plan.Component{plan.Command}
	if r, _ := c.do(plan.Install, p2); !r.OK {
		t.Errorf("%+v", r)
	}
	for k := range c.files() {
		if strings.Contains(k, "HXEN.") {
			t.Errorf("without the window: %s", k)
		}
	}
	// Somebody changes PATH meanwhile, and that stays.
	h := &hive{root: registry.LOCAL_MACHINE, below: c.below}
	if err := h.put(environmentAll, "Path", data("x:"+path0+`"`+c.pl.Prefix+`\";C:\other`)); err != nil {
		t.Fatal(err)
	}
	r, _ = c.do(plan.Uninstall, p2)
	after := staying(c.files())
	if got := after[`HKLM:`+environmentAll+`\Path`]; got != "x:"+path0+`C:\other` {
		t.Errorf("PATH is %q", got)
	}
	after[`HKLM:`+environmentAll+`\Path`] = "x:" + path0
	if d := compare(before, after); !r.OK || d != "" {
		t.Errorf("removed: %+v\n%s", r, d)
	}
	if got, err := own.get(runOnce, runOnceName); got != "" || err != nil {
		t.Errorf("removed, and RunOnce has %q: %v", got, err)
	}
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "stays switched on") }) {
		t.Errorf("notes %q", r.Notes)
	}
}

// TestWindowsFailing has the service fail: all is taken back, the feature too. A
// DISM that fails takes nothing else back.
func TestWindowsFailing(t *testing.T) {
	t.Setenv("HXEN_HOME", t.TempDir())
	p1 := carried(t, "1", 1, setup1)
	c := newComputer(t)
	before := c.files()
	c.fail = "hxen.exe"
	if r, _ := c.do(plan.Install, p1); r.OK || !r.Undone || compare(before, c.files()) != "" {
		t.Errorf("%+v\n%s", r, compare(before, c.files()))
	}
	if got, err := (&hive{root: registry.CURRENT_USER, below: c.below}).get(runOnce, runOnceName); got != "" || err != nil {
		t.Errorf("taken back, and RunOnce has %q: %v", got, err)
	}
	c.fail = "dism.exe"
	if r, _ := c.do(plan.Install, p1); !r.OK || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "does not want to") {
		t.Errorf("%+v", r)
	}
}

// TestWindowsForeign: a shortcut of somebody else's stays, and the rest is installed.
func TestWindowsForeign(t *testing.T) {
	t.Setenv("HXEN_HOME", t.TempDir())
	p1 := carried(t, "1", 1, setup1)
	c := newComputer(t)
	link := c.dir + programs(plan.System)[2:] + `\HXEN.lnk`
	if err := writeShortcut(link, `C:\windows\notepad.exe`, "mine"); err != nil {
		t.Fatal(err)
	}
	before := c.files()
	if r, _ := c.do(plan.Install, p1); !r.OK || !strings.Contains(strings.Join(r.Notes, " "), "is there already") {
		t.Errorf("%+v", r)
	}
	if r, _ := c.do(plan.Uninstall, p1); !r.OK {
		t.Errorf("%+v", r)
	}
	if d := compare(before, staying(c.files())); d != "" {
		t.Error(d)
	}
}

// TestWindowsBusy removes a program that runs and the folder that it is in, and sweeps
// up what is left of it.
func TestWindowsBusy(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMP", temp)
	t.Setenv("TEMP", temp)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "HXEN")
	place := filepath.Join(dir, setupPath)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(place, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(place, "-test.run", "^TestWindowsRuns$")
	cmd.Env = append(os.Environ(), "HXEN_TEST_RUNS=1")
	cmd.Dir = dir // which keeps that from being removed
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(place); err == nil {
		t.Fatal("a program that runs was removed as any other: what is tested here?")
	}
	tr := newTree(filepath.Dir(dir))
	if err := tr.remove(place); err != nil {
		t.Error(err)
	}
	if err := tr.remove(dir); err != nil {
		t.Error(err)
	}
	left, _ := filepath.Glob(filepath.Join(temp, removed+"*"))
	if there, _ := tr.exists(place); there || len(left) != 1 {
		t.Errorf("there: %v; moved away: %q", there, left)
	}
	tr.close()
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	Sweep()
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(left[0]); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not swept up", left[0])
		}
	}
}

// TestWindowsRuns is the program that runs in TestWindowsBusy.
func TestWindowsRuns(t *testing.T) {
	if os.Getenv("HXEN_TEST_RUNS") == "" {
		t.Skip("it is not asked to")
	}
	fmt.Println("it runs")
	io.Copy(io.Discard, os.Stdin)
}

// TestWindowsKilledEverywhere kills installing, upgrading and removing at each
// write of the journal, each change to a file, to the registry and to a shortcut,
// and around each program that is run. Some of the kills, all with HXEN_LONG=1.
func TestWindowsKilledEverywhere(t *testing.T) {
	t.Setenv("HXEN_HOME", t.TempDir())
	stride := 11
	if os.Getenv("HXEN_LONG") != "" {
		stride = 1
	}
	if total := killEverywhere(t, carried(t, "1", 1, setup1), carried(t, "2", 2, setup2), stride); total < 30 {
		t.Errorf("only %d kills", total)
	}
}
