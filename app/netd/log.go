package netd

import (
	"fmt"
	"os"
	"sync"
)

// logLimit bounds the log file; one older file is kept beside it.
const logLimit = 1 << 20

// boundedLog is a log file that moves itself to PATH.1 when it has grown.
type boundedLog struct {
	path string

	mu   sync.Mutex // guards the fields below
	f    *os.File
	size int64
}

func openLog(path string) (*boundedLog, error) {
	l := &boundedLog{path: path}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return l, nil
}

func (l *boundedLog) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.f, l.size = f, st.Size()
	return nil
}

func (l *boundedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(p)) > logLimit && l.size > 0 {
		// Closed first: Windows does not rename what is open.
		l.f.Close()
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			os.Truncate(l.path, 0)
		}
		if err := l.open(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(p)
	l.size += int64(n)
	return n, err
}

func (l *boundedLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
