//go:build unix

package steps

import (
	"io/fs"
	"os"
	"os/exec"
)

// setAside keeps a file that is about to be replaced under a second name, so that
// there is always one under the first.
func (t *tree) setAside(from, to string) error { return t.link(from, to) }

// sameMode reports whether a file has these permission bits.
func sameMode(st fs.FileInfo, mode uint32) bool { return uint32(st.Mode().Perm()) == mode }

// moveAway is for systems where a program that runs cannot be removed.
func moveAway(_ string, why error) error { return why }

// leaveBehind is for systems where a folder that a program is in cannot be removed.
func leaveBehind(_ string, why error) error { return why }

// openShared opens a file that others may rename meanwhile.
func openShared(name string) (*os.File, error) { return os.Open(name) }

// Sweep is for systems where a program that runs cannot be removed.
func Sweep() {}

// quiet is for systems where a program without a window may open one.
func quiet(*exec.Cmd) {}

// journalDir makes the folder of a journal: its parents belong to root, or are the
// user's own.
func (s *Setup) journalDir(dir string) (made []string, err error) { return mkdirs(dir) }
