package proc

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// File is nil: on Windows a lock belongs to one process and no child can hold
// it too. Children that must not outlive the holder are started with
// DieWithParent, whose job object ends them with it.
func (l *Lock) File() *os.File { return nil }

// lockedByte lies far behind any content: LockFileEx keeps others from reading
// what it locks, and the file's text is for everybody.
func lockedByte() *windows.Overlapped {
	return &windows.Overlapped{Offset: 0xfffffffe, OffsetHigh: 0x7fffffff}
}

func lockFile(f *os.File, exclusive bool) (ok bool, err error) {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if exclusive {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err = windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, lockedByte())
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return false, nil
	}
	return err == nil, err
}

func unlockFile(f *os.File) error {
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, lockedByte())
}
