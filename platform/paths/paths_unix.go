//go:build unix

package paths

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const exeSuffix = ""

func runDir(tag string) string {
	// A folder that systemd made for its service, systemd.exec(5).
	if d := os.Getenv("RUNTIME_DIRECTORY"); filepath.IsAbs(d) && len(d) < 40 {
		return filepath.Join(d, tag)
	}
	if d := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(d) && len(d) < 40 {
		return filepath.Join(d, "hxen", tag)
	}
	return filepath.Join("/tmp", fmt.Sprintf("hxen-%d-%s", os.Getuid(), tag))
}

// serviceData: the computer's service runs as the user and has their own store.
func serviceData() (string, bool) { return "", false }

func socket(run, id, kind string) string { return filepath.Join(run, id+"."+kind) }

func lookPath(name string) (string, error) {
	p, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside this program nor in PATH: install HXEN's programs into one folder", name)
	}
	return p, nil
}
