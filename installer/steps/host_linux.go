package steps

import (
	"github.com/hxen-project/hxen/installer/plan"
)

// hxenPath is the command line below the prefix.
const hxenPath = "bin/hxen"

// bases are the folders below which an installation may write.
func (s *Setup) bases(scope plan.Scope) []string {
	if scope == plan.User {
		return []string{s.Home}
	}
	return []string{s.Host.at("/usr/local"), s.Host.at("/opt")}
}

// Prefix is the folder that is proposed.
func (s *Setup) Prefix(scope plan.Scope) string {
	if scope == plan.User {
		return s.Home + "/.local"
	}
	return s.Host.at("/usr/local")
}

// desktopSteps make the desktop see what was copied.
func (s *Setup) desktopSteps(p plan.Plan, t *tree, admin bool) []part {
	if p.Action == plan.Install && !p.Has(plan.Window) {
		return nil
	}
	return []part{{&menus{host: s.Host, tree: t, prefix: p.Prefix}, admin}}
}

// accelSteps make the accelerator usable.
func (s *Setup) accelSteps(p plan.Plan) []part {
	return []part{{&kvm{host: s.Host, tree: s.tree(s.Host.at("/etc/udev/rules.d")), account: p.Account, group: s.Host.KVMGroup}, true}}
}
