package hv

import (
	"strings"
	"testing"
)

func TestPutConsole(t *testing.T) {
	for _, c := range []struct {
		to       GuestType
		in, want string
	}{
		{PVH, "", "console=hvc0"},
		{PVH, "console=ttyS0,115200 console=tty0 quiet panic=-1", "quiet panic=-1 console=hvc0"},
		{PVH, "quiet console=hvc0", "quiet console=hvc0"},
		{PVH, "root=LABEL=a  ro", "root=LABEL=a  ro console=hvc0"},
		{PVH, "console=null", "console=null"},
		{HVM, "console=hvc0 quiet", "quiet console=tty0 console=ttyS0"},
		{HVM, "console=hvc0 console=ttyS0", "console=ttyS0"},
		{HVM, "quiet", "quiet"},
		{HVM, "", ""},
	} {
		if got := PutConsole(c.to, c.in); got != c.want {
			t.Errorf("%s of %q: %q, want %q", c.to, c.in, got, c.want)
		}
	}
}

func kernelGuest() *Spec {
	return &Spec{
		Type: PVH, Boot: Boot{Kernel: "/k", Initrd: "/i", Cmdline: "root=/dev/xvdb1 ro console=hvc0"},
		Disks: []Disk{{UUID: "a"}, {UUID: "b"}, {UUID: "c", Kind: KindCDROM}, {UUID: "d", Bus: BusSATA}},
		NICs:  []NIC{{UUID: "n"}},
	}
}

// A guest goes to the other type and back, and its kernel finds its disk.
func TestRetype(t *testing.T) {
	s := kernelGuest()
	notes, err := s.Retype(HVM)
	if err != nil {
		t.Fatal(err)
	}
	if s.Type != HVM || s.Firmware != BIOS || s.Boot.Kernel != "/k" || s.Boot.Initrd != "/i" {
		t.Errorf("%+v", s)
	}
	if want := "root=/dev/vdb1 ro console=tty0 console=ttyS0"; s.Boot.Cmdline != want {
		t.Errorf("command line %q, want %q", s.Boot.Cmdline, want)
	}
	all := strings.Join(notes, "\n")
	for _, want := range []string{"/dev/xvda is now /dev/vda", "/dev/xvdd is now /dev/sda", "root=UUID=", "MAC"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in the notes:\n%s", want, all)
		}
	}
	if strings.Contains(all, "sr0") {
		t.Errorf("the notes speak of a CD drive:\n%s", all)
	}
	s.Machine = "pc-q35-7.2"
	if _, err := s.Retype(PVH); err != nil {
		t.Fatal(err)
	}
	if want := kernelGuest(); s.Boot != want.Boot || s.Type != PVH || s.Firmware != "" || s.Machine != "" {
		t.Errorf("back again: %+v", s)
	}
	if notes, err := s.Retype(PVH); err != nil || notes != nil {
		t.Errorf("the same type: %q, %v", notes, err)
	}
}

func TestRetypeRefuses(t *testing.T) {
	s := &Spec{Type: HVM}
	if _, err := s.Retype(PVH); err == nil || s.Type != HVM {
		t.Errorf("a guest without a kernel became %s: %v", s.Type, err)
	}
	if _, err := kernelGuest().Retype("pv"); err == nil {
		t.Error("a type that is none was taken")
	}
}
