//go:build unix

package elevate

import "os"

// Admin reports whether this process may change the system.
func Admin() bool { return os.Geteuid() == 0 }
