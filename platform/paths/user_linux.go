package paths

import "path/filepath"

// OfUser is the store of the user with this home folder, for a service that runs
// as them. (XDG_DATA_HOME is not known of another user.)
func OfUser(home string) (Store, error) { return At(filepath.Join(home, ".local", "share", "hxen")) }
