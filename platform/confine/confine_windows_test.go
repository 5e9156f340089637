package confine

import (
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/windows"
)

func TestMain(m *testing.M) {
	switch os.Getenv("HXEN_TEST_CONFINE") {
	case "inside":
		os.Exit(inside())
	case "child":
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Ends of a process that was confined.
const (
	held      = 0
	failed    = 31
	privilege = 32
	child     = 33
)

// inside confines this process and tries what it may not do any more.
func inside() int {
	r, err := Apply(Policy{})
	if err != nil || !slices.Contains(r.Walls, "no privileges") {
		return failed
	}
	var n uint32
	token := windows.GetCurrentProcessToken()
	_ = windows.GetTokenInformation(token, windows.TokenPrivileges, nil, 0, &n)
	b := make([]byte, n)
	if windows.GetTokenInformation(token, windows.TokenPrivileges, &b[0], n, &n) != nil || b[0]|b[1]|b[2]|b[3] != 0 {
		return privilege
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HXEN_TEST_CONFINE=child")
	if cmd.Run() == nil {
		return child
	}
	return held
}

func TestConfined(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HXEN_TEST_CONFINE=inside")
	_ = cmd.Run()
	switch code := cmd.ProcessState.ExitCode(); {
	case code == child && windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil:
		t.Log("wine takes the policies and does not hold to them; privileges are gone")
	case code != held:
		t.Errorf("it ended with %d (31: not applied, 32: privileges left, 33: it can start programs)", code)
	}
}
