package access

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// TestServiceSID: what Windows itself shows for the owner of its system files.
func TestServiceSID(t *testing.T) {
	const want = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
	if got := serviceSID("TrustedInstaller"); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

func list(t *testing.T, path string) string {
	t.Helper()
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		t.Fatal(err)
	}
	return sd.String()
}

var wine = windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil

func TestProtect(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "guests")
	for range 2 { // made, then there already
		if err := Protect(dir, Service(), Me()); err != nil {
			t.Fatal(err)
		}
		if err := Trusted(dir); err != nil {
			t.Fatal(err)
		}
		// Wine keeps a Unix mode of it all, in which everybody may read.
		if l := list(t, dir); !wine && (strings.Contains(l, ";;;WD)") || strings.Contains(l, ";;;BU)")) {
			t.Errorf("everybody may use it: %s", l)
		}
		if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
			t.Errorf("who is named may not use it: %v", err)
		}
	}
	file := filepath.Join(dir, "mine")
	if err := Trusted(file); !errors.Is(err, ErrForeign) {
		t.Errorf("a file in a folder's place: %v", err)
	}
	if err := Trusted(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestLend(t *testing.T) {
	file := filepath.Join(t.TempDir(), "debian.iso")
	if err := os.WriteFile(file, []byte("an image"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := list(t, file)
	if err := Lend(file, Service(), false); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, then %s", before, list(t, file)) // wine keeps nobody's rights whom it does not know
	if _, err := os.ReadFile(file); err != nil {
		t.Errorf("its owner may not use it any more: %v", err)
	}
	if err := Lend(file, "nobody", false); err == nil {
		t.Error("lent to nobody")
	}
}
