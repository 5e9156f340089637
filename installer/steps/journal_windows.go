package steps

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/windows"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/platform/paths"
)

// journalAccess lets administrators and the system write, and everybody read. What
// stands in the journal is taken back with an administrator's rights, and everybody
// may make folders in ProgramData.
const journalAccess = "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FRFX;;;BU)"

// sizeOfSecurityAttributes is that of SECURITY_ATTRIBUTES, which we fill in.
const sizeOfSecurityAttributes = 24

// journalDir makes the folder of a journal; that of what was done as administrator
// only administrators may write to.
func (s *Setup) journalDir(dir string) (made []string, err error) {
	root := s.Host.at(paths.SetupDir("", ""))
	if dir != root && !strings.HasPrefix(dir, root+`\`) {
		return mkdirs(dir)
	}
	_, err = os.Lstat(root)
	var own []string
	if errors.Is(err, fs.ErrNotExist) {
		own, err = []string{root}, protected(root)
	} else if err == nil {
		err = trusted(root)
	}
	if err != nil {
		return nil, err
	}
	made, err = mkdirs(dir)
	return append(made, own...), err
}

// protected makes a folder that only administrators may write to.
func protected(dir string) error {
	sd, err := windows.SecurityDescriptorFromString(journalAccess)
	if err != nil {
		return fmt.Errorf("protect %s: %w", dir, err)
	}
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return err
	}
	if err := windows.CreateDirectory(name, &windows.SecurityAttributes{Length: sizeOfSecurityAttributes, SecurityDescriptor: sd}); err != nil {
		return &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return nil
}

// trusted refuses a folder that neither an administrator nor this user has made.
func trusted(dir string) error {
	sd, err := windows.GetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("ask who owns %s: %w", dir, err)
	}
	owner, _, err := sd.Owner()
	if err != nil || owner == nil {
		return fmt.Errorf("ask who owns %s: %w", dir, errors.Join(err, fs.ErrPermission))
	}
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("find out who you are: %w", err)
	}
	if owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) || owner.IsWellKnown(windows.WinLocalSystemSid) || owner.Equals(me.User.Sid) {
		return nil
	}
	return errors.New(text.T("%s is somebody else's, who may want the setup to take back what was never done; remove it as administrator", dir))
}
