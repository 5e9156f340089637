package paths

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

// OfUser is the store of the service, which on Windows belongs to no user.
func OfUser(string) (Store, error) {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
	if err != nil {
		return Store{}, err
	}
	return At(filepath.Join(dir, "HXEN"))
}
