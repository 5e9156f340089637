package steps

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/installer/plan"
)

// computer is a made-up Linux computer in a folder: package manager, groups,
// udev, menus and service manager do what they are known to do, with files.
type computer struct {
	t      *testing.T
	dir    string
	points int // passed so far
	kill   int // at this point; 0 = never
	fail   int // at this run of a program; 0 = never
	runs   int
	ran    []string
	last   string // where it was killed
}

func newComputer(t *testing.T) *computer {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "computer")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &computer{t: t, dir: dir}
	for _, d := range []string{"usr/local", "opt", "etc/udev/rules.d", "home/ann", "var/lib", "packages"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.write("etc/group", "root:x:0:\nann:x:1000:\n")
	c.write("packages/ovmf", "somebody's")
	return c
}

func (c *computer) write(name, content string) {
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o644); err != nil {
		c.t.Error(err)
	}
}

func (c *computer) point(op, name string) error {
	if c.points++; c.points == c.kill {
		c.last = op + " " + name
		panic(killed{})
	}
	return nil
}

// Run implements Runner. A program can be killed before it has begun and after
// its work, before its caller knows.
func (c *computer) Run(_ context.Context, env []string, program string, args ...string) (string, error) {
	if program == "dpkg-query" {
		if _, err := os.Stat(filepath.Join(c.dir, "packages", args[len(args)-1])); err != nil {
			return "", errors.New("no such package")
		}
		return "installed\n", nil
	}
	c.point("run", program)
	c.ran = append(c.ran, strings.TrimSpace(strings.ReplaceAll(program, c.dir, "")+" "+strings.ReplaceAll(strings.Join(args, " "), c.dir, "")))
	if c.runs++; c.runs == c.fail {
		return "E: it does not want to", fmt.Errorf("%s: it does not want to", filepath.Base(program))
	}
	last := args[len(args)-1]
	group := filepath.Join(c.dir, "etc/group")
	old, _ := os.ReadFile(group)
	switch filepath.Base(program) {
	case "apt-get":
		for _, a := range args {
			switch {
			case strings.HasPrefix(a, "-") || a == "install" || a == "remove":
			case args[0] == "install":
				c.write("packages/"+a, "installed")
			default:
				os.Remove(filepath.Join(c.dir, "packages", a))
			}
		}
	case "groupadd":
		c.write("etc/group", string(old)+last+":x:999:\n")
	case "groupdel":
		c.write("etc/group", strings.Replace(string(old), last+":x:999:\n", "", 1))
	case "usermod":
		c.write("etc/group", strings.Replace(string(old), "kvm:x:999:\n", "kvm:x:999:"+last+"\n", 1))
	case "gpasswd":
		c.write("etc/group", strings.Replace(string(old), "kvm:x:999:ann\n", "kvm:x:999:\n", 1))
	case "update-desktop-database":
		c.write("usr/local/share/applications/mimeinfo.cache", "made of what is there")
	case "hxen":
		if _, err := os.Stat(program); err != nil {
			return "", err
		}
		unit := filepath.Join(c.dir, "etc/hxen.service")
		if slices.Contains(args, "install") {
			b, _ := os.ReadFile(program)
			c.write("etc/hxen.service", string(b)+" for "+strings.Join(env, " "))
		} else {
			os.Remove(unit)
		}
	}
	c.point("ran", program)
	return "", nil
}

func (c *computer) setup(p *Payload) *Setup {
	s := &Setup{Payload: p, Account: "ann", Home: c.dir + "/home/ann", Program: "/setup", admin: func() bool { return true }, point: c.point}
	s.Host = &Host{Run: c, Root: c.dir, Manager: "apt-get", Names: []string{"qemu-system-x86", "qemu-utils", "ovmf", "libgl1", "libwayland-client0"},
		Has:      func(p string) bool { return p != "update-mime-database" && p != "gtk-update-icon-cache" },
		KVMGroup: func() (string, error) { return "root", nil }}
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
	o := plan.Options{Scope: plan.System, Account: "ann", Prefix: c.dir + "/usr/local", Service: true, KVM: true,
		Components: []plan.Component{plan.Command, plan.Window, plan.QEMU}}
	pl, err := s.Plan(context.Background(), action, o)
	if err != nil {
		if action == plan.Uninstall && strings.Contains(err.Error(), "nothing to remove") {
			// It was killed before its first line, or after its last: a folder for the
			// journal may be there, and no more.
			os.RemoveAll(c.dir + "/var/lib/hxen-setup")
			return plan.Result{OK: true}, true
		}
		c.t.Fatal(err)
	}
	if err := s.Accept(pl); err != nil {
		c.t.Fatalf("its own plan is refused: %v", err)
	}
	return s.run(context.Background(), pl, nil), true
}

// files is all there is.
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
		case st.Mode()&os.ModeSymlink != 0:
			all[name], _ = os.Readlink(path)
		case filepath.Base(name) != "journal":
			b, _ := os.ReadFile(path)
			all[name] = strings.ReplaceAll(string(b), c.dir, "")
		}
		return nil
	})
	return all
}

// staying is what removing leaves behind.
func staying(m map[string]string) map[string]string {
	maps.DeleteFunc(m, func(k, _ string) bool { return strings.HasPrefix(k, "packages/") })
	return m
}

var (
	setup1 = map[string]string{"lib/hxen/hxen": "program 1", "bin/hxen": "-> ../lib/hxen/hxen", "share/applications/hxen.desktop": "Exec=@PREFIX@/bin/hxen", "share/old": "of 1"}
	setup2 = map[string]string{"lib/hxen/hxen": "program two", "bin/hxen": "-> ../lib/hxen/hxen", "share/applications/hxen.desktop": "Exec=@PREFIX@/bin/hxen %f", "share/new": "of 2"}
)

// TestSetupKilledEverywhere kills installing, upgrading and removing with every
// step there is - files, menus, packages, KVM's group and rule, the service - at
// each write of the journal, each change to a file, and before and after each
// program that is run.
func TestSetupKilledEverywhere(t *testing.T) {
	t.Setenv("HXEN_HOME", t.TempDir())
	p1, _ := makePayload(t, "1", 1, setup1)
	p2, _ := makePayload(t, "2", 2, setup2)
	if total := killEverywhere(t, p1, p2, 1); total < 250 {
		t.Errorf("only %d kills", total)
	}
}

// TestSetupFailsEverywhere has each program fail that installing runs: what was
// done before is taken back.
func TestSetupFailsEverywhere(t *testing.T) {
	t.Setenv("HXEN_HOME", t.TempDir())
	p1, _ := makePayload(t, "1", 1, setup1)
	before := newComputer(t).files()
	for fail := 1; ; fail++ {
		c := newComputer(t)
		c.fail = fail
		r, _ := c.do(plan.Install, p1)
		if c.runs < fail {
			t.Logf("%d programs: %q", c.runs, c.ran)
			break
		}
		if r.OK {
			continue // a cache of the menus, which is made again at the next login
		}
		if got := c.files(); !r.Undone || !strings.Contains(r.Error, "does not want to") || !maps.Equal(got, before) {
			t.Errorf("%q: %+v\n%s", c.ran[fail-1], r, show(got))
		}
	}
}
