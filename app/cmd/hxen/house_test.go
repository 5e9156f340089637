package main

// The house's own rules as tests: who may import whom, what a program may link,
// what its package inits may cost, and what a file may look like. They stand
// beside a main because mains alone may know every package.

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/hxen-project/hxen/"
	root   = "../../.."
)

// systems are the systems that the import rules are checked for; per-system
// files differ in what they import.
var systems = []string{"linux", "darwin", "windows"}

// may says for each package, or tree of packages ("/..."), what it may import
// beside the standard library: packages of ours by their path in the module,
// others by the start of their path. The longest match counts.
var may = []struct {
	pkg     string
	imports []string
}{
	{"app/cmd/...", []string{"app/...", "hv/...", "platform/..."}},
	{"app/api", nil},
	{"app/text", nil},
	{"app/control", []string{"hv"}},
	{"app/client", []string{"app/api", "platform/access", "platform/localsock", "platform/paths", "platform/proc"}},
	{"app/cli", []string{"app/api", "app/client", "app/text", "platform/paths", "platform/hostinfo",
		"github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/term"}},
	{"app/service/...", []string{"app/service/...", "app/api", "app/control", "hv", "hv/xlcfg", "hv/disk", "hv/savefile",
		"platform/diskfile", "platform/proc", "platform/localsock", "platform/paths", "platform/hostinfo", "platform/hostsvc",
		"github.com/google/uuid"}},
	{"app/worker", []string{"app/control", "hv/..."}},
	{"app/netd", []string{"app/control", "hv", "platform/localsock", "platform/paths", "platform/proc",
		"github.com/containers/gvisor-tap-vsock", "gvisor.dev/gvisor", "golang.org/x/net", "github.com/sirupsen/logrus",
		"github.com/insomniacslk/dhcp", "github.com/miekg/dns"}}, // in tests: clients of what the library serves
	{"app/desktop", []string{"app/desktop/model", "app/desktop/screen", "app/client", "app/api", "app/text",
		"fyne.io/fyne/v2", "github.com/fyne-io/terminal",
		"github.com/go-gl/glfw"}}, // only to ask whether a window can be
	{"app/desktop/model/...", []string{"app/desktop/model", "app/client", "app/api", "app/text"}},
	{"app/desktop/screen", []string{"hv/rfb", "platform/keymap", "app/text", "fyne.io/fyne/v2",
		"github.com/go-gl/glfw", "github.com/go-gl/gl"}}, // Fyne's own: it does not tell when a window is minimised
	{"hv/...", []string{"hv/..."}},
	{"hv/native", []string{"hv/...", "github.com/klauspost/compress", "github.com/pierrec/lz4", "github.com/ulikunitz/xz"}},
	{"hv/qemu", []string{"hv/...", "github.com/digitalocean/go-qemu"}},
	{"platform/confine", []string{"golang.org/x/sys", "golang.org/x/net/bpf", "github.com/landlock-lsm/go-landlock"}},
	{"platform/...", []string{"platform/...", "golang.org/x/sys", "github.com/ebitengine/purego",
		"github.com/kardianos/service", "github.com/godbus/dbus", "github.com/go-ole/go-ole"}},
	{"installer/packaging", []string{"installer/plan", "installer/steps"}},
	{"installer/ui", []string{"installer/plan", "installer/steps", "app/text", "platform/...", "fyne.io/fyne/v2",
		"github.com/go-gl/glfw"}}, // only to ask whether a window can be
	{"installer/cmd/...", []string{"installer/...", "app/...", "platform/..."}},
	{"installer/plan", nil},
	{"installer/steps", []string{"installer/plan", "app/client", "app/text", "platform/...", "golang.org/x/sys"}},
	{"platform/accel/...", []string{"platform/...", "hv/accel", "golang.org/x/sys", "github.com/ebitengine/purego"}},
}

// inTests are what _test files may import on top of their package's rule: the
// shared cases, what stands in for a service, and for the client the real
// server that it has to get on with.
func inTests(path string) []string {
	out := []string{"hv/hvtest"}
	switch {
	case path == "app/client":
		return append(out, "app/service/rpc")
	case covers("app/desktop/...", path):
		return append(out, "app/desktop/model/modeltest", "app/desktop/model", "github.com/godbus/dbus") // a desktop's notifications
	}
	return out
}

// without lists, for each program, the starts of import paths that it must not
// link, directly or not: what a program links is its memory and its start.
var without = map[string][]string{
	"hxen":        {"fyne.io/", "github.com/fyne-io/", "github.com/go-gl/", "github.com/containers/gvisor-tap-vsock", "gvisor.dev/"},
	"hxen-worker": {"fyne.io/", "github.com/fyne-io/", "github.com/go-gl/", "github.com/containers/gvisor-tap-vsock", "gvisor.dev/", "github.com/spf13/", "net/http"},
	"hxen-netd":   {"fyne.io/", "github.com/fyne-io/", "github.com/go-gl/", "github.com/spf13/"},
	"hxen-setup":  {"fyne.io/", "github.com/fyne-io/", "github.com/go-gl/", "github.com/spf13/", module + "app/service", module + "app/worker", module + "app/netd"},
	"hxen-desktop": {"github.com/containers/gvisor-tap-vsock", "gvisor.dev/", "github.com/spf13/", "github.com/digitalocean/",
		module + "app/service", module + "app/worker", module + "app/netd"},
}

// initBudget bounds what the package inits of a program that stands once per
// guest or network may allocate. Allocations do not depend on the machine's
// load as the clock does.
var initBudget = map[string]struct{ bytes, allocs int }{
	"hxen-worker": {100 << 10, 1000},
	"hxen-netd":   {1 << 20, 2000},
}

type listed struct {
	ImportPath, Name, Doc              string
	Imports, TestImports, XTestImports []string
}

// goList runs go list for one system and decodes its packages.
func goList(t *testing.T, system string, cgo bool, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Name,Doc,Imports,TestImports,XTestImports"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH=amd64", "CGO_ENABLED=0")
	if cgo {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list for %s: %v\n%s", system, err, stderr.Bytes())
	}
	var pkgs []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// covers reports whether pattern (an exact path, a tree "x/..." or the start of
// a foreign path at a slash) covers path.
func covers(pattern, path string) bool {
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == tree || strings.HasPrefix(path, tree+"/")
	}
	return path == pattern
}

func ruleFor(path string) (imports []string, found bool) {
	longest := -1
	for _, r := range may {
		if covers(r.pkg, path) && len(strings.TrimSuffix(r.pkg, "/...")) >= longest {
			longest, imports, found = len(strings.TrimSuffix(r.pkg, "/...")), r.imports, true
			if !strings.HasSuffix(r.pkg, "/...") {
				return imports, true
			}
		}
	}
	return imports, found
}

func allowed(imports []string, path string) bool {
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		return true // the standard library
	}
	ours, isOurs := strings.CutPrefix(path, module)
	for _, a := range imports {
		if isOurs && covers(a, ours) || !isOurs && covers(a+"/...", path) {
			return true
		}
	}
	return false
}

// isProgram: mains put the parts together and may import any of them.
func isProgram(path string) bool {
	return strings.HasPrefix(path, "app/cmd/") || strings.HasPrefix(path, "installer/cmd/")
}

func TestWhoMayImportWhom(t *testing.T) {
	for _, system := range systems {
		for _, p := range goList(t, system, system == "linux", "./...") {
			path := strings.TrimPrefix(p.ImportPath, module)
			rule, found := ruleFor(path)
			if !found {
				t.Errorf("%s has no import rule: add one, or find it a better place", path)
				continue
			}
			for _, imp := range p.Imports {
				if !allowed(rule, imp) && !isProgram(path) {
					t.Errorf("%s: %s must not import %s", system, path, imp)
				}
			}
			for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
				if imp != p.ImportPath && !allowed(slices.Concat(rule, inTests(path)), imp) && !isProgram(path) {
					t.Errorf("%s: the tests of %s must not import %s", system, path, imp)
				}
			}
		}
	}
}

// home is the folder of a program's main.
func home(program string) string {
	if strings.HasPrefix(program, "hxen-setup") {
		return "./installer/cmd/" + program
	}
	return "./app/cmd/" + program
}

func TestWhatProgramsLink(t *testing.T) {
	for program, banned := range without {
		for _, system := range systems {
			// Listed as it is built: what has no way without cgo would not build.
			cgo := system == "linux" && program == "hxen-desktop"
			for _, p := range goList(t, system, cgo, "-deps", home(program)) {
				for _, b := range banned {
					if strings.HasPrefix(p.ImportPath, b) {
						t.Errorf("%s: %s links %s", system, program, p.ImportPath)
					}
				}
			}
		}
	}
}

var initLine = regexp.MustCompile(`(?m)^init (\S+) @.* clock, (\d+) bytes, (\d+) allocs$`)

func TestInitBudget(t *testing.T) {
	for program, budget := range initBudget {
		exe := filepath.Join(t.TempDir(), program)
		build := exec.Command("go", "build", "-buildvcs=false", "-o", exe, "./app/cmd/"+program)
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
		run := exec.Command(exe, "--help") // ends before it does anything, after all inits
		run.Env = append(os.Environ(), "GODEBUG=inittrace=1")
		out, _ := run.CombinedOutput()
		lines := initLine.FindAllSubmatch(out, -1)
		if len(lines) == 0 {
			t.Fatalf("%s printed no init trace:\n%s", program, out)
		}
		var size, allocs int
		for _, l := range lines {
			b, _ := strconv.Atoi(string(l[2]))
			a, _ := strconv.Atoi(string(l[3]))
			size, allocs = size+b, allocs+a
		}
		if size > budget.bytes || allocs > budget.allocs {
			t.Errorf("%s: package inits allocate %d bytes in %d allocations, at most %d in %d:\n%s", program, size, allocs, budget.bytes, budget.allocs, out)
		}
		t.Logf("%s: %d bytes, %d allocations", program, size, allocs)
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	for _, p := range goList(t, "linux", true, "./...") {
		if p.Doc == "" && p.Name != "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		switch filepath.Base(p.ImportPath) {
		case "util", "utils", "common", "helper", "helpers", "misc", "manager", "types":
			t.Errorf("%s: the name says nothing", p.ImportPath)
		}
	}
}

var (
	unsafeFile = regexp.MustCompile(`_unsafe(_test|_[a-z0-9]+)*\.go$`)
	systemFile = regexp.MustCompile(`_(linux|darwin|windows|unix|amd64|arm64)(_test)?\.go$`)
	goosPlaces = []string{"hv/hvtest/", "platform/hostinfo/", "platform/paths/"}
)

const maxLines = 600

func TestFiles(t *testing.T) {
	fset := token.NewFileSet()
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		name = filepath.ToSlash(name)
		if d.IsDir() {
			if name != "." && (strings.HasPrefix(d.Name(), ".") || name == "bin" || name == "dist" || d.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		seen++
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		checkFile(t, fset, name, src)
		return nil
	})
	if err != nil || seen < 20 {
		t.Fatalf("saw %d files: %v", seen, err)
	}
}

func checkFile(t *testing.T, fset *token.FileSet, name string, src []byte) {
	isTest := strings.HasSuffix(name, "_test.go")
	if n := bytes.Count(src, []byte("\n")); n > maxLines && !isTest {
		t.Errorf("%s has %d lines, more than %d", name, n, maxLines)
	}
	f, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return
	}
	for _, imp := range f.Imports {
		if imp.Path.Value == `"unsafe"` && !unsafeFile.MatchString(name) {
			t.Errorf("%s imports unsafe; only files named *_unsafe.go may", name)
		}
	}
	if strings.HasPrefix(name, "hv/") {
		if systemFile.MatchString(name) {
			t.Errorf("%s is for one system only; hv has no such files", name)
		}
		for _, group := range f.Comments {
			for _, c := range group.List {
				if strings.HasPrefix(c.Text, "//go:build") {
					t.Errorf("%s has a build constraint; hv has none", name)
				}
			}
		}
	}
	if isTest || slices.ContainsFunc(goosPlaces, func(p string) bool { return strings.HasPrefix(name, p) }) {
		return
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "GOOS" {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "runtime" {
				t.Errorf("%s asks for runtime.GOOS; per-system code goes into its own files", fset.Position(n.Pos()))
			}
		}
		return true
	})
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"app", "hv", "installer", "platform", "go.mod", "go.sum", "Makefile", "README.md", "LICENSE",
		"bin", "dist"} // the last two are built and not in the repository
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(want, e.Name()) {
			t.Errorf("%s does not belong at the top", e.Name())
		}
	}
}
