package plan

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// writer is a step that keeps one small file; it does what the real ones do,
// in as few lines as show the order that matters: note, keep the old aside, put
// the new in its place.
type writer struct {
	dir, name, text string
	point           func() error // a place where the program may be killed
	fail            error
}

func (w writer) ID() string    { return "write-" + w.name }
func (w writer) Title() string { return "Writing " + w.name }
func (w writer) path() string  { return filepath.Join(w.dir, w.name) }
func (w writer) keep() string  { return w.path() + ".old" }

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

func (w writer) Check(context.Context, *Session) (Status, error) {
	return Status{Done: read(w.path()) == w.text, Bytes: int64(len(w.text))}, nil
}

func (w writer) Apply(_ context.Context, s *Session) error {
	if w.fail != nil {
		return w.fail
	}
	if len(s.Pending()) == 0 {
		a := Act{Kind: "file", Name: w.name, Sum: sum([]byte(w.text))}
		if old := read(w.path()); old != "" {
			a.Old = sum([]byte(old))
		}
		if err := s.Intend(a); err != nil {
			return err
		}
	}
	a := s.Pending()[0]
	if _, err := os.Stat(w.keep()); a.Old != "" && errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(w.point(), os.Link(w.path(), w.keep())); err != nil {
			return err
		}
	}
	if err := w.point(); err != nil {
		return err
	}
	if err := os.WriteFile(w.path()+".new", []byte(w.text), 0o600); err != nil {
		return err
	}
	if err := w.point(); err != nil {
		return err
	}
	return os.Rename(w.path()+".new", w.path())
}

func (w writer) Undo(_ context.Context, s *Session, a Act) error {
	if err := w.point(); err != nil {
		return err
	}
	os.Remove(w.path() + ".new")
	if s.Uninstalling() || a.Old == "" {
		if text := read(w.path()); text != "" && sum([]byte(text)) == a.Sum {
			return os.Remove(w.path())
		}
		return nil
	}
	if old := read(w.keep()); old == "" || read(w.path()) == old {
		os.Remove(w.keep())
		return nil
	}
	return os.Rename(w.keep(), w.path())
}

func (w writer) Finish(Act) error {
	if err := w.point(); err != nil {
		return err
	}
	os.Remove(w.keep())
	return nil
}

type world struct {
	t          *testing.T
	dir        string
	points     int // passed so far
	kill       int // at this point; 0 = never
	torn       bool
	killed     bool
	failSecond error
}

func (w *world) point() error {
	if w.points++; w.points == w.kill {
		w.killed = true
		return ErrKilled
	}
	return nil
}

func (w *world) files() string { return filepath.Join(w.dir, "files") }
func (w *world) state() string { return filepath.Join(w.dir, "state") }

func (w *world) steps(version string) []Step {
	return []Step{
		writer{dir: w.files(), name: "a", text: "a of " + version, point: w.point},
		writer{dir: w.files(), name: "b", text: "b of " + version, point: w.point, fail: w.failSecond},
	}
}

func planFor(action Action, version string) Plan {
	return Plan{Format: Format, Action: action, Version: version, Steps: []string{"write-a", "write-b"}}
}

// run starts the installer anew, as a process of its own would.
func (w *world) run(action Action, version string) Result {
	w.t.Helper()
	j, err := Load(w.state())
	if err != nil {
		w.t.Fatal(err)
	}
	j.Watch(func(b []byte) error {
		err := w.point()
		if err != nil && w.torn && j.file != nil && bytes.Count(b, []byte("\n")) == 1 { // not where the file is written anew
			j.file.Write(b[:len(b)/2]) // the power goes while the line is written
		}
		return err
	})
	defer j.close()
	return Run(context.Background(), j, planFor(action, version), w.steps(version), nil, nil)
}

// tree shows what is there.
func (w *world) tree() string {
	var out []string
	filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(w.dir, path); err == nil && !d.IsDir() && filepath.Dir(path) != w.state() {
			out = append(out, filepath.ToSlash(name)+"="+read(path))
		}
		return nil
	})
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir()}
	if memory, err := os.MkdirTemp("/dev/shm", "plan"); err == nil { // thousands of syncs are slow on a disk
		t.Cleanup(func() { os.RemoveAll(memory) })
		w.dir = memory
	}
	if err := os.Mkdir(w.files(), 0o700); err != nil {
		t.Fatal(err)
	}
	return w
}

const (
	nothing = ""
	one     = "files/a=a of 1\nfiles/b=b of 1"
	two     = "files/a=a of 2\nfiles/b=b of 2"
)

// TestKillEverywhere kills every kind of run at each place where something is
// written, whole or torn, and looks at what each kind of next run makes of it.
func TestKillEverywhere(t *testing.T) {
	type call struct {
		action  Action
		version string
		want    string
	}
	install1, install2, uninstall := call{Install, "1", one}, call{Install, "2", two}, call{Uninstall, "1", nothing}
	kills := 0
	for _, c := range []struct {
		before []call
		killed call
		next   []call
	}{
		{nil, install1, []call{install1, install2, uninstall}},
		{[]call{install1}, install2, []call{install1, install2, uninstall}},
		{[]call{install1}, uninstall, []call{install1, install2, uninstall}},
	} {
		for _, next := range c.next {
			for _, torn := range []bool{false, true} {
				for kill := 1; ; kill++ {
					w := newWorld(t)
					for _, b := range c.before {
						if r := w.run(b.action, b.version); !r.OK {
							t.Fatal(r.Error)
						}
					}
					w.points, w.kill, w.torn = 0, kill, torn
					w.run(c.killed.action, c.killed.version)
					if !w.killed {
						break // every point was tried
					}
					kills++
					w.kill = 0
					if r := w.run(next.action, next.version); !r.OK {
						t.Fatalf("%v killed at %d (torn %v), then %v: %s", c.killed, kill, torn, next, r.Error)
					}
					if got := w.tree(); got != next.want {
						t.Fatalf("%v killed at %d (torn %v), then %v:\n%s\nwant:\n%s", c.killed, kill, torn, next, got, next.want)
					}
					if next.action == Uninstall {
						if _, err := os.Stat(w.state()); !errors.Is(err, fs.ErrNotExist) {
							t.Fatalf("the journal is left: %v", err)
						}
					}
				}
			}
		}
	}
	t.Logf("%d kills", kills)
	if kills < 100 {
		t.Errorf("only %d kills", kills)
	}
}

// TestFailureIsTakenBack: a step that fails leaves what was there before.
func TestFailureIsTakenBack(t *testing.T) {
	w := newWorld(t)
	w.failSecond = errors.New("the disk is full")
	if r := w.run(Install, "1"); r.OK || !r.Undone || r.Step != "write-b" || r.Error != "the disk is full" {
		t.Errorf("%+v", r)
	}
	if got := w.tree(); got != nothing {
		t.Errorf("left: %s", got)
	}
	if _, err := os.Stat(w.state()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the journal is left: %v", err)
	}
	w.failSecond = nil
	if r := w.run(Install, "1"); !r.OK {
		t.Fatal(r.Error)
	}
	w.failSecond = errors.New("the disk is full")
	if r := w.run(Install, "2"); r.OK || !r.Undone {
		t.Errorf("%+v", r)
	}
	if got := w.tree(); got != one {
		t.Errorf("after a failed upgrade:\n%s", got)
	}
}

// TestCancel: giving up takes back what was done.
func TestCancel(t *testing.T) {
	w := newWorld(t)
	j, err := Load(w.state())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := Run(ctx, j, planFor(Install, "1"), w.steps("1"), nil, func(e Event) {
		if e.Step == "write-b" {
			cancel()
		}
	})
	if r.OK || !r.Undone || !strings.Contains(r.Error, "canceled") || w.tree() != nothing {
		t.Errorf("%+v, %s", r, w.tree())
	}
}

// TestForeignFileStays: what the user put in place of ours is not removed.
func TestForeignFileStays(t *testing.T) {
	w := newWorld(t)
	w.run(Install, "1")
	if err := os.WriteFile(filepath.Join(w.files(), "a"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := w.run(Uninstall, "1"); !r.OK || w.tree() != "files/a=mine" {
		t.Errorf("%+v\n%s", r, w.tree())
	}
}

func TestDamagedJournal(t *testing.T) {
	w := newWorld(t)
	w.run(Install, "1")
	b, _ := os.ReadFile(Path(w.state()))
	b[3] ^= 0xff
	if err := os.WriteFile(Path(w.state()), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(w.state()); err == nil || !strings.Contains(err.Error(), "damaged at byte 0") {
		t.Errorf("%v", err)
	}
}

// TestUnknownStep: a journal of a newer setup is not guessed at.
func TestUnknownStep(t *testing.T) {
	w := newWorld(t)
	w.run(Install, "1")
	j, err := Load(w.state())
	if err != nil {
		t.Fatal(err)
	}
	r := Run(context.Background(), j, planFor(Uninstall, "1"), w.steps("1")[:1], nil, nil)
	if r.OK || !strings.Contains(r.Error, `"write-b"`) || w.tree() != one {
		t.Errorf("%+v\n%s", r, w.tree())
	}
}

func TestPlanIsReadStrictly(t *testing.T) {
	good := `{"format":1,"action":"install","version":"1","stamp":0,"payload":"","scope":"system","prefix":"/usr/local","account":"u","components":["command"],"service":true,"packages":null,"kvm":false,"steps":["files"]}`
	p, err := Read(strings.NewReader(good + "\n"))
	if err != nil || !p.Has(Command) || p.Has(Window) || p.Scope != System {
		t.Fatalf("%+v, %v", p, err)
	}
	q := p
	q.Prefix = "/usr"
	if p.Hash() == q.Hash() || len(p.Hash()) != 64 {
		t.Error("the hash does not tell plans apart")
	}
	for _, bad := range []string{"", "null x", good + good, strings.Replace(good, `"format":1`, `"format":2`, 1), strings.Replace(good, `"kvm"`, `"run":"rm -r /","kvm"`, 1)} {
		if _, err := Read(strings.NewReader(bad)); err == nil {
			t.Errorf("taken: %s", bad)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`{"format":1}`)
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := Read(strings.NewReader(s)); err == nil {
			again, err := Read(strings.NewReader(string(must(p))))
			if err != nil || again.Hash() != p.Hash() {
				t.Errorf("%v: %v", p, err)
			}
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("{\"begin\":{}}\n{\"acts\":[{\"step\":\"a\"}]}\n{\"end\":\"stands\"}\n{\"beg"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(Path(dir), b, 0o600); err != nil {
			t.Fatal(err)
		}
		Load(dir)
	})
}

func must(p Plan) []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return b
}
