package hvtest_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// xtfTable is how each test of XTF ends, and why.
const xtfTable = "../native/testdata/xtf.md"

// xtfBatch is how many tests one lab runs.
const xtfBatch = 30

var (
	xtfBegin = regexp.MustCompile(`^@@ xtf-begin (\S+)`)
	xtfLine  = regexp.MustCompile(`^@@ xtf (\S+) (\S+) ?(.*)`)
	xtfRow   = regexp.MustCompile(`(?m)^\| (hvm\S+) \| (\S+) \|`)
)

// TestXTF runs the Xen Test Framework, whose build HXEN_XTF names, in the lab and
// compares how its tests end with the table.
func TestXTF(t *testing.T) {
	build := os.Getenv("HXEN_XTF")
	if build == "" {
		t.Skip("HXEN_XTF does not name a built copy of XTF, which is not part of this project")
	}
	hvtest.RequireLab(t)
	table, err := os.ReadFile(xtfTable)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, m := range xtfRow.FindAllStringSubmatch(string(table), -1) {
		want[m[1]] = m[2]
	}
	binary, kernels := hvtest.TestBinary(t, "app/cmd/hxen-worker"), map[string]string{}
	paths, _ := filepath.Glob(filepath.Join(build, "tests", "*", "test-hvm*"))
	only := regexp.MustCompile(os.Getenv("HXEN_XTF_ONLY"))
	for _, p := range paths {
		if !strings.HasSuffix(p, ".cfg") && only.MatchString(p) {
			kernels[filepath.Base(p)] = p
		}
	}
	if len(kernels) == 0 {
		t.Fatalf("%s has no built tests (tests/*/test-hvm*)", build)
	}
	for _, kernel := range []string{"linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"} {
		t.Run(kernel, func(t *testing.T) {
			ends := runXTF(t, kernel, binary, kernels)
			for _, k := range slices.Sorted(maps.Keys(kernels)) {
				end, name := ends[k], strings.TrimPrefix(k, "test-")
				t.Logf("%s: %s %s", name, end.result, end.words)
				if want[name] != end.result {
					t.Errorf("%s ended as %s, the table says %q: %s", name, end.result, want[name], end.words)
				}
			}
		})
	}
}

type xtfEnd struct{ result, words string }

// xtfLost is the end of a test that took the lab itself with it.
const xtfLost = "LAB"

// runXTF runs kernels in one lab after another, as some take the lab with them: the
// next lab goes on with what has not ended.
func runXTF(t *testing.T, kernel, binary string, kernels map[string]string) map[string]xtfEnd {
	ends, lost := map[string]xtfEnd{}, map[string]int{}
	for len(ends) < len(kernels) {
		files, script := map[string]string{"tests/xtf": binary}, "export HXEN_LAB=/lab HXEN_REQUIRE=accel\n"
		for _, k := range slices.Sorted(maps.Keys(kernels)) {
			if _, done := ends[k]; !done && len(files) <= xtfBatch {
				files["xtf/"+k] = kernels[k]
				script += "echo '@@ xtf-begin " + k + "'\n/lab/tests/xtf -test.run '^TestXTF$' -test.v -test.timeout 150s -xtf " + k + " 2>&1 | grep -v '^==='\n"
			}
		}
		console, err := hvtest.Lab{Kernel: kernel, Files: files, Script: script, Timeout: 10 * time.Minute}.Run(t)
		begun := ""
		lose := func() {
			if begun == "" {
				return
			}
			if lost[begun]++; lost[begun] == 2 { // the lab may fall by itself
				ends[begun] = xtfEnd{xtfLost, "the lab ended, or hung, in it"}
			}
			begun = ""
		}
		for line := range strings.Lines(console) {
			if m := xtfBegin.FindStringSubmatch(line); m != nil {
				lose()
				begun = m[1]
			} else if m := xtfLine.FindStringSubmatch(line); m != nil {
				begun, ends["test-"+m[1]] = "", xtfEnd{m[2], m[3]}
			}
		}
		if err != nil {
			t.Logf("%s: %v in %q:\n%s", kernel, err, begun, console[max(0, len(console)-3000):])
		}
		if err != nil && begun == "" {
			t.Fatal("the lab fell, and not in a test")
		}
		lose()
	}
	return ends
}
