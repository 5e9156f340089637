package steps

import "github.com/hxen-project/hxen/installer/plan"

// hxenPath is the command line below the prefix.
const hxenPath = "HXEN.app/Contents/MacOS/hxen"

// bases are the folders below which an installation may write.
func (s *Setup) bases(scope plan.Scope) []string {
	if scope == plan.User {
		return []string{s.Home}
	}
	return []string{s.Host.at("/Applications"), s.Host.at("/usr/local")}
}

// Prefix is the folder that is proposed.
func (s *Setup) Prefix(scope plan.Scope) string {
	if scope == plan.User {
		return s.Home + "/Applications"
	}
	return s.Host.at("/Applications")
}

// desktopSteps: the Finder looks at applications by itself.
func (s *Setup) desktopSteps(plan.Plan, *tree, bool) []part { return nil }

// accelSteps: Hypervisor.framework needs the program's entitlement and no more.
func (s *Setup) accelSteps(plan.Plan) []part { return nil }
