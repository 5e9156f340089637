package paths

import (
	"os"
	"path/filepath"
)

// userData is the XDG Base Directory Specification's data home.
func userData() (string, error) {
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "hxen"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "share", "hxen"), nil
}

// setupState is below the user's home.
const setupState = ".local/state"

func setupRoot() string { return "/var/lib/hxen-setup" }
