package diskfile

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Clone makes dst, which must not exist, a copy of src that shares its room until
// one of them is written to (FICLONE: Btrfs, XFS, bcachefs). On an error there is
// no dst.
func Clone(src, dst string) error {
	from, err := os.Open(src)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		_ = os.Remove(dst)
		return fmt.Errorf("clone %s: %w", src, err)
	}
	return nil
}
