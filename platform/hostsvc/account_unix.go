//go:build unix

package hostsvc

import (
	"fmt"
	"os"
	"os/user"
)

// Installer is the person for whom a program with root's rights installs: who
// called sudo or pkexec, else root. It fails without root's rights.
func Installer() (Account, error) {
	if os.Geteuid() != 0 {
		return Account{}, fmt.Errorf("a service of the computer is installed as root: put sudo before the command, or install one of your own with --user: %w", os.ErrPermission)
	}
	u, err := user.Current()
	if name := os.Getenv("SUDO_USER"); name != "" {
		u, err = user.Lookup(name)
	} else if id := os.Getenv("PKEXEC_UID"); id != "" {
		u, err = user.LookupId(id)
	}
	if err != nil {
		return Account{}, fmt.Errorf("find the user to run the service as: %w", err)
	}
	a := Account{Name: u.Username, Home: u.HomeDir}
	if _, err := user.LookupGroup("kvm"); err == nil {
		a.Groups = []string{"kvm"} // who may use /dev/kvm; a group that is not there keeps systemd from starting the service
	}
	return a, nil
}
