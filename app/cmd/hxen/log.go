package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/term"

	"github.com/hxen-project/hxen/platform/hostsvc"
	"github.com/hxen-project/hxen/platform/paths"
)

// maxLog is when service.log is put aside for a new one.
const maxLog = 4 << 20

// logTo picks where the service logs: the terminal that it was started in, the
// manager's own log (journald takes standard error; Windows has its event log),
// else a file in the store.
func logTo(store paths.Store, managed bool) (*slog.Logger, io.Closer, error) {
	if managed && hostsvc.OwnLog() {
		if sink, err := hostsvc.EventLog(serviceName); err == nil && sink != nil {
			f, ferr := openRotating(store.Log(), maxLog)
			if ferr != nil {
				return nil, nil, ferr
			}
			return slog.New(slog.NewMultiHandler(slog.NewTextHandler(f, nil), sink)), f, nil
		}
		return slog.New(journal()), io.NopCloser(nil), nil
	}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		return slog.New(slog.NewTextHandler(os.Stderr, nil)), io.NopCloser(nil), nil
	}
	f, err := openRotating(store.Log(), maxLog)
	if err != nil {
		return nil, nil, err
	}
	return slog.New(slog.NewTextHandler(f, nil)), f, nil
}

// journal writes for journald, which knows the time and rotates: the priority in
// front of each line as sd-daemon(3) has it.
func journal() slog.Handler {
	return slog.NewTextHandler(&priorities{out: os.Stderr}, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch a.Key {
			case slog.TimeKey:
				return slog.Attr{}
			case slog.LevelKey:
				level, _ := a.Value.Any().(slog.Level)
				return slog.String(slog.LevelKey, priorityOf(level))
			}
			return a
		},
	})
}

func priorityOf(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

// priorities turns the handler's level=<N> at the start of a line into <N>.
type priorities struct{ out io.Writer }

func (p *priorities) Write(line []byte) (int, error) {
	const word = "level="
	text := line
	if len(text) > len(word) && string(text[:len(word)]) == word {
		text = text[len(word):]
		if text[0] == '"' { // the handler quotes it
			text = append([]byte(nil), text[1:4]...)
			text = append(text, line[len(word)+5:]...)
		}
	}
	if _, err := p.out.Write(text); err != nil {
		return 0, err
	}
	return len(line), nil
}

// rotating is a log file that is put aside when it has grown, with one older file.
type rotating struct {
	path string
	max  int64

	mu   sync.Mutex // guards the fields below
	f    *os.File
	size int64
}

func openRotating(path string, max int64) (*rotating, error) {
	r := &rotating{path: path, max: max}
	if err := r.open(); err != nil {
		return nil, fmt.Errorf("open the service's log: %w", err)
	}
	return r, nil
}

func (r *rotating) open() error {
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return err
	}
	r.f, r.size = f, fi.Size()
	return nil
}

// Write adds one record. A file that cannot be put aside goes on growing.
func (r *rotating) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size > r.max {
		old := r.f
		_ = old.Close() // Windows renames no open file
		rename := os.Rename(r.path, r.path+".1")
		if err := r.open(); err != nil {
			return 0, err
		}
		if rename != nil {
			r.size = 0 // tried again when as much has come again
		}
	}
	n, err := r.f.Write(b)
	r.size += int64(n)
	return n, err
}

func (r *rotating) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.f.Close()
}
