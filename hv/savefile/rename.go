package savefile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// errSharing is ERROR_SHARING_VIOLATION, winerror.h. Elsewhere the number is EPIPE,
// which no rename says.
const errSharing = syscall.Errno(32)

// patience is how long others are waited for; who looks at a file keeps it for less.
const patience = 2 * time.Second

// Rename is os.Rename with some patience: Windows refuses while anybody, if only a
// virus scanner, has the file that is to be moved or replaced open, or one in the
// folder that is to move. It tells nobody when that ends, and says the same to who
// may not do it.
func Rename(from, to string) error {
	for end, pause := time.Now().Add(patience), time.Millisecond; ; pause *= 2 {
		err := os.Rename(from, to)
		if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, errSharing) || time.Now().After(end) {
			return err
		}
		time.Sleep(pause)
	}
}
