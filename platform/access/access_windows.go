package access

import (
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strings"
	"unicode/utf16"

	"golang.org/x/sys/windows"
)

// Me is the security identifier of the user that this program runs as; empty if
// Windows does not tell.
func Me() string {
	u, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return ""
	}
	return u.User.Sid.String()
}

// services is what the identifiers of services' accounts begin with; only the
// service manager can run something as one.
const services = "S-1-5-80-"

// Service is the security identifier of the account that Windows makes for HXEN's
// service. It follows from the name, so that rights can be given before the service
// is registered: the SHA-1 of the name in upper case ([MS-DTYP] 2.4.2.4 names the
// form, "sc showsid" prints it).
func Service() string { return serviceSID(ServiceName) }

func serviceSID(name string) string {
	var b []byte
	for _, c := range utf16.Encode([]rune(strings.ToUpper(name))) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	sum := sha1.Sum(b)
	sid := strings.TrimSuffix(services, "-")
	for i := 0; i < len(sum); i += 4 {
		sid += fmt.Sprintf("-%d", binary.LittleEndian.Uint32(sum[i:]))
	}
	return sid
}

// SID is the security identifier of the account with this name, as DOMAIN\name or
// name alone.
func SID(account string) (string, error) {
	if u, err := user.Current(); err == nil && strings.EqualFold(u.Username, account) {
		return u.Uid, nil // names of accounts that live elsewhere cannot always be looked up
	}
	sid, _, _, err := windows.LookupSID("", account)
	if err != nil {
		return "", fmt.Errorf("find the account %s: %w", account, err)
	}
	return sid.String(), nil
}

// ErrForeign says that a folder is somebody else's.
var ErrForeign = errors.New("somebody else has made it")

// Trusted refuses a folder that somebody else may have made, as everybody may in
// ProgramData: all but this user, administrators, the system and services.
func Trusted(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !st.IsDir() { // a link leads to where its maker wants
		return fmt.Errorf("%s is not a folder: %w", dir, ErrForeign)
	}
	sd, err := windows.GetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("ask who owns %s: %w", dir, err)
	}
	owner, _, err := sd.Owner()
	if err != nil || owner == nil {
		return fmt.Errorf("ask who owns %s: %w", dir, errors.Join(err, fs.ErrPermission))
	}
	if owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) || owner.IsWellKnown(windows.WinLocalSystemSid) ||
		owner.String() == Me() || strings.HasPrefix(owner.String(), services) {
		return nil
	}
	return fmt.Errorf("%s: %w", dir, ErrForeign)
}

// Protect makes a folder that administrators, the system and who is named may use,
// and nobody else. One that is there has its access list replaced, and with it all
// that it holds; it must be Trusted.
func Protect(dir string, who ...string) error {
	list := "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
	for _, w := range who {
		list += "(A;OICI;FA;;;" + w + ")"
	}
	err := Make(dir, list)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := Trusted(dir); err != nil {
		return err
	}
	sd, err := windows.SecurityDescriptorFromString(list)
	if err != nil {
		return fmt.Errorf("protect %s: %w", dir, err)
	}
	dacl, _, err := sd.DACL()
	if err == nil {
		err = windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT,
			windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil)
	}
	if err != nil {
		return fmt.Errorf("protect %s: %w", dir, err)
	}
	return nil
}

// sizeOfSecurityAttributes is that of SECURITY_ATTRIBUTES, which we fill in.
const sizeOfSecurityAttributes = 24

// Make makes a folder with an access list, a security descriptor's string.
func Make(dir, list string) error {
	sd, err := windows.SecurityDescriptorFromString(list)
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

// Lend lets who, a security identifier, read a file or a folder with all that it
// holds, or change it as well. Who may use it already keeps their rights.
func Lend(path, who string, write bool) error {
	if who == "" {
		return nil
	}
	sid, err := windows.StringToSid(who)
	if err != nil {
		return fmt.Errorf("let %s use %s: %w", who, path, err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	entry := windows.EXPLICIT_ACCESS{
		AccessPermissions: windows.GENERIC_READ, AccessMode: windows.GRANT_ACCESS,
		Trustee: windows.TRUSTEE{TrusteeForm: windows.TRUSTEE_IS_SID, TrusteeValue: windows.TrusteeValueFromSID(sid)},
	}
	if write {
		entry.AccessPermissions |= windows.GENERIC_WRITE
	}
	if st.IsDir() {
		entry.AccessPermissions |= windows.GENERIC_EXECUTE | windows.DELETE
		entry.Inheritance = windows.SUB_CONTAINERS_AND_OBJECTS_INHERIT
	}
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("read who may use %s: %w", path, err)
	}
	old, _, err := sd.DACL()
	if err != nil {
		return fmt.Errorf("read who may use %s: %w", path, err)
	}
	dacl, err := windows.ACLFromEntries([]windows.EXPLICIT_ACCESS{entry}, old)
	if err == nil {
		err = windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION, nil, nil, dacl, nil)
	}
	if err != nil {
		return fmt.Errorf("let %s use %s: %w", who, path, err)
	}
	return nil
}
