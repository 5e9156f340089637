package savefile

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// What Windows says of a file that somebody has open: ERROR_ACCESS_DENIED and
// ERROR_SHARING_VIOLATION, winerror.h. Elsewhere the numbers are EIO and EPIPE, which a
// rename says of a disk that fails, and never.
const (
	errDenied  = syscall.Errno(5)
	errSharing = syscall.Errno(32)
)

// patience is how long others are waited for; who looks at a file keeps it for less.
const patience = 2 * time.Second

// Rename is os.Rename with some patience: Windows refuses while anybody, if only a
// virus scanner, has the file that is to be moved or replaced open, or one in the
// folder that is to move. It tells nobody when that ends, and says the same to who
// may not do it.
func Rename(from, to string) error {
	for end, pause := time.Now().Add(patience), time.Millisecond; ; pause *= 2 {
		err := os.Rename(from, to)
		if !errors.Is(err, errDenied) && !errors.Is(err, errSharing) || time.Now().After(end) {
			return err
		}
		time.Sleep(pause)
	}
}
