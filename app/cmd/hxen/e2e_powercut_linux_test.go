package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/platform/paths"
)

// mountsVar marks a test that runs in mounts of its own.
const mountsVar = "HXEN_TEST_MOUNTS"

// inMounts runs the calling test again in a process with mounts of its own, which
// go with it, and reports whether this is that process.
func inMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(mountsVar) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", fmt.Sprintf("-test.v=%v", testing.Verbose()), "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), mountsVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if testing.Verbose() {
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	}
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said.Bytes())
	}
	return false
}

func mount(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Fatalf("mount %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// platter is an ext4 in an image file. What a power cut leaves is in the image:
// what nobody has had synced is not, as the file system is told not to hurry.
type platter struct{ image, dir, stat string }

func newPlatter(t *testing.T) platter {
	t.Helper()
	dir := t.TempDir()
	p := platter{image: filepath.Join(dir, "image"), dir: filepath.Join(dir, "mnt")}
	out, err := exec.Command("sh", "-ec", `truncate -s 512M "$0"; PATH=$PATH:/sbin:/usr/sbin mke2fs -q -t ext4 -J size=8 "$0"; mkdir "$1"`, p.image, p.dir).CombinedOutput()
	if err != nil {
		t.Fatalf("make a file system: %v\n%s", err, out)
	}
	mount(t, "-o", "loop,noauto_da_alloc,commit=3600", p.image, p.dir)
	t.Cleanup(func() {
		// A killed process is gone from /proc's command lines before its files are closed.
		for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			out, err := exec.Command("umount", p.dir).CombinedOutput()
			if err == nil {
				return
			}
			if time.Now().After(end) {
				t.Errorf("umount: %v\n%s", err, out)
				return
			}
		}
	})
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == p.dir {
			p.stat = filepath.Join("/sys/block", filepath.Base(f[0]), "stat")
		}
	}
	return p
}

// cut copies the image as it is now, while nothing is being written.
func (p platter) cut(t *testing.T, to string) {
	t.Helper()
	still := func() string {
		b, err := os.ReadFile(p.stat)
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(string(b)) // Documentation/block/stat.rst
		return strings.Join([]string{f[4], f[6], f[8]}, " ")
	}
	for end := time.Now().Add(patience); time.Now().Before(end); {
		before := still()
		if out, err := exec.Command("cp", "--sparse=always", p.image, to).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v\n%s", err, out)
		}
		if strings.HasSuffix(before, " 0") && still() == before {
			return
		}
	}
	t.Fatal("the file system never came to rest")
}

// TestFaultPowerCut cuts the power at random points of operations: what was not
// synced is lost. After each, a service on what is left knows all guests, what was
// said to be done is done, and disks hold what they held.
func TestFaultPowerCut(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: only root mounts image files")
	}
	if !inMounts(t) {
		return
	}
	p := newPlatter(t)
	c := newCampaign(t, newHouseAt(t, filepath.Join(p.dir, "home")))
	ops := []string{"create", "start", "save", "restore", "edit", "delete"}
	c.rehearse(ops)
	for i := range faultPoints(t, 4) {
		op := ops[i%len(ops)]
		c.prepare(op)
		c.cutIn(p, op)
		if t.Failed() {
			break
		}
	}
	fmt.Println("power cut:", c.score.String())
}

// cutIn begins an operation and cuts the power at some time in it, or just after.
func (c *campaign) cutIn(p platter, op string) {
	c.t.Helper()
	image, dir := p.image+".cut", filepath.Join(filepath.Dir(p.dir), "cut")
	after := time.Duration(c.rnd.Int64N(int64(c.took[op]) + int64(c.took[op])/4))
	cmd := exec.Command(filepath.Join(c.bin, "hxen"), c.words(op)...)
	cmd.Env = c.env
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	time.Sleep(after) // the point, not a wait for anything
	acked := false
	select {
	case err := <-ended:
		if acked = err == nil; !acked {
			c.t.Fatalf("hxen %s: %v", strings.Join(c.words(op), " "), err)
		}
	default:
	}
	stopped := c.processes("")
	for _, pid := range stopped {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // it may have ended
	}
	p.cut(c.t, image)
	for _, pid := range stopped {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	if !acked {
		if err := <-ended; err != nil {
			c.t.Fatalf("hxen %s: %v", strings.Join(c.words(op), " "), err)
		}
	}
	c.points++
	c.hits[op]++
	c.t.Logf("point %d: power cut %v into %s, done: %v", c.points, after.Round(time.Millisecond), op, acked)

	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	mount(c.t, "-o", "loop", image, dir)
	left := &campaign{house: &house{t: c.t, bin: c.bin, home: filepath.Join(dir, "home")}, image: c.image}
	left.env = append(slices.DeleteFunc(slices.Clone(c.env), func(v string) bool { return strings.HasPrefix(v, paths.HomeVar+"=") }), paths.HomeVar+"="+left.home)
	// The folder with the sockets is gone with the power.
	if st, err := os.Stat(filepath.Join(left.home, "run")); err == nil && st.Size() > 0 {
		if err := os.WriteFile(filepath.Join(left.home, "run"), []byte("/run/gone\n"), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	left.checkCut(op, acked)
	c.lost, c.wrong, c.damaged = c.lost+left.lost, c.wrong+left.wrong, c.damaged+left.damaged
	if c.t.Failed() {
		left.logs()
	}
	c.eventually("the end of all on the copy", func() bool {
		for _, pid := range left.processes("") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return exec.Command("umount", dir).Run() == nil
	})
}

// afterCut is what a guest may be, for each operation under way: states, "" for
// being deleted or not made, and the same once the operation was said to be done.
var afterCut = map[string]struct {
	guest        string
	under, acked []string
}{
	"create":  {made, []string{"", "Halted"}, []string{"Halted"}},
	"start":   {subject, []string{"Halted"}, []string{"Halted"}},
	"save":    {subject, []string{"Halted", "Suspended"}, []string{"Suspended"}},
	"restore": {subject, []string{"Halted", "Suspended"}, []string{"Halted"}},
	"edit":    {subject + "2", []string{"", "Halted"}, []string{"Halted"}},
	"delete":  {subject, []string{"", "Halted"}, []string{""}},
}

func (c *campaign) checkCut(op string, acked bool) {
	c.t.Helper()
	states := map[string]string{}
	for _, vm := range c.all() {
		states[vm.NameLabel] = vm.PowerState
		if why := vm.OtherConfig[api.KeyBroken]; why != "" {
			c.lost++
			c.t.Errorf("guest %s cannot be used: %s", vm.NameLabel, why)
		}
	}
	for _, name := range []string{rock, runner} {
		if states[name] != "Halted" {
			c.lost++
			c.t.Errorf("guest %s is %q; there are %v", name, states[name], states)
		}
	}
	rule := afterCut[op]
	may := rule.under
	if acked {
		may = rule.acked
	}
	if is := states[rule.guest]; !slices.Contains(may, is) {
		c.wrong++
		c.t.Errorf("after a power cut in %s (done: %v) guest %s is %q, not one of %q", op, acked, rule.guest, is, may)
	}
	_, one := states[subject]
	_, two := states[subject+"2"]
	if one == two && !(op == "delete" && strings.Contains(c.must("trash", "list"), subject)) {
		c.lost++
		c.t.Errorf("guest %s is lost after a power cut in %s; there are %v", subject, op, states)
	}
	c.checkDisks()
	if states[subject] == "Suspended" {
		c.must("restore", subject) // what is there of its state is whole
		c.must("destroy", subject)
	}
}
