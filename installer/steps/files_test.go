package steps

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/installer/plan"
)

// makePayload writes a payload of small files, beside a program that is not there.
func makePayload(t *testing.T, version string, stamp int64, content map[string]string) (*Payload, string) {
	t.Helper()
	m := Manifest{Version: version, Stamp: stamp}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	names := make([]string, 0, len(content))
	for name := range content {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		text := content[name]
		f := File{Path: name, Mode: 0o644, Component: plan.Command}
		if target, isLink := strings.CutPrefix(text, "-> "); isLink {
			f.Link, f.Mode = target, 0
		} else {
			sum := sha256.Sum256([]byte(text))
			f.Size, f.Sum, f.Prefixed = int64(len(text)), hex.EncodeToString(sum[:]), strings.Contains(text, PrefixMark)
			w, _ := z.Create(FilesDir + name)
			fmt.Fprint(w, text)
		}
		m.Files = append(m.Files, f)
	}
	list, _ := json.Marshal(m)
	w, _ := z.Create(ManifestName)
	w.Write(list)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "setup")
	if err := os.WriteFile(program+".payload", b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := OpenPayload(program, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, program
}

var (
	version1 = map[string]string{"lib/hxen/hxen": "program 1", "bin/hxen": "-> ../lib/hxen/hxen", "share/a.desktop": "Exec=@PREFIX@/bin/hxen", "share/old": "of 1"}
	version2 = map[string]string{"lib/hxen/hxen": "program two", "bin/hxen": "-> ../lib/hxen/hxen2", "lib/hxen/hxen2": "new", "share/a.desktop": "Exec=@PREFIX@/bin/hxen"}
)

// place is a prefix in a folder of its own, as one computer after the other.
type place struct {
	t          *testing.T
	dir        string
	p1, p2     *Payload
	points     int
	kill       int
	killed     bool
	free       uint64
	failOnName string
	failWith   error
}

func newPlace(t *testing.T, p1, p2 *Payload) *place {
	dir, err := os.MkdirTemp("/dev/shm", "place") // thousands of syncs are slow on a disk
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() { // never through a link, of which some lead out of here
				os.Chmod(path, 0o700)
			}
			return nil
		})
		os.RemoveAll(dir)
	})
	p := &place{t: t, dir: dir, p1: p1, p2: p2, free: 1 << 40}
	if err := os.MkdirAll(filepath.Join(dir, "usr"), 0o755); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(p.prefix(), "..", "other"), []byte("somebody's"), 0o644)
	return p
}

func (p *place) prefix() string { return filepath.Join(p.dir, "usr", "local") }

func (p *place) point(op, name string) error {
	if err := p.failWith; err != nil && filepath.Base(name) == p.failOnName {
		p.failWith = nil
		return err
	}
	if p.points++; p.points == p.kill {
		p.killed = true
		return plan.ErrKilled
	}
	return nil
}

func (p *place) run(action plan.Action, payload *Payload) plan.Result {
	p.t.Helper()
	j, err := plan.Load(filepath.Join(p.dir, "state"))
	if err != nil {
		p.t.Fatal(err)
	}
	j.Watch(func([]byte) error { return p.point("journal", "") })
	tr := newTree(filepath.Join(p.dir, "usr"))
	tr.point = p.point
	defer tr.close()
	o := plan.Options{Scope: plan.System, Prefix: p.prefix(), Components: []plan.Component{plan.Command}}
	step := &files{payload: payload, tree: tr, prefix: p.prefix(), chosen: o, free: func(string) (uint64, error) { return p.free, nil }}
	pl := plan.Plan{Format: plan.Format, Action: action, Version: payload.Version, Payload: payload.Sum, Options: o, Steps: []string{"files"}}
	return plan.Run(context.Background(), j, pl, []plan.Step{step}, nil, nil)
}

// tree shows every file, folder and link below usr.
func (p *place) tree() string {
	var out []string
	root := filepath.Join(p.dir, "usr")
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			out = append(out, err.Error())
		case d.IsDir():
			out = append(out, name+"/")
		case d.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			out = append(out, name+" -> "+target)
		default:
			b, _ := os.ReadFile(path)
			out = append(out, name+" = "+string(b))
		}
		return nil
	})
	return strings.ReplaceAll(strings.Join(out, "\n"), p.dir, "DIR")
}

func trees(t *testing.T, p1, p2 *Payload) (none, one, two string) {
	p := newPlace(t, p1, p2)
	none = p.tree()
	for _, step := range []struct {
		payload *Payload
		into    *string
	}{{p1, &one}, {p2, &two}} {
		if r := p.run(plan.Install, step.payload); !r.OK {
			t.Fatal(r.Error)
		}
		*step.into = p.tree()
	}
	if !strings.Contains(one, "Exec=DIR/usr/local/bin/hxen") || !strings.Contains(two, "local/bin/hxen -> ../lib/hxen/hxen2") || strings.Contains(two, "share/old") {
		t.Fatalf("one:\n%s\ntwo:\n%s", one, two)
	}
	return none, one, two
}

// TestFilesKilledEverywhere kills installing, upgrading and removing before each
// change to the disk and each write of the journal, and has the next run end in
// the old or the new state.
func TestFilesKilledEverywhere(t *testing.T) {
	p1, _ := makePayload(t, "1", 1, version1)
	p2, _ := makePayload(t, "2", 2, version2)
	none, one, two := trees(t, p1, p2)
	type call struct {
		action  plan.Action
		payload *Payload
		want    string
	}
	install1, install2, remove := call{plan.Install, p1, one}, call{plan.Install, p2, two}, call{plan.Uninstall, p1, none}
	kills := 0
	for _, c := range []struct {
		before []call
		killed call
	}{{nil, install1}, {[]call{install1}, install2}, {[]call{install1}, remove}} {
		for _, next := range []call{install1, install2, remove} {
			for kill := 1; ; kill++ {
				p := newPlace(t, p1, p2)
				for _, b := range c.before {
					p.run(b.action, b.payload)
				}
				p.points, p.kill = 0, kill
				p.run(c.killed.action, c.killed.payload)
				if !p.killed {
					break
				}
				kills++
				p.kill = 0
				if r := p.run(next.action, next.payload); !r.OK || len(r.Notes) > 0 {
					t.Fatalf("killed at %d: %+v", kill, r)
				}
				if got := p.tree(); got != next.want {
					t.Fatalf("%s of %s killed at %d, then %s of %s:\n%s\nwant:\n%s", c.killed.action, c.killed.payload.Version, kill,
						next.action, next.payload.Version, got, next.want)
				}
			}
		}
	}
	t.Logf("%d kills", kills)
	if kills < 140 {
		t.Errorf("only %d kills", kills)
	}
}

// TestFilesFailEverywhere: an error at each change leaves the old state.
func TestFilesFailEverywhere(t *testing.T) {
	p1, _ := makePayload(t, "1", 1, version1)
	p2, _ := makePayload(t, "2", 2, version2)
	none, one, _ := trees(t, p1, p2)
	for _, name := range []string{".hxen.hxen-new", ".a.desktop.hxen-new", "share", "lib", ".old.hxen-new"} {
		p := newPlace(t, p1, p2)
		p.failOnName, p.failWith = name, fmt.Errorf("write: %w", fs.ErrPermission)
		r := p.run(plan.Install, p1)
		if r.OK || p.failWith != nil || p.tree() != none {
			t.Errorf("%s: %+v\n%s", name, r, p.tree())
		}
	}
	p := newPlace(t, p1, p2)
	p.run(plan.Install, p1)
	p.free = 1000
	r := p.run(plan.Install, p2)
	if r.OK || !r.Undone || !strings.Contains(r.Error, "not enough room") || p.tree() != one {
		t.Errorf("no space: %+v\n%s", r, p.tree())
	}
}

func TestFilesRepair(t *testing.T) {
	p1, _ := makePayload(t, "1", 1, version1)
	p2, _ := makePayload(t, "2", 2, version2)
	none, one, _ := trees(t, p1, p2)
	p := newPlace(t, p1, p2)
	p.run(plan.Install, p1)
	os.Remove(filepath.Join(p.prefix(), "lib/hxen/hxen"))
	os.Remove(filepath.Join(p.prefix(), "bin/hxen"))
	os.WriteFile(filepath.Join(p.prefix(), "share/old"), []byte("changed"), 0o644)
	r := p.run(plan.Install, p1)
	if got := p.tree(); !r.OK || len(r.Notes) != 1 || strings.Replace(got, "\nlocal/share/old.saved = changed", "", 1) != one {
		t.Errorf("repair: %+v\n%s\nwant\n%s", r, got, one)
	}
	os.WriteFile(filepath.Join(p.prefix(), "share/old"), []byte("changed again"), 0o644)
	r = p.run(plan.Uninstall, p1)
	left := strings.Replace(none, "./", "./\nlocal/\nlocal/share/\nlocal/share/old.saved = changed\nlocal/share/old.saved2 = changed again", 1)
	if got := p.tree(); !r.OK || len(r.Notes) != 2 || got != left {
		t.Errorf("uninstall: %+v\n%s", r, got)
	}
}

// TestFilesInTheWay: what is not ours is neither overwritten nor followed.
func TestFilesInTheWay(t *testing.T) {
	p1, _ := makePayload(t, "1", 1, version1)
	p2, _ := makePayload(t, "2", 2, version2)
	for name, c := range map[string]struct {
		make func(prefix string)
		want string
	}{
		"a file": {func(p string) {
			os.MkdirAll(p+"/lib/hxen", 0o755)
			os.WriteFile(p+"/lib/hxen/hxen", []byte("mine"), 0o644)
		}, "is there already"},
		"a link": {func(p string) {
			os.MkdirAll(p+"/lib/hxen", 0o755)
			os.Symlink("/etc/passwd", p+"/lib/hxen/hxen")
		}, "is there already"},
		"a folder's link": {func(p string) {
			os.MkdirAll(p, 0o755)
			os.MkdirAll(p+"/../elsewhere", 0o755)
			os.Symlink("../elsewhere", p+"/lib")
		}, "is a link"},
		"a link outside": {func(p string) {
			os.MkdirAll(p, 0o755)
			os.Symlink("/etc", p+"/lib")
		}, "is a link"},
		"no folder": {func(p string) {
			os.MkdirAll(p, 0o755)
			os.WriteFile(p+"/lib", nil, 0o644)
		}, "no folder"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, p1, p2)
			c.make(p.prefix())
			before := p.tree()
			r := p.run(plan.Install, p1)
			if r.OK || !r.Undone || !strings.Contains(r.Error, c.want) {
				t.Errorf("%+v", r)
			}
			if got := p.tree(); got != before {
				t.Errorf("changed:\n%s\nbefore:\n%s", got, before)
			}
		})
	}
}

func TestTreeStaysInside(t *testing.T) {
	tr := newTree("/usr/local")
	for _, name := range []string{"/etc/passwd", "/usr/local", "/usr/local/../x", "usr/local/x", "/usr/localx/y", ""} {
		if _, err := tr.base(name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	if _, err := tr.base("/usr/local/bin/hxen"); err != nil {
		t.Error(err)
	}
}

// TestTamperedPayload: a changed list and a changed file are both seen, and the
// latter before anything has taken its place.
func TestTamperedPayload(t *testing.T) {
	p1, program := makePayload(t, "1", 1, version1)
	p2, _ := makePayload(t, "2", 2, version2)
	if _, err := OpenPayload(program, p2.Sum); err == nil || !strings.Contains(err.Error(), "download it again") {
		t.Errorf("another list: %v", err)
	}
	for i, f := range p1.Files {
		if f.Path == "lib/hxen/hxen" {
			p1.Files[i].Sum = strings.Repeat("0", 64)
		}
	}
	p := newPlace(t, p1, p2)
	before := p.tree()
	r := p.run(plan.Install, p1)
	if r.OK || !strings.Contains(r.Error, "hxen in the setup program is damaged") || p.tree() != before {
		t.Errorf("%+v\n%s", r, p.tree())
	}
	if _, err := OpenPayload("/bin/true", ""); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no payload: %v", err)
	}
}
