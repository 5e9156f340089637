package paths

import (
	"fmt"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/windows"
)

const exeSuffix = ".exe"

func userData() (string, error) {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_LocalAppData, 0)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "HXEN"), nil
}

// runDir is a namespace of pipe names, not a folder.
func runDir(tag string) string { return `\\.\pipe\hxen-` + tag }

func socket(run, id, kind string) string { return run + "-" + id + "." + kind }

func lookPath(name string) (string, error) {
	p, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside this program nor in PATH: install HXEN's programs into one folder", name)
	}
	return p, nil
}

// setupState is below the user's profile.
const setupState = `AppData\Local`

func setupRoot() string {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
	if err != nil {
		dir = `C:\ProgramData`
	}
	return filepath.Join(dir, "hxen-setup")
}
