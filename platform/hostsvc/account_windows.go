package hostsvc

import (
	"fmt"
	"os"

	"golang.org/x/sys/windows"

	"github.com/hxen-project/hxen/platform/access"
)

// Installer is the account that the service gets, which Windows makes for it, and
// for whom it is: this user, or whom the setup names, as an administrator's password
// makes another user of it. It fails without an administrator's rights.
func Installer() (Account, error) {
	if !windows.GetCurrentProcessToken().IsElevated() {
		return Account{}, fmt.Errorf("a service is installed as administrator: open a terminal with \"Run as administrator\": %w", os.ErrPermission)
	}
	a := Account{Name: VirtualAccount(access.ServiceName), Owner: access.Me()}
	if name := os.Getenv("SUDO_USER"); name != "" {
		var err error
		if a.Owner, err = access.SID(name); err != nil {
			return Account{}, err
		}
	}
	return a, nil
}
