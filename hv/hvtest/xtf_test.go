package hvtest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// xtfTable is how each test of XTF ends, and why.
const xtfTable = "../native/testdata/xtf.md"

var (
	xtfLine = regexp.MustCompile(`(?m)^@@ xtf (\S+) (\S+) ?(.*)$`)
	xtfRow  = regexp.MustCompile(`(?m)^\| (hvm\S+) \| (\S+) \|`)
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
	files := map[string]string{"tests/xtf": testBinary(t, "./app/cmd/hxen-worker")}
	kernels, _ := filepath.Glob(filepath.Join(build, "tests", "*", "test-hvm*"))
	only := regexp.MustCompile(os.Getenv("HXEN_XTF_ONLY"))
	for _, k := range kernels {
		if !strings.HasSuffix(k, ".cfg") && only.MatchString(k) {
			files["xtf/"+filepath.Base(k)] = k
		}
	}
	for _, kernel := range []string{"linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"} {
		t.Run(kernel, func(t *testing.T) {
			lab := hvtest.Lab{Kernel: kernel, Files: files, Timeout: 30 * time.Minute,
				Script: "export HXEN_LAB=/lab HXEN_REQUIRE=accel\n/lab/tests/xtf -test.run '^TestXTF$' -test.v -test.timeout 28m\n"}
			console, err := lab.Run(t)
			if err != nil {
				t.Error(err)
			}
			seen := 0
			for _, m := range xtfLine.FindAllStringSubmatch(console, -1) {
				seen++
				t.Logf("%s: %s %s", m[1], m[2], m[3])
				if want[m[1]] != m[2] {
					t.Errorf("%s ended as %s, the table says %q: %s", m[1], m[2], want[m[1]], m[3])
				}
			}
			if seen == 0 || os.Getenv("HXEN_XTF_ONLY") == "" && seen < len(want) {
				t.Errorf("%d tests of %d were run:\n%s", seen, len(want), console)
			}
		})
	}
}
