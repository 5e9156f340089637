package paths

import (
	"os"
	"path/filepath"
)

func userData() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, "Library", "Application Support", "HXEN"), nil
}
