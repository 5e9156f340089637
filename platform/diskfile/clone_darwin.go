package diskfile

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Clone makes dst, which must not exist, a copy of src that shares its room until
// one of them is written to (clonefile: APFS).
func Clone(src, dst string) error {
	if err := unix.Clonefile(src, dst, 0); err != nil {
		return fmt.Errorf("clone %s: %w", src, err)
	}
	return nil
}
