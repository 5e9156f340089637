package hvtest

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"
)

// LabSuite runs test binaries in a lab.
type LabSuite struct {
	Lab
	Binaries []LabBinary
}

// LabBinary is one static test binary (CGO_ENABLED=0 go test -c).
type LabBinary struct {
	Name, Path string
	Args       []string      // -test.run and the like
	Timeout    time.Duration // a hang guard; what runs longer is killed, the next one runs
}

// Run starts the lab and reports every test in it as a subtest.
func (s LabSuite) Run(t *testing.T) {
	l := s.Lab
	l.Files = maps.Clone(l.Files)
	if l.Files == nil {
		l.Files = map[string]string{}
	}
	var b strings.Builder
	b.WriteString("export HXEN_REQUIRE=accel HXEN_LAB=/lab\ncd /lab/tests\n")
	for _, test := range s.Binaries {
		l.Files["tests/"+test.Name] = test.Path
		fmt.Fprintf(&b, "echo '@@ begin %s'\ntimeout -s KILL %d ./%s -test.v -test.timeout %ds %s\necho '@@ end %s' $?\n",
			test.Name, int(test.Timeout.Seconds())+5, test.Name, int(test.Timeout.Seconds()), quote(test.Args), test.Name)
	}
	l.Script = b.String()

	initrd, image := l.pack(t), l.image(t)
	console, err := l.boot(t, initrd, image)
	for range 2 {
		if !errors.Is(err, errStill) && !labFell.MatchString(console) {
			break
		}
		// QEMU sometimes delivers an interrupt twice. This is no test's result; a fault of
		// ours would have it fall again.
		t.Logf("the lab's kernel or a guest's fell, or its computer stood still; once more. It said:\n%s", console)
		console, err = l.boot(t, initrd, image)
	}
	if err != nil {
		t.Error(err)
	}
	for _, b := range s.Binaries {
		report(t, b, console)
	}
	if t.Failed() || testing.Verbose() {
		t.Logf("the lab's console:\n%s", console)
	}
}

// labFell is what the lab's own kernel, or a guest's that was given an interrupt
// twice (see boot), says when QEMU has it fall.
var labFell = regexp.MustCompile(`(?m)^\[ *[0-9.]+\] .*(Oops: int3|int3: 0000|not syncing: corrupted stack end)|BUG: .*stack guard page was hit|the guest crashed: a triple fault of`)

func quote(args []string) string {
	var b strings.Builder
	for _, a := range args {
		b.WriteString(" '" + strings.ReplaceAll(a, "'", `'\''`) + "'")
	}
	return b.String()
}

// labResult is one test's end, as the testing package tells it.
type labResult struct{ verdict, name, took string }

var labLine = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): (.+) \(([0-9.]+s)\)$`)

// parseLab finds a binary's results on the console. An error says what is wrong
// beside failed tests.
func parseLab(console, name string) ([]labResult, error) {
	_, section, begun := strings.Cut(console, "@@ begin "+name+"\n")
	if !begun {
		return nil, errors.New("it was never started")
	}
	section, rest, ended := strings.Cut(section, "@@ end "+name+" ")
	var results []labResult
	passed := false
	for _, m := range labLine.FindAllStringSubmatch(section, -1) {
		results = append(results, labResult{m[1], m[2], m[3]})
		passed = passed || m[1] == "PASS"
	}
	status, _, _ := strings.Cut(rest, "\n")
	switch {
	case !ended:
		return results, errors.New("it never ended")
	case status != "0":
		return results, fmt.Errorf("it ended with status %s", status)
	case !passed:
		return results, errors.New("nothing passed")
	}
	return results, nil
}

// report turns one binary's output into subtests.
func report(t *testing.T, b LabBinary, console string) {
	t.Run(b.Name, func(t *testing.T) {
		results, err := parseLab(console, b.Name)
		for _, r := range results {
			t.Run(strings.TrimPrefix(r.name, "Test"), func(t *testing.T) {
				switch r.verdict {
				case "FAIL":
					t.Errorf("failed in the lab after %s", r.took)
				case "SKIP":
					t.Skip("skipped in the lab")
				default:
					t.Logf("passed in the lab after %s", r.took)
				}
			})
		}
		if err != nil {
			t.Error(err)
		}
	})
}
