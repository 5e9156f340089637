package main

// The campaign of faults: "make test-faults" runs it long, every "make test"
// short. Files: e2e_campaign (kill -9 at random points), e2e_powercut, e2e_diskfull.

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// faultsVar is how many points the campaign tries; seedVar repeats one.
const (
	faultsVar = "HXEN_FAULTS"
	seedVar   = "HXEN_SEED"
)

// faultPoints is how many points to try: short, unless more were asked for.
func faultPoints(t *testing.T, short int) int {
	t.Helper()
	if v := os.Getenv(faultsVar); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			t.Fatalf("%s=%q is no number of points", faultsVar, v)
		}
		return n
	}
	return short
}

// dice are the campaign's random numbers; the test says how to have them again.
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv(seedVar); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("%s=%q is no seed", seedVar, v)
		}
	}
	t.Logf("%s=%d", seedVar, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// score is what a campaign prints.
type score struct {
	points, lost, wrong, damaged int
	slowest                      time.Duration // until told states were true
	hits                         map[string]int
}

func (s *score) String() string {
	var kinds []string
	for k, n := range s.hits {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(kinds)
	return fmt.Sprintf("points tried %d, guests lost %d, states wrong %d, disks damaged %d, states true after %v at most (%s)",
		s.points, s.lost, s.wrong, s.damaged, s.slowest.Round(time.Millisecond), strings.Join(kinds, ", "))
}

// trueWithin is how long a told state may be wrong after a fault, on a machine
// that does nothing else.
const trueWithin = 2 * time.Second

// campaign is a house in which things go wrong.
type campaign struct {
	*house
	score
	rnd   *rand.Rand
	image string // what guests' disks are copies of
	took  map[string]time.Duration
}

const (
	rock    = "rock"    // nothing is ever done to it
	runner  = "runner"  // runs all the time, or is to
	subject = "subject" // what operations are done to
	made    = "made"    // what creating makes
)

// TestFaultKills kills service, worker, QEMU and netd at random points of
// operations. After each, all guests are there, what is told of them is true, and
// their disks hold what they held.
func TestFaultKills(t *testing.T) {
	c := newCampaign(t, newHouse(t))
	ops := []string{"create", "start", "save", "restore", "edit", "delete"}
	c.rehearse(ops)
	limit := 30 * trueWithin // of a machine that runs other tests beside this one
	if os.Getenv(faultsVar) != "" {
		limit = trueWithin
	}
	n := faultPoints(t, 5)
	for i := 0; c.points < n && i < 3*n; i++ {
		op := ops[i%len(ops)]
		c.prepare(op)
		if victim := c.strike(op); victim != "" {
			c.points++
			c.hits[op+"/"+victim]++
			c.check(op, limit)
		}
		if t.Failed() {
			break
		}
	}
	fmt.Println("kill -9:", c.score.String())
}

func newCampaign(t *testing.T, h *house) *campaign {
	t.Helper()
	hvtest.Require(t, "qemu")
	c := &campaign{house: h, rnd: dice(t), image: hvtest.GuestDisk(t, t.TempDir()), took: map[string]time.Duration{}}
	c.hits = map[string]int{}
	for _, name := range []string{rock, runner, subject} {
		c.make(name)
	}
	return c
}

func (c *campaign) words(op string) []string {
	switch op {
	case "create":
		return []string{"new", made, "--disk", c.image, "--copy", "--memory", "32M"}
	case "edit":
		return []string{"rename", subject, subject + "2"}
	case "delete":
		return []string{"remove", "--yes", subject}
	}
	return []string{op, subject}
}

func (c *campaign) make(name string) {
	c.t.Helper()
	args := c.words("create")
	args[1] = name
	c.must(args...)
}

// rehearse measures the operations where nothing goes wrong.
func (c *campaign) rehearse(ops []string) {
	c.t.Helper()
	for _, op := range ops {
		c.prepare(op)
		began := time.Now()
		c.must(c.words(op)...)
		c.took[op] = time.Since(began)
	}
	c.t.Logf("undisturbed: %v", c.took)
}

// state is a guest's state as it is told, "" if there is no such guest.
func (c *campaign) state(name string) string {
	c.t.Helper()
	for _, vm := range c.all() {
		if vm.NameLabel == name {
			return vm.PowerState
		}
	}
	return ""
}

func (c *campaign) all() []api.VM {
	c.t.Helper()
	var all []api.VM
	if err := json.Unmarshal([]byte(c.must("list", "-l")), &all); err != nil {
		c.t.Fatal(err)
	}
	return all
}

// prepare makes the guests what an operation needs them to be.
func (c *campaign) prepare(op string) {
	c.t.Helper()
	if c.state(runner) == "Halted" {
		c.must("start", runner)
	}
	if c.state(made) != "" {
		c.must("remove", "--yes", made)
	}
	if c.state(subject+"2") != "" {
		c.must("rename", subject+"2", subject)
	}
	if c.state(subject) == "" {
		c.must("trash", "restore", subject)
	}
	if strings.Contains(c.must("trash", "list"), made) {
		c.must("trash", "empty", "--yes")
	}
	now := c.state(subject)
	switch op {
	case "save":
		if now == "Suspended" {
			c.must("restore", subject)
		} else if now == "Halted" {
			c.must("start", subject)
		}
	case "restore":
		if now == "Halted" {
			c.must("start", subject)
		}
		if now != "Suspended" {
			c.must("save", subject)
		}
	default:
		if now != "Halted" {
			c.must("destroy", subject)
		}
	}
}

// strike begins an operation and kills a process at some time in it. It returns
// whom it killed, "" if nobody was there.
func (c *campaign) strike(op string) string {
	c.t.Helper()
	victim := victims[c.rnd.IntN(len(victims))]
	if op == "create" || op == "edit" || op == "delete" { // the others only look on
		victim = append(victims, "service", "service")[c.rnd.IntN(len(victims)+2)]
	}
	after := time.Duration(c.rnd.Int64N(int64(c.took[op]) + int64(c.took[op])/8))
	cmd := exec.Command(filepath.Join(c.bin, "hxen"), c.words(op)...)
	cmd.Env = c.env
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	time.Sleep(after) // the point, not a wait for anything
	pids := c.processes(victim)
	hit := ""
	if len(pids) > 0 {
		pid := pids[c.rnd.IntN(len(pids))]
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			hit = victim
		}
	}
	guard := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer guard.Stop()
	err := cmd.Wait()
	if !guard.Stop() {
		c.t.Errorf("hxen %s did not end after %s was killed %v later", strings.Join(c.words(op), " "), victim, after)
	}
	c.t.Logf("point %d: %s, %s killed after %v: the command ended with %v", c.points+1, op, victim, after.Round(time.Millisecond), err)
	return hit
}

// check compares what is told with what is.
func (c *campaign) check(op string, limit time.Duration) {
	c.t.Helper()
	began := time.Now()
	var wrong []string
	for {
		asked := time.Now()
		wrong = c.untrue(c.all())
		if len(wrong) == 0 {
			c.slowest = max(c.slowest, asked.Sub(began))
			break
		}
		if time.Since(began) > limit {
			c.wrong++
			c.t.Errorf("told wrongly for %v: %s", limit, strings.Join(wrong, "; "))
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	there := map[string]bool{}
	for _, vm := range c.all() {
		there[vm.NameLabel] = true
		if why := vm.OtherConfig[api.KeyBroken]; why != "" {
			c.lost++
			c.t.Errorf("guest %s cannot be used: %s", vm.NameLabel, why)
		}
	}
	gone := func(name string) {
		c.lost++
		c.t.Errorf("guest %s is lost after a fault in %s; there are %v", name, op, there)
	}
	if !there[rock] {
		gone(rock)
	}
	if !there[runner] {
		gone(runner)
	}
	if there[subject] == there[subject+"2"] && !(op == "delete" && strings.Contains(c.must("trash", "list"), subject)) {
		gone(subject)
	}
	c.checkDisks()
}

// untrue says what is told wrongly of guests: one runs if a QEMU of its own is
// alive, and else is saved if its state is there.
func (c *campaign) untrue(all []api.VM) (out []string) {
	c.t.Helper()
	run := map[string]bool{}
	for _, pid := range c.processes("qemu-system-x86_64") {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		_, rest, _ := strings.Cut(string(args), "\x00-uuid\x00")
		uuid, _, _ := strings.Cut(rest, "\x00")
		run[uuid] = true
	}
	for _, vm := range all {
		is := "Halted"
		if _, err := os.Stat(filepath.Join(c.home, "guests", vm.UUID, "worker", "memory.save")); err == nil {
			is = "Suspended"
		}
		if run[vm.UUID] {
			is = "Running"
		}
		if is != vm.PowerState {
			out = append(out, fmt.Sprintf("%s is told to be %s and is %s", vm.NameLabel, vm.PowerState, is))
		}
		delete(run, vm.UUID)
	}
	for uuid := range run {
		out = append(out, "a QEMU runs for guest "+uuid+", which is not there")
	}
	return out
}

// checkDisks compares all disks with what they were made of.
func (c *campaign) checkDisks() {
	c.t.Helper()
	for _, where := range []string{"guests", "trash"} {
		disks, err := filepath.Glob(filepath.Join(c.home, where, "*", "disk-*.qcow2"))
		if err != nil {
			c.t.Fatal(err)
		}
		for _, d := range disks {
			c.checkDisk(d)
		}
	}
}

func (c *campaign) checkDisk(path string) {
	c.t.Helper()
	out, err := exec.Command("qemu-img", "compare", "-U", "-f", "raw", "-F", "qcow2", c.image, path).CombinedOutput()
	if err != nil {
		c.damaged++
		c.t.Errorf("disk %s does not hold what it held: %s", path, out)
	}
}
