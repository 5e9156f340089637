package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"time"
)

// ErrLocked says that another process, or another part of this one, holds the lock.
var ErrLocked = errors.New("it is in use by another process")

// Lock is a held lock. It is free again when this process and every child that
// got File has closed it or ended, however they ended.
type Lock struct {
	f *os.File
}

// probeWait bounds how long TryLock yields to others that only look.
const probeWait = time.Second

// lockPoll is how often WaitFree looks: systems do not tell who waits without
// also holding.
const lockPoll = 25 * time.Millisecond

// TryLock takes the lock on the file path, which it makes if needed and which
// stays for ever. It does not wait: ErrLocked is returned if somebody holds it.
func TryLock(path string) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		ok, err := take(f)
		if err == nil && !ok {
			err = ErrLocked
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if isAt(f, path) {
			return &Lock{f: f}, nil
		}
		f.Close() // a lock on a file that others no longer see protects nothing
	}
}

// isAt reports whether f is still the file at path; it may have been removed or
// replaced between opening and locking.
func isAt(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(path)
	return err == nil && os.SameFile(mine, now)
}

// take locks f for this process alone. Those who only look (Held) hold a shared
// lock for an instant. They must not make a taker fail: when an exclusive lock
// is refused and a shared one granted, nobody but they was there.
func take(f *os.File) (bool, error) {
	for began := time.Now(); time.Since(began) < probeWait; runtime.Gosched() {
		if ok, err := lockFile(f, true); ok || err != nil {
			return ok, err
		}
		ok, err := lockFile(f, false)
		if !ok || err != nil {
			return false, err
		}
		if err := unlockFile(f); err != nil {
			return false, err
		}
	}
	return false, nil
}

// Close gives up this process's hold. It does not take the lock away from
// children that hold it.
func (l *Lock) Close() error { return l.f.Close() }

// Held reports whether somebody holds the lock on path. A file that does not
// exist is held by nobody. Looking never makes another's TryLock fail.
func Held(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at lock %s: %w", path, err)
	}
	defer f.Close()
	ok, err := lockFile(f, false)
	if err != nil {
		return false, fmt.Errorf("look at lock %s: %w", path, err)
	}
	return !ok, nil
}

// WaitFree waits until nobody holds the lock on path.
func WaitFree(ctx context.Context, path string) error {
	t := time.NewTicker(lockPoll)
	defer t.Stop()
	for {
		held, err := Held(path)
		if err != nil || !held {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for lock %s: %w", path, ctx.Err())
		case <-t.C:
		}
	}
}
