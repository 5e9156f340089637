package hostsvc

import (
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// Installer is the account that the service gets: Windows makes one for it. It
// fails without an administrator's rights.
func Installer() (Account, error) {
	if !windows.GetCurrentProcessToken().IsElevated() {
		return Account{}, fmt.Errorf("a service is installed as administrator: open a terminal with \"Run as administrator\": %w", os.ErrPermission)
	}
	return Account{Name: VirtualAccount("hxen")}, nil
}
