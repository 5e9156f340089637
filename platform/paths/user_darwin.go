package paths

import "path/filepath"

// OfUser is the store of the user with this home folder, for a service that runs
// as them.
func OfUser(home string) (Store, error) {
	return At(filepath.Join(home, "Library", "Application Support", "HXEN"))
}
