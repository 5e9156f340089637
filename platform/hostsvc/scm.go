package hostsvc

import (
	"time"

	"github.com/kardianos/service"
)

// VirtualAccount is the account that Windows makes for a service of this name.
func VirtualAccount(name string) string { return `NT SERVICE\` + name }

// scmConfig is what kardianos registers with Windows' service control manager.
// wine knows no delayed start.
func scmConfig(d Desired, wine bool) *service.Config {
	env := map[string]string{}
	for _, e := range d.Env {
		for i := range e {
			if e[i] == '=' {
				env[e[:i]] = e[i+1:]
				break
			}
		}
	}
	account := d.User.Name
	if wine {
		account = "" // and no virtual accounts
	}
	return &service.Config{
		Name: d.Name, DisplayName: "HXEN virtual machines",
		Description: "Runs virtual machines, and starts those that are to start with the computer.",
		Executable:  d.Program, Arguments: d.Args, UserName: account, EnvVars: env,
		Option: service.KeyValue{
			"StartType":              "automatic",
			"DelayedAutoStart":       !wine,
			"OnFailure":              "restart",
			"OnFailureDelayDuration": (5 * time.Second).String(),
			"OnFailureResetPeriod":   60,
		},
	}
}
