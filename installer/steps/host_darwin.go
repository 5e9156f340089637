package steps

import (
	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/platform/hostinfo"
)

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

// commandPath is where the Terminal looks for commands of everybody.
const commandPath = "/usr/local/bin/hxen"

// desktopSteps: the Finder looks at applications by itself. The command line is
// found by a link, which a user alone has no place for.
func (s *Setup) desktopSteps(p plan.Plan, _ *tree, admin bool) []part {
	if p.Scope == plan.User {
		return nil
	}
	return []part{{&link{tree: s.tree(s.Host.at("/usr/local")), file: s.Host.at(commandPath), target: s.hxen(p)}, admin}}
}

// accelSteps: Hypervisor.framework needs the program's entitlement and no more.
func (s *Setup) accelSteps(plan.Plan) []part { return nil }

// canAsk: macOS asks anybody for an administrator's name and password.
func (s *Setup) canAsk() bool { return true }

// Serves reports whether a service can start guests for this scope.
func Serves(plan.Scope) bool { return true }

// AccelOption is not offered: nothing has to be switched on.
func AccelOption() (name, what string) { return "", "" }

// accelFix: only the user can do something.
func (s *Setup) accelFix(hostinfo.Check) Fix { return "" }
