package accel

import (
	"os"
	"testing"

	"golang.org/x/sys/windows"
)

func init() { // wine 8
	ownTimesOnly = windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

// TestGuestCode has the child of Probe run guest code, with more time than Probe
// gives it. TestLabWHP in hv/hvtest runs it on the stand-in for the platform.
func TestGuestCode(t *testing.T) {
	if os.Getenv("HXEN_LAB") == "" {
		t.Skip("make test-whp runs it")
	}
	if there, err := hypervisorPresent(); !there || err != nil {
		t.Fatalf("the hypervisor is said to be there: %v, %v", there, err)
	}
	r, firm := judge(runChild(t.Context(), hang))
	if !r.Usable || !firm || r.Native.How == "" {
		t.Errorf("%+v, firm: %v", r, firm)
	}
}
