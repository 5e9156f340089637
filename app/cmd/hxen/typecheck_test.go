package main

// The window's packages need cgo, so that `make cross` can neither build nor vet
// them for systems whose C compiler and headers are not here. What Go can say of
// them without a C compiler, the type checker says here: every file that such a
// system would compile, their tests and all they import, with whatever belongs to
// C taken on trust.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var windowTargets = []string{"darwin/arm64", "darwin/amd64", "windows/amd64", "linux/arm64"}

// A source is one package as go list names it for a target.
type source struct {
	ImportPath, Dir   string
	GoFiles, CgoFiles []string
	ImportMap         map[string]string
	Module            *sourceModule // nil for the standard library
}

type sourceModule struct {
	GoVersion string
	Main      bool
}

func (s source) ours() bool { return s.Module != nil && s.Module.Main }

// A checker checks the packages of one target, each after those that it imports.
type checker struct {
	parsed *parsed
	sizes  types.Sizes
	done   map[string]*types.Package // by go list's import path
	errs   []error
}

// parsed holds files by their path: most are the same for every target.
type parsed struct {
	fset  *token.FileSet
	files map[string]*ast.File
}

func (p *parsed) file(path string) (*ast.File, error) {
	if f := p.files[path]; f != nil {
		return f, nil
	}
	f, err := parser.ParseFile(p.fset, path, nil, parser.SkipObjectResolution)
	if err == nil {
		p.files[path] = f
	}
	return f, err
}

type importer func(path string) (*types.Package, error)

func (f importer) Import(path string) (*types.Package, error) { return f(path) }

// check checks one package. Of what is not ours the function bodies are left out:
// they are their authors' to build.
func (c *checker) check(s source) {
	var files []*ast.File
	for _, name := range slices.Concat(s.GoFiles, s.CgoFiles) {
		f, err := c.parsed.file(filepath.Join(s.Dir, name))
		if err != nil {
			c.errs = append(c.errs, err)
			continue
		}
		files = append(files, f)
	}
	config := types.Config{
		FakeImportC:      true,
		IgnoreFuncBodies: !s.ours(),
		Sizes:            c.sizes,
		Error:            func(err error) { c.errs = append(c.errs, err) },
		Importer: importer(func(path string) (*types.Package, error) {
			if to, ok := s.ImportMap[path]; ok {
				path = to
			}
			if p := c.done[path]; p != nil {
				return p, nil
			}
			return nil, fmt.Errorf("%s was not checked before %s, which imports it", path, s.ImportPath)
		}),
	}
	if s.Module != nil && s.Module.GoVersion != "" {
		config.GoVersion = "go" + s.Module.GoVersion
	}
	path, _, _ := strings.Cut(s.ImportPath, " ") // "x [y.test]": x as y's tests see it
	c.done[s.ImportPath], _ = config.Check(path, c.parsed.fset, files, nil)
}

// constant is the value of a string constant of a package that was checked.
func (c *checker) constant(pkg, name string) string {
	if p := c.done[pkg]; p != nil {
		if v, ok := p.Scope().Lookup(name).(*types.Const); ok && v.Val().Kind() == constant.String {
			return constant.StringVal(v.Val())
		}
	}
	return ""
}

// goListFor runs go list for a target.
func goListFor(t *testing.T, target, cgo string, args ...string) []byte {
	t.Helper()
	system, arch, _ := strings.Cut(target, "/")
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED="+cgo)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list for %s: %v\n%s", target, err, stderr.Bytes())
	}
	return out
}

// sources lists the packages of ours that do not build for the target without
// cgo, their tests, and what they import, the imported first, as a build with cgo
// would take them.
func sources(t *testing.T, target string) (all []source) {
	t.Helper()
	roots := strings.Fields(string(goListFor(t, target, "0", "-e", "-f", "{{if or .Error .DepsErrors}}{{.ImportPath}}{{end}}", "./...")))
	for _, program := range []string{"app/cmd/hxen-desktop", "installer/cmd/hxen-setup-window"} {
		if !slices.Contains(roots, module+program) {
			t.Errorf("go list says that %s builds without cgo: then it belongs in Makefile's PURE, or this test has lost its way", program)
		}
	}
	out := goListFor(t, target, "1", append([]string{"-deps", "-test", "-json=ImportPath,Dir,GoFiles,CgoFiles,ImportMap,Module", "--"}, roots...)...)
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var s source
		if err := d.Decode(&s); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if s.ImportPath != "unsafe" && !strings.HasSuffix(s.ImportPath, ".test") { // the latter: a test's main, which go writes
			all = append(all, s)
		}
	}
}

func TestWindowTypechecks(t *testing.T) {
	files := &parsed{token.NewFileSet(), map[string]*ast.File{}}
	for _, target := range windowTargets {
		t.Run(target, func(t *testing.T) {
			system, arch, _ := strings.Cut(target, "/")
			c := &checker{files, types.SizesFor("gc", arch), map[string]*types.Package{"unsafe": types.Unsafe}, nil}
			ours, withC := 0, 0
			for _, s := range sources(t, target) {
				if s.ours() {
					ours++
				}
				withC += min(len(s.CgoFiles), 1)
				c.check(s)
			}
			said := map[string]bool{} // a package and its tests' form of it err alike
			for _, err := range c.errs {
				if !said[err.Error()] {
					t.Error(err)
				}
				said[err.Error()] = true
			}
			t.Logf("%d packages, %d of ours, %d with C in them", len(c.done), ours, withC)

			// The files were the target's, and those of a build with cgo.
			if s, a := c.constant("internal/goos", "GOOS"), c.constant("internal/goarch", "GOARCH"); s+"/"+a != target {
				t.Errorf("what was checked is for %s/%s", s, a)
			}
			const glfw = "github.com/go-gl/glfw/v3.4/glfw"
			if p := c.done[glfw]; p == nil || p.Scope().Lookup("CreateWindow") == nil {
				t.Errorf("%s was not among what was checked", glfw)
			}
			// The checker can fail: by an unused variable, a name that only another
			// system has, a type of the toolkit.
			c.errs = nil
			c.check(planted(t, system))
			if len(c.errs) != 3 {
				t.Errorf("of 3 planted errors %d were found: %v", len(c.errs), c.errs)
			}
		})
	}
}

// planted is a package of ours with three errors.
func planted(t *testing.T, system string) source {
	elsewhere := "EpollCreate"
	if system == "linux" {
		elsewhere = "LoadDLL"
	}
	src := `package planted

import (
	"syscall"

	"fyne.io/fyne/v2"
)

func f() int {
	unused := 1
	_ = syscall.` + elsewhere + `
	return fyne.NewSize(1, 2)
}
`
	s := source{ImportPath: module + "planted", Dir: t.TempDir(), GoFiles: []string{"planted.go"}, Module: &sourceModule{Main: true}}
	if err := os.WriteFile(filepath.Join(s.Dir, s.GoFiles[0]), []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}
