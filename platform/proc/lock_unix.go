//go:build linux || darwin

package proc

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// File is the lock's descriptor: a child that gets it in Command.ExtraFiles
// holds the lock too, until it ends. flock(2) belongs to the open file, which
// parent and child share; for the same reason Close must not unlock.
func (l *Lock) File() *os.File { return l.f }

func lockFile(f *os.File, exclusive bool) (ok bool, err error) {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	err = flock(f, how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func unlockFile(f *os.File) error { return flock(f, unix.LOCK_UN) }

func flock(f *os.File, how int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	err = raw.Control(func(fd uintptr) {
		for {
			if ferr = unix.Flock(int(fd), how); !errors.Is(ferr, unix.EINTR) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return ferr
}
