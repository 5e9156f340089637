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

// setupState is below the user's home.
const setupState = "Library/Application Support"

func setupRoot() string { return "/Library/Application Support/hxen-setup" }
