//go:build unix

package plan

import (
	"fmt"
	"os"
)

// syncDir makes the names in a folder last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write the installer's journal: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write the installer's journal: %w", err)
	}
	return nil
}
