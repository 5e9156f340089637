package native

import (
	"io"
	"sync"

	"github.com/hxen-project/hxen/hv/backend/console"
)

// line is the guest's serial line, which outlives its machines' consoles.
type line struct {
	mu      sync.Mutex
	changed *sync.Cond
	console *console.Console // guarded by mu; of the present machine
	cutOff  bool             // guarded by mu; there will be no other
}

func newLine() *line {
	l := &line{}
	l.changed = sync.NewCond(&l.mu)
	return l
}

// plug puts the console of the next machine behind the line.
func (l *line) plug(c *console.Console) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.console = c
	l.changed.Broadcast()
}

// cut ends the line after what the present console still has.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutOff = true
	l.changed.Broadcast()
}

// Read reads what the guest writes; io.EOF after its end.
func (l *line) Read(p []byte) (int, error) {
	for c := l.first(); ; {
		n, err := c.Read(p)
		if err != io.EOF || n > 0 {
			return n, err
		}
		if c = l.after(c); c == nil {
			return 0, io.EOF
		}
	}
}

// Write types. What is typed between two machines waits for the next.
func (l *line) Write(p []byte) (int, error) {
	done := 0
	for c := l.first(); ; {
		n, err := c.Write(p[done:])
		done += n
		if err == nil {
			return done, nil
		}
		if c = l.after(c); c == nil {
			return done, io.ErrClosedPipe
		}
	}
}

func (l *line) first() *console.Console {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.console
}

// after waits for the console that follows c; nil if none does.
func (l *line) after(c *console.Console) *console.Console {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.console == c && !l.cutOff {
		l.changed.Wait()
	}
	if l.console == c {
		return nil
	}
	return l.console
}
