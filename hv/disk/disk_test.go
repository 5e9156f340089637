package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
)

func qcow2(change func([]byte)) []byte {
	b := make([]byte, 4096)
	copy(b, qcow2Magic)
	binary.BigEndian.PutUint32(b[4:], 3)
	binary.BigEndian.PutUint32(b[20:], 16)
	binary.BigEndian.PutUint64(b[24:], 1<<30)
	binary.BigEndian.PutUint32(b[100:], 104)
	if change != nil {
		change(b)
	}
	return b
}

// isoImage has a boot catalogue with a BIOS default entry and an EFI section.
func isoImage(label string) []byte {
	b := make([]byte, 21*isoSector)
	s := func(n int) []byte { return b[n*isoSector : (n+1)*isoSector] }
	copy(s(16), "\x01CD001\x01")
	copy(s(16)[40:], label+strings.Repeat(" ", 32-len(label)))
	copy(s(17), "\x00CD001\x01EL TORITO SPECIFICATION")
	binary.LittleEndian.PutUint32(s(17)[0x47:], 20)
	copy(s(18), "\xffCD001\x01")
	c := s(20)
	c[0], c[30], c[31] = 1, 0x55, 0xaa
	c[32] = 0x88
	c[64], c[65], c[66] = 0x91, platformEFI, 1
	c[96] = 0x88
	return b
}

func TestInspect(t *testing.T) {
	u32, u64 := binary.BigEndian.PutUint32, binary.BigEndian.PutUint64
	kernel := make([]byte, 4096)
	copy(kernel[0x1fe:], "\x55\xaa\x00\x00HdrS")
	vhd := make([]byte, 4096)
	copy(vhd[4096-512:], "conectix")
	vdi := make([]byte, 4096)
	binary.LittleEndian.PutUint32(vdi[0x40:], 0xbeda107f)
	raw := make([]byte, 1<<20)
	copy(raw[510:], "\x55\xaa")
	for name, c := range map[string]struct {
		image           []byte
		kind            Kind
		format, problem string
		size            int64
	}{
		"qcow2":          {qcow2(nil), Disk, "qcow2", "", 1 << 30},
		"version 4":      {qcow2(func(b []byte) { u32(b[4:], 4) }), Disk, "qcow2", "version 4", 0},
		"encrypted":      {qcow2(func(b []byte) { u32(b[32:], 1) }), Disk, "qcow2", "encrypted", 1 << 30},
		"corrupt":        {qcow2(func(b []byte) { u64(b[72:], 2) }), Disk, "qcow2", "damaged", 1 << 30},
		"dirty":          {qcow2(func(b []byte) { u64(b[72:], 1) }), Disk, "qcow2", "", 1 << 30},
		"data file":      {qcow2(func(b []byte) { u64(b[72:], 4) }), Disk, "qcow2", "another file", 1 << 30},
		"unknown bits":   {qcow2(func(b []byte) { u64(b[72:], 1<<40) }), Disk, "qcow2", "not known", 1 << 30},
		"huge":           {qcow2(func(b []byte) { u64(b[24:], 1<<60) }), Disk, "qcow2", "impossible", 0},
		"backing":        {qcow2(func(b []byte) { u64(b[8:], 200); u32(b[16:], 11); copy(b[200:], "/etc/passwd") }), Disk, "qcow2", "/etc/passwd", 1 << 30},
		"backing far":    {qcow2(func(b []byte) { u64(b[8:], 1<<62); u32(b[16:], 11) }), Disk, "qcow2", "impossible", 1 << 30},
		"table far":      {qcow2(func(b []byte) { u32(b[36:], 1); u64(b[40:], 1<<40) }), Disk, "qcow2", "cut off", 1 << 30},
		"cut":            {qcow2(nil)[:50], Disk, "qcow2", "cut off", 0},
		"kernel":         {kernel, Kernel, "bzimage", "", 4096},
		"elf":            {append([]byte("\x7fELF"), raw...), Kernel, "elf", "", 4 + 1<<20},
		"iso":            {isoImage("Debian 12.5.0 amd64 n"), ISO, "iso9660", "", 21 * isoSector},
		"vmdk":           {append([]byte("KDMV"), raw...), Disk, "vmdk", "qemu-img convert", 0},
		"vmdk text":      {append([]byte("# Disk DescriptorFile\n"), raw...), Disk, "vmdk", "VMware", 0},
		"vhdx":           {append([]byte("vhdxfile"), raw...), Disk, "vhdx", "Hyper-V", 0},
		"vhd":            {vhd, Disk, "vhd", "Virtual PC", 0},
		"vdi":            {vdi, Disk, "vdi", "VirtualBox", 0},
		"raw":            {raw, Disk, "raw", "", 1 << 20},
		"text":           {[]byte("Dear diary"), Unknown, "", "no disk or CD", 10},
		"html as an iso": {bytes.Repeat([]byte("<html>404"), 5000), Unknown, "", "no disk or CD", 45000},
		"empty":          {nil, Unknown, "", "empty", 0},
	} {
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, c.image, 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := Inspect(path)
		if err != nil || in.Kind != c.kind || in.Format != c.format || in.Size != c.size || (c.problem == "") != (in.Problem == "") || !strings.Contains(in.Problem, c.problem) {
			t.Errorf("%s: %+v %v", name, in, err)
		}
		if name == "iso" && (!in.BIOS || !in.UEFI || in.OS != "Debian" || in.Label != "Debian 12.5.0 amd64 n") {
			t.Errorf("%s: %+v", name, in)
		}
	}
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "absent")} {
		if _, err := Inspect(path); err == nil {
			t.Errorf("%s was inspected", path)
		}
	}
}

func TestGuessOS(t *testing.T) {
	for label, want := range map[string]string{
		"Ubuntu 24.04 LTS amd64": "Ubuntu", "CCCOMA_X64FRE_EN-US_DV9": "Windows", "14_1_RELEASE_AMD64_CD": "FreeBSD",
		"Fedora-WS-Live-40": "Fedora", "MY HOLIDAY": "", "": "",
	} {
		if got := guessOS(label); got != want {
			t.Errorf("guessOS(%q) = %q", label, got)
		}
	}
}

func FuzzInspect(f *testing.F) {
	f.Add(qcow2(nil)[:200])
	f.Add(qcow2(func(b []byte) { binary.BigEndian.PutUint64(b[8:], 100); binary.BigEndian.PutUint32(b[16:], 4) })[:200])
	f.Add([]byte("KDMV"))
	f.Add(isoImage("X")[16*isoSector:])
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, img := range [][]byte{b, append(make([]byte, isoFirst*isoSector), b...)} {
			in, err := inspect(bytes.NewReader(img), int64(len(img)))
			if err != nil {
				t.Fatal(err) // reading memory never fails
			}
			if in.Size < 0 || strings.ContainsAny(in.Label+in.Backing+in.Problem, "\x00\n\x1b") {
				t.Fatalf("%+v", in)
			}
		}
	})
}

// child is an hv.Process over os/exec.
type child struct{ *exec.Cmd }

func (c child) PID() int    { return c.Process.Pid }
func (c child) Kill() error { return c.Process.Kill() }
func (c child) Wait() (int, error) {
	err := c.Cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = nil
	}
	return c.ProcessState.ExitCode(), err
}

func startChild(c hv.Command) (hv.Process, error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.Env, c.Stdout, c.Stderr
	return child{cmd}, cmd.Start()
}

func realTool(t *testing.T) Tool {
	t.Helper()
	hvtest.Require(t, "qemu")
	img, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Fatal(err)
	}
	return Tool{Img: img, Start: startChild}
}

// hostile are names that a careless command line would read as something else.
var hostile = []string{"-o", "--help", "a,b=c", "nbd:host", "json:{}", "fat:rw:x", "sp ace", "new\nline", `back\slash"quote`, "ünïcode"}

func TestToolAgainstHostileNames(t *testing.T) {
	tool := realTool(t)
	for _, name := range hostile {
		dir := t.TempDir()
		t.Chdir(dir)
		if err := tool.Create(t.Context(), name, 1<<30); err != nil {
			t.Errorf("create %q: %v", name, err)
			continue
		}
		in, err := Inspect(filepath.Join(dir, name))
		if err != nil || in.Format != hv.QCOW2 || in.Size != 1<<30 || in.Problem != "" || in.FileSize > 1<<20 {
			t.Errorf("%q: %+v %v", name, in, err)
		}
		if err := tool.Copy(t.Context(), name, hv.QCOW2, name+".copy", nil); err != nil {
			t.Errorf("copy %q: %v", name, err)
		}
		left, _ := os.ReadDir(dir)
		if len(left) != 2 {
			t.Errorf("%q: the folder holds %v", name, left)
		}
		if err := tool.Create(t.Context(), name, 1<<30); err == nil {
			t.Errorf("%q was overwritten", name)
		}
	}
}

// TestCopyTrustsOnlyTheFormat: a raw disk in which a guest has written a qcow2
// header that names a secret stays a raw disk, and a backing file is not read.
func TestCopyTrustsOnlyTheFormat(t *testing.T) {
	tool := realTool(t)
	dir := t.TempDir()
	evil, secret := filepath.Join(dir, "evil.img"), filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, bytes.Repeat([]byte("top secret "), 6000), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool.Img, "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", evil, "1M").CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v", out, err)
	}
	for _, format := range []string{hv.Raw, hv.QCOW2} {
		to := filepath.Join(dir, format)
		if err := tool.Copy(t.Context(), evil, format, to, nil); err != nil {
			t.Fatal(err)
		}
		back := to + ".raw"
		if out, err := exec.Command(tool.Img, "convert", "-f", "qcow2", "-O", "raw", to, back).CombinedOutput(); err != nil {
			t.Fatalf("%s %v", out, err)
		}
		b, err := os.ReadFile(back)
		if err != nil || bytes.Contains(b, []byte("top secret top secret")) {
			t.Errorf("%s: the copy holds the secret (%v)", format, err)
		}
		if format == hv.Raw && !bytes.HasPrefix(b, qcow2Magic) {
			t.Error("a raw disk was interpreted")
		}
	}
}

func TestCopyTellsProgressAndCanBeCancelled(t *testing.T) {
	tool := realTool(t)
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	f, err := os.Create(src)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(f, endless{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	last, calls := 0.0, 0
	if err := tool.Copy(t.Context(), src, hv.Raw, filepath.Join(dir, "dst"), func(p float64) { last = p; calls++ }); err != nil || last != 1 || calls < 3 {
		t.Errorf("%v: %d reports, the last %v", err, calls, last)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("changed my mind")
	err = tool.Copy(ctx, src, hv.Raw, filepath.Join(dir, "other"), func(float64) { cancel(why) })
	if !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
	tool.Limit = time.Nanosecond
	if err := tool.Copy(t.Context(), src, hv.Raw, filepath.Join(dir, "late"), nil); err == nil || !strings.Contains(err.Error(), "did not end within") {
		t.Errorf("out of time: %v", err)
	}
	tool.Limit = 0
	err = tool.Copy(t.Context(), filepath.Join(dir, "absent"), hv.Raw, filepath.Join(dir, "never"), nil)
	if err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("no source: %v", err)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

// endless is data that does not compress to zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i*7 + 1)
	}
	return len(p), nil
}

func TestPercent(t *testing.T) {
	var got []float64
	p := &percent{report: func(v float64) { got = append(got, v) }}
	for _, s := range []string{"    (0.00/100%)\r    (12.", "50/100%)\r", "(((", "(x/100%) (100.00/100%)\n"} {
		fmt.Fprint(p, s)
	}
	if fmt.Sprint(got) != "[0 0.125 1]" {
		t.Error(got)
	}
}
