package steps

import (
	"os"
	"path/filepath"

	"github.com/hxen-project/hxen/installer/plan"
)

// hxenPath is the command line below the prefix.
const hxenPath = "hxen.exe"

func programFiles() string {
	if d := os.Getenv("ProgramFiles"); d != "" {
		return d
	}
	return `C:\Program Files`
}

// bases are the folders below which an installation may write.
func (s *Setup) bases(scope plan.Scope) []string {
	if scope == plan.User {
		return []string{s.Home}
	}
	return []string{programFiles()}
}

// Prefix is the folder that is proposed.
func (s *Setup) Prefix(scope plan.Scope) string {
	if scope == plan.User {
		return filepath.Join(s.Home, "AppData", "Local", "Programs", "HXEN")
	}
	return filepath.Join(programFiles(), "HXEN")
}

// desktopSteps are not there yet: shortcuts, PATH, the uninstall entry.
func (s *Setup) desktopSteps(plan.Plan, *tree, bool) []part { return nil }

// accelSteps are not there yet: the Windows Hypervisor Platform feature.
func (s *Setup) accelSteps(plan.Plan) []part { return nil }
