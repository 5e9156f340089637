package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/native"
	"github.com/hxen-project/hxen/platform/accel"
)

// xtfGuard is for one of XTF's tests, most of which take less than a second.
const xtfGuard = 90 * time.Second

// xtfOnly are the kernels to be run, by their names.
var xtfOnly = flag.String("xtf", "test-hvm*", "the kernels of XTF that TestXTF runs")

var (
	xtfResult = regexp.MustCompile(`Test result: (SUCCESS|SKIP|ERROR|FAILURE|CRASH)`)
	xtfReason = regexp.MustCompile(`(?m)^(?:Error|Failure|Skip|Fail|PANIC): *(.*?)\r?$`)
)

// TestXTF runs the Xen Test Framework's hvm kernels, which start as PVH guests
// too, and says how each ended. What that has to be is the outer test's business
// (hv/hvtest).
func TestXTF(t *testing.T) {
	dir := filepath.Join(os.Getenv("HXEN_LAB"), "xtf")
	paths, _ := filepath.Glob(filepath.Join(dir, *xtfOnly))
	if len(paths) == 0 {
		t.Skip("XTF is not here: its sources are not part of this project (see hv/native/testdata/xtf.md)")
	}
	if err := hold(); err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		result, words := runXTF(t, p)
		fmt.Printf("@@ xtf %s %s %s\n", strings.TrimPrefix(filepath.Base(p), "test-"), result, words)
	}
}

func runXTF(t *testing.T, kernel string) (result, words string) {
	t.Helper()
	s := hv.Spec{
		Version: hv.SpecVersion, UUID: "01020304-0000-4000-8000-000000000009", Name: "xtf", Type: hv.PVH,
		VCPUs: 1, Memory: 128 * hv.MiB, Boot: hv.Boot{Kernel: kernel},
	}
	m, err := native.New(accel.Open).Launch(t.Context(), s, hv.Host{Dir: t.TempDir(), Cache: t.TempDir()})
	if err != nil {
		return "REFUSED", err.Error()
	}
	guard := time.AfterFunc(xtfGuard, func() { _ = m.Close() })
	defer guard.Stop()
	said := make(chan string)
	go func() {
		var all []byte
		buf := make([]byte, 4096)
		con := m.(hv.Consoler).Console()
		for {
			n, err := con.Read(buf)
			if all = append(all, buf[:n]...); err != nil {
				said <- string(all)
				return
			}
		}
	}()
	var notices []string
	for e := range m.Events() {
		if e.Kind == hv.EventNotice {
			notices = append(notices, e.Text)
		}
	}
	reason, err := m.Wait()
	text := <-said
	if err != nil {
		t.Errorf("%s: the machine ended with %v", kernel, err)
	}
	r := xtfResult.FindStringSubmatch(text)
	if r == nil {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		return "NONE", fmt.Sprintf("ended as %s, %s, after %q", reason, strings.Join(notices, "; "), lines[max(0, len(lines)-6):])
	}
	if m := xtfReason.FindAllStringSubmatch(text, 3); m != nil && r[1] != "SUCCESS" {
		for _, one := range m {
			words += cmp.Or(one[1], one[0]) + "; "
		}
	}
	if r[1] != "SUCCESS" && r[1] != "SKIP" {
		words += fmt.Sprintf(" [%s] ", reason) + strings.ReplaceAll(strings.ReplaceAll(text[max(0, len(text)-700):], "\r", ""), "\n", " | ")
	}
	return r[1], words
}
