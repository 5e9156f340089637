package steps

import (
	"strings"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/platform/hostinfo"
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

// canAsk reports whether an administrator can be asked for.
func (s *Setup) canAsk() bool { return s.Host.has("pkexec") || s.Host.has("sudo") }

// Serves reports whether a service can start guests for this scope.
func Serves(plan.Scope) bool { return true }

// AccelOption is what plan.Options.KVM is called here, and what it does.
func AccelOption() (name, what string) {
	return text.T("Let me use KVM"), text.T("Adds you to the group that may use it; log in again afterwards.")
}

// accelFix: the group of /dev/kvm can be joined.
func (s *Setup) accelFix(c hostinfo.Check) Fix {
	if c.ID == "accelerator.kvm" && s.Account != "root" && strings.Contains(c.Cure+c.Detail, "group") {
		return FixKVM
	}
	return ""
}
