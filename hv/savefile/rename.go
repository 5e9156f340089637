package savefile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// renameWait is how long a file's readers may keep it from being replaced.
const renameWait = 2 * time.Second

// Rename is os.Rename over a file that somebody may be reading: Windows replaces no
// file that is open, so it is tried again until the reader has closed it.
func Rename(from, to string) error {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		err := os.Rename(from, to)
		if err == nil || !inUse(err) || time.Since(began) > renameWait {
			return err
		}
	}
}

// inUse: Windows says that access is denied, or ERROR_SHARING_VIOLATION (32), which
// on other systems is the number of an error that no rename gives.
func inUse(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.Errno(32))
}
