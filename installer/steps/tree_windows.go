package steps

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/windows"
)

// setAside renames a file that is about to be replaced: a program that runs can
// be renamed, but nothing can take its place.
func (t *tree) setAside(from, to string) error { return t.rename(from, to) }

// sameMode: Windows has no permission bits.
func sameMode(fs.FileInfo, uint32) bool { return true }

// removed begins the names of programs that were removed while they ran, in the
// folder for temporary files.
const removed = "hxen-removed-"

// moveAway removes a program that runs: it goes to where nobody misses it, and is
// deleted later. why is what kept it from being deleted, and is returned if this
// does not help.
func moveAway(name string, why error) error {
	if !errors.Is(why, windows.ERROR_ACCESS_DENIED) && !errors.Is(why, windows.ERROR_SHARING_VIOLATION) {
		return why
	}
	to := filepath.Join(os.TempDir(), removed+strings.ToLower(rand.Text())+filepath.Ext(name))
	if err := os.Rename(name, to); err != nil {
		to = name // on another disk, or for want of rights
	}
	// The setup itself is gone for good when it has ended: Sweep.
	if to != name && strings.EqualFold(filepath.Base(name), setupPath) {
		return nil
	}
	word, err := windows.UTF16PtrFromString(to)
	if err == nil {
		err = windows.MoveFileEx(word, nil, windows.MOVEFILE_DELAY_UNTIL_REBOOT)
	}
	if err != nil && to == name {
		return why
	}
	return nil // else it stays among the temporary files, which Windows tidies up
}

// leaveBehind is for an empty folder that a program is in: Windows removes it at its
// next start, if this user may ask for that.
func leaveBehind(name string, why error) error {
	if !errors.Is(why, windows.ERROR_SHARING_VIOLATION) {
		return why
	}
	if word, err := windows.UTF16PtrFromString(name); err == nil {
		_ = windows.MoveFileEx(word, nil, windows.MOVEFILE_DELAY_UNTIL_REBOOT)
	}
	return nil
}

// openShared opens a file that others may rename meanwhile, which os.Open does not
// allow.
func openShared(name string) (*os.File, error) {
	return os.OpenInRoot(filepath.Dir(name), filepath.Base(name))
}

// sweeping is what cmd.exe does: it tries for half a minute to delete what was
// moved away.
const sweeping = `/d /c for /l %i in (1,1,30) do @if exist ` + removed + `* ( ping -n 2 127.0.0.1 & del /f /q ` + removed + `* )`

// Sweep has deleted what was removed while it ran, this program too. It is for the
// very end of a program.
func Sweep() {
	if found, err := filepath.Glob(filepath.Join(os.TempDir(), removed+"*")); err != nil || len(found) == 0 {
		return
	}
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return
	}
	cmd := exec.Command(filepath.Join(dir, "cmd.exe"))
	cmd.Dir = os.TempDir()
	cmd.SysProcAttr = &syscall.SysProcAttr{CmdLine: `cmd.exe ` + sweeping, CreationFlags: windows.CREATE_NO_WINDOW | windows.CREATE_NEW_PROCESS_GROUP}
	_ = cmd.Start() // what is left is among the temporary files
}

// quiet keeps a console from opening for a program of the system.
func quiet(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW}
}
