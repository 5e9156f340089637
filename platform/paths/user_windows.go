package paths

import (
	"path/filepath"

	"golang.org/x/sys/windows"

	"github.com/hxen-project/hxen/platform/access"
)

// OfUser is the store of the service, which on Windows belongs to no user.
func OfUser(string) (Store, error) {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
	if err != nil {
		return Store{}, err
	}
	return At(filepath.Join(dir, "HXEN"))
}

// serviceData is the store of the computer's service, if that has this user's guests.
// Everybody can make folders in ProgramData, so that one of somebody else's making
// is not believed.
func serviceData() (string, bool) {
	s, err := OfUser("")
	if err != nil {
		return "", false
	}
	owner := s.Owner()
	return s.Root, owner != "" && owner == access.Me() && access.Trusted(s.Root) == nil
}
