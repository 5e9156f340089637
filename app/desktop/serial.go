package desktop

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
	"github.com/fyne-io/terminal"

	"github.com/hxen-project/hxen/app/desktop/screen"
	"github.com/hxen-project/hxen/app/text"
)

// serial is the terminal on a guest's serial line, and what scrolled out of it.
type serial struct {
	frame  *frame
	line   *consoleSerial
	term   *terminal.Terminal
	keys   *lineKeys
	onGrab func(bool) // keys go to the line, or no longer
	root   *fyne.Container
	back   *fyne.Container
	list   *lineList
	toggle *button
}

func newSerial(f *frame, dial func(context.Context) (io.ReadWriteCloser, error)) *serial {
	return &serial{frame: f, line: newConsoleSerial(dial)}
}

// view makes the terminal when it is first looked at: until then nothing is
// dialled and nothing drawn.
func (s *serial) view() fyne.CanvasObject {
	if s.root != nil {
		return s.root
	}
	s.term = terminal.New()
	s.keys = newLineKeys(s)
	s.list = newLineList()
	copyAll := s.frame.iconButton(text.T("Copy all"), theme.ContentCopyIcon(), func() {
		s.frame.app.fyne.Clipboard().SetContent(strings.Join(s.list.lines, "\n"))
	})
	s.back = container.NewBorder(nil, container.NewHBox(copyAll), nil, nil, s.list.list)
	s.back.Hide()
	s.toggle = s.frame.iconButton(text.T("Scroll back"), theme.MoveUpIcon(), s.scrollBack)
	s.toggle.Importance = widget.LowImportance
	foot := container.NewBorder(nil, nil, s.toggle, nil)
	s.root = container.NewBorder(nil, foot, nil, nil, container.NewStack(s.keys, s.term, s.back))
	go func() { _ = s.term.RunWithConnection(s.line, s.line) }() // ends when line closes; then nobody looks
	return s.root
}

// scrollBack shows what the line said so far, or the terminal again.
func (s *serial) scrollBack() {
	if s.back.Visible() {
		s.back.Hide()
		s.term.Show()
		s.toggle.SetText(text.T("Scroll back"))
		s.focus()
		return
	}
	s.term.Hide()
	s.back.Show()
	s.list.set(s.line.history())
	s.list.list.ScrollToBottom()
	s.toggle.SetText(text.T("Back to the terminal"))
}

func (s *serial) focus() {
	if s.keys != nil {
		s.frame.win.Canvas().Focus(s.keys)
	}
}

// typeIn types words as they are, a line's end as Enter.
func (s *serial) typeIn(words string) {
	_, _ = s.line.Write([]byte(strings.NewReplacer("\r\n", "\r", "\n", "\r").Replace(words))) // it has no error
}

// lineKeys has the keyboard in the terminal's place and hands all keys on to it:
// the terminal alone would keep them for good. As in the guest's screen, the release
// key, pressed and let go of by itself, gives the keyboard back.
type lineKeys struct {
	widget.BaseWidget
	serial *serial
	alone  bool // the release key is down, and no other came since
}

func newLineKeys(s *serial) *lineKeys {
	k := &lineKeys{serial: s}
	k.ExtendBaseWidget(k)
	return k
}

var (
	_ desktop.Keyable   = (*lineKeys)(nil)
	_ fyne.Tabbable     = (*lineKeys)(nil)
	_ fyne.Shortcutable = (*lineKeys)(nil)
)

func (k *lineKeys) CreateRenderer() fyne.WidgetRenderer {
	return widget.NewSimpleRenderer(layoutGap(0))
}

func (k *lineKeys) FocusGained() {
	k.alone = false
	k.serial.term.FocusGained()
	k.serial.onGrab(true)
}

// FocusLost takes the keyboard back from the terminal, to which a click gives it.
func (k *lineKeys) FocusLost() {
	k.serial.term.FocusLost()
	k.serial.onGrab(false)
	screen.Do(func() {
		if c := k.serial.frame.win.Canvas(); c.Focused() == fyne.Focusable(k.serial.term) {
			c.Focus(k)
		}
	})
}

func (k *lineKeys) AcceptsTab() bool              { return true }
func (k *lineKeys) TypedRune(r rune)              { k.serial.term.TypedRune(r) }
func (k *lineKeys) TypedShortcut(s fyne.Shortcut) { k.serial.term.TypedShortcut(s) }

// release reports whether a key is the one that gives the keyboard back.
func (k *lineKeys) release(e *fyne.KeyEvent) bool {
	return e.Name == k.serial.frame.app.releaseKey().fyne
}

// TypedKey implements fyne.Focusable.
func (k *lineKeys) TypedKey(e *fyne.KeyEvent) {
	if !k.release(e) {
		k.serial.term.TypedKey(e)
	}
}

func (k *lineKeys) KeyDown(e *fyne.KeyEvent) {
	k.alone = k.release(e)
	k.serial.term.KeyDown(e)
}

func (k *lineKeys) KeyUp(e *fyne.KeyEvent) {
	k.serial.term.KeyUp(e)
	if k.alone && k.release(e) {
		k.alone = false
		k.serial.frame.win.Canvas().Unfocus()
	}
}

func (s *serial) close() { s.line.Close() }

// historyLines is how many lines of a serial line are kept.
const historyLines = 5000

// consoleSerial is one stream to the terminal that outlives the service's: it
// dials again when the line drops and ends only when it is closed, as the
// terminal knows no second connection.
type consoleSerial struct {
	dial func(context.Context) (io.ReadWriteCloser, error)
	ctx  context.Context
	stop context.CancelFunc
	say  []byte // read before the line, by the reader alone

	mu    sync.Mutex
	conn  io.ReadWriteCloser // mu
	lines []string           // mu
	last  lineCleaner        // mu
}

func newConsoleSerial(dial func(context.Context) (io.ReadWriteCloser, error)) *consoleSerial {
	c := &consoleSerial{dial: dial}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// Bounds of the wait between dials.
const (
	serialFirst = 200 * time.Millisecond
	serialMost  = 3 * time.Second
)

// Read implements io.Reader. Its only error is io.EOF, after Close.
func (c *consoleSerial) Read(b []byte) (int, error) {
	if len(c.say) > 0 {
		n := copy(b, c.say)
		c.say = c.say[n:]
		return n, nil
	}
	for {
		conn := c.connected()
		if conn == nil {
			return 0, io.EOF
		}
		n, err := conn.Read(b)
		if n > 0 {
			c.record(b[:n])
			screen.Stir() // the terminal shows it by fyne.Do
			return n, nil
		}
		if err != nil {
			conn.Close()
			c.mu.Lock()
			c.conn = nil
			c.mu.Unlock()
			if c.ctx.Err() == nil {
				c.say = []byte("\r\n\x1b[2m" + text.T("[connection lost, waiting]") + "\x1b[0m\r\n")
				return c.Read(b)
			}
		}
	}
}

// connected returns the connection, dialling until there is one; nil after Close.
func (c *consoleSerial) connected() io.ReadWriteCloser {
	wait := serialFirst
	for c.ctx.Err() == nil {
		c.mu.Lock()
		conn := c.conn
		c.mu.Unlock()
		if conn != nil {
			return conn
		}
		conn, err := c.dial(c.ctx)
		if err == nil {
			c.mu.Lock()
			c.conn = conn
			c.mu.Unlock()
			if c.ctx.Err() != nil {
				conn.Close()
			}
			continue
		}
		select {
		case <-c.ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, serialMost)
	}
	return nil
}

// Write implements io.Writer; without a connection keys are dropped, as on a
// line that is not plugged in.
func (c *consoleSerial) Write(b []byte) (int, error) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return len(b), nil
	}
	if _, err := conn.Write(b); err != nil {
		return len(b), nil // the reader sees the same and dials again
	}
	return len(b), nil
}

// Close ends the stream.
func (c *consoleSerial) Close() error {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
	}
	return nil
}

// record keeps what was said, without the terminal's controls.
func (c *consoleSerial) record(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range string(b) {
		if line, done := c.last.take(r); done {
			c.lines = append(c.lines, line)
		}
	}
	if over := len(c.lines) - historyLines; over > 0 {
		c.lines = append(c.lines[:0], c.lines[over:]...)
	}
}

func (c *consoleSerial) history() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(append([]string(nil), c.lines...), c.last.text())
}

// lineCleaner turns terminal output into plain lines: ECMA-48 control and
// escape sequences are dropped, a carriage return begins the line again.
type lineCleaner struct {
	line  []rune
	col   int
	state cleanState
}

type cleanState int

const (
	plainText cleanState = iota
	afterEsc
	inCSI
	inString // OSC, DCS and their like, until BEL or ST
	inStringEsc
	inCharset
)

// lineMost bounds a line that never ends.
const lineMost = 4096

func (l *lineCleaner) text() string { return strings.TrimRight(string(l.line), " ") }

func (l *lineCleaner) take(r rune) (string, bool) {
	switch l.state {
	case afterEsc:
		switch r {
		case '[':
			l.state = inCSI
		case ']', 'P', '_', '^', 'X':
			l.state = inString
		case '(', ')', '*', '+', '#', '%':
			l.state = inCharset
		default:
			l.state = plainText
		}
		return "", false
	case inCSI:
		if r >= 0x40 && r <= 0x7e {
			l.state = plainText
		}
		return "", false
	case inString:
		switch r {
		case 0x07:
			l.state = plainText
		case 0x1b:
			l.state = inStringEsc
		}
		return "", false
	case inStringEsc, inCharset:
		l.state = plainText
		return "", false
	}
	switch {
	case r == 0x1b:
		l.state = afterEsc
	case r == '\n':
		s := l.text()
		l.line, l.col = l.line[:0], 0
		return s, true
	case r == '\r':
		l.col = 0
	case r == '\b':
		l.col = max(0, l.col-1)
	case r == '\t':
		for n := 8 - l.col%8; n > 0; n-- {
			l.put(' ')
		}
	case r >= ' ' && r != 0x7f:
		l.put(r)
	}
	return "", false
}

func (l *lineCleaner) put(r rune) {
	if l.col >= lineMost {
		return
	}
	for len(l.line) <= l.col {
		l.line = append(l.line, ' ')
	}
	l.line[l.col] = r
	l.col++
}
