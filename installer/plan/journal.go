package plan

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Journal is the file that knows what the installer did: one JSON record a line,
// each on disk before the change that it tells of is made. A torn last line
// (power cut while writing) counts as not written: its change was not begun.
//
//	{"begin": Plan}   a session starts
//	{"acts": [Act]}   these changes may have been made from here on
//	{"end": "stands"} the session's changes stand; what Undo would have needed can go
//	{"end": "settled"} that is gone
//
// After a session has ended the file is written anew with what stands.
type Journal struct {
	dir  string
	file *os.File
	torn int64 // where a torn line begins; -1 if there is none

	stands    []Act // acts of ended sessions, oldest first
	installed *Plan // the last ended session's
	open      *Plan // a session that has not ended
	acts      []Act // of the open session
	ended     bool  // the open session's end is written, the file not yet anew

	before func(record []byte) error // tests: see Watch
}

type record struct {
	Begin *Plan  `json:"begin,omitempty"`
	Acts  []Act  `json:"acts,omitempty"`
	End   string `json:"end,omitempty"`
}

// Ends of a session.
const (
	stands  = "stands"
	settled = "settled"
)

const (
	journalName = "journal"
	newName     = "journal.new"
)

// Watch has f called with what is about to be written, before each write. When f
// returns an error nothing is written. It is how tests play kills and full disks.
func (j *Journal) Watch(f func(record []byte) error) { j.before = f }

// Path is the journal's file in a folder.
func Path(dir string) string { return filepath.Join(dir, journalName) }

// Load reads the journal in folder dir. Nothing is made or changed by it; a
// journal that is not there is one of a computer without HXEN.
func Load(dir string) (*Journal, error) {
	j := &Journal{dir: dir, torn: -1}
	b, err := os.ReadFile(Path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the installer's journal: %w", err)
	}
	for off := 0; off < len(b); {
		n := bytes.IndexByte(b[off:], '\n')
		if n < 0 {
			j.torn = int64(off)
			break
		}
		var r record
		d := json.NewDecoder(bytes.NewReader(b[off : off+n]))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			return nil, fmt.Errorf("the installer's journal %s is damaged at byte %d: %w; put it back from a backup, or move it away to install anew beside what is there", Path(dir), off, err)
		}
		j.take(r)
		off += n + 1
	}
	return j, nil
}

func (j *Journal) take(r record) {
	switch {
	case r.Begin != nil:
		j.open, j.acts, j.ended = r.Begin, nil, false
	case r.End == stands:
		j.ended = true
	case r.End == settled:
		j.stands, j.installed = j.acts, j.open
		j.open, j.acts, j.ended = nil, nil, false
	default:
		j.acts = append(j.acts, r.Acts...)
	}
}

// Installed is the plan whose outcome stands; ok is false where there is none.
func (j *Journal) Installed() (p Plan, ok bool) {
	if j.ended { // and was killed before it had tidied up
		return *j.open, j.open.Action == Install
	}
	if j.installed == nil {
		return Plan{}, false
	}
	return *j.installed, true
}

// Interrupted is the plan of a run that neither ended nor was taken back, or that
// has removed everything but the journal.
func (j *Journal) Interrupted() (p Plan, ok bool) {
	if j.open == nil || j.ended && j.open.Action == Install {
		return Plan{}, false
	}
	return *j.open, true
}

// Pending lists what an interrupted run noted; it is gone on with, or taken back.
func (j *Journal) Pending() []Act {
	if j.ended {
		return nil
	}
	return slices.Clone(j.acts)
}

// Stands lists the acts of ended sessions, oldest first.
func (j *Journal) Stands() []Act { return slices.Clone(j.stands) }

// write puts one record at the end of the file, and onto the disk.
func (j *Journal) write(r record) error {
	if j.file == nil {
		if err := os.MkdirAll(j.dir, 0o755); err != nil {
			return fmt.Errorf("write the installer's journal: %w", err)
		}
		f, err := os.OpenFile(Path(j.dir), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return fmt.Errorf("write the installer's journal: %w", err)
		}
		j.file = f
		if err := syncDir(j.dir); err != nil {
			return err
		}
	}
	if j.torn >= 0 {
		// Not through j.file: on Windows what may only append may not cut.
		if err := os.Truncate(Path(j.dir), j.torn); err != nil {
			return fmt.Errorf("mend the installer's journal: %w", err)
		}
		j.torn = -1
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the installer's journal: %w", err)
	}
	b = append(b, '\n')
	if j.before != nil {
		if err := j.before(b); err != nil {
			return err
		}
	}
	_, err = j.file.Write(b)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("write the installer's journal: %w", err)
	}
	j.take(r)
	return nil
}

func (j *Journal) begin(p Plan) error { return j.write(record{Begin: &p}) }

func (j *Journal) intend(acts []Act) error { return j.write(record{Acts: acts}) }

func (j *Journal) end() error { return j.write(record{End: stands}) }

// merged is what stands when the open session does.
func (j *Journal) merged() []Act {
	out := slices.Clone(j.stands)
	for _, a := range j.acts {
		out = slices.DeleteFunc(out, func(b Act) bool { return b.Key() == a.Key() })
		if !a.Gone {
			out = append(out, a)
		}
	}
	return out
}

// settle writes the file anew: with what stands after the open session has
// ended, or without the open session if that was taken back.
func (j *Journal) settle() error {
	acts, p := j.stands, j.installed
	if j.ended {
		acts, p = j.merged(), j.open
	}
	if p == nil || p.Action == Uninstall {
		return j.remove()
	}
	if err := j.rewrite(acts, p); err != nil {
		return err
	}
	j.stands, j.installed, j.torn = acts, p, -1
	j.open, j.acts, j.ended = nil, nil, false
	return nil
}

func (j *Journal) rewrite(acts []Act, p *Plan) error {
	var all bytes.Buffer
	w := bufio.NewWriter(&all)
	e := json.NewEncoder(w)
	for _, r := range []record{{Begin: p}, {Acts: acts}, {End: settled}} {
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("write the installer's journal: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the installer's journal: %w", err)
	}
	if j.before != nil {
		if err := j.before(all.Bytes()); err != nil {
			return err
		}
	}
	name := filepath.Join(j.dir, newName)
	err := func() error {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Write(all.Bytes()); err != nil {
			return err
		}
		return f.Sync()
	}()
	if err == nil {
		j.close() // a file that is open cannot be replaced on Windows
		err = os.Rename(name, Path(j.dir))
	}
	if err != nil {
		return fmt.Errorf("write the installer's journal: %w", err)
	}
	return syncDir(j.dir)
}

// remove deletes the journal, and its folder if nothing else is in it.
func (j *Journal) remove() error {
	if j.before != nil {
		if err := j.before(nil); err != nil {
			return err
		}
	}
	j.close()
	for _, name := range []string{newName, journalName} {
		if err := os.Remove(filepath.Join(j.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the installer's journal: %w", err)
		}
	}
	os.Remove(j.dir) // the lock may still be in it
	*j = Journal{dir: j.dir, torn: -1, before: j.before}
	return nil
}

func (j *Journal) close() {
	if j.file != nil {
		j.file.Close()
		j.file = nil
	}
}
