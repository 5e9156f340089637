package text

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var verb = regexp.MustCompile(`%[a-z]`)

func german(t *testing.T) map[string]string {
	b, err := files.ReadFile("de.json")
	if err != nil {
		t.Fatal(err)
	}
	var texts map[string]string
	if err := json.Unmarshal(b, &texts); err != nil {
		t.Fatal(err)
	}
	return texts
}

// TestGerman: every text of installer and command line has a German one, each German one a text
// that some program shows, and both take the same arguments.
func TestGerman(t *testing.T) {
	texts, used := german(t), map[string]bool{}
	for _, root := range []string{"../../installer", ".."} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, english := range shown(f) {
				used[english] = true
				if _, ok := texts[english]; !ok && !strings.Contains(path, "desktop") {
					t.Errorf("%s: no German for %q; app/text/de.json is the place", path, english)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for english, text := range texts {
		if !used[english] {
			t.Errorf("nobody shows %q", english)
		}
		if a, b := verb.FindAllString(english, -1), verb.FindAllString(text, -1); !slices.Equal(a, b) {
			t.Errorf("%q takes %q, its German %q", english, a, b)
		}
	}
}

// shown lists the texts that a file gives to T.
func shown(f *ast.File) (out []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		s, _ := call.Fun.(*ast.SelectorExpr)
		x, _ := selected(s)
		usage, _ := call.Fun.(*ast.Ident) // the command line's, which is T for wrong arguments
		if !(x == "text" && s.Sel.Name == "T") && (usage == nil || usage.Name != "usage") {
			return true
		}
		if lit, ok := call.Args[0].(*ast.BasicLit); ok {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				out = append(out, text)
			}
		}
		return true
	})
	return out
}

var sentence = regexp.MustCompile(`[A-Za-z]{2,} [a-z]{2,}`)

// TestNothingIsForgotten: what the command line says, in errors or on the screen,
// goes through T.
func TestNothingIsForgotten(t *testing.T) {
	files, err := filepath.Glob("../cli/*.go")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	says := map[string]bool{"errors.New": true, "fmt.Errorf": true, "fmt.Fprint": true, "fmt.Fprintf": true, "fmt.Fprintln": true, "fmt.Println": true}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			s, _ := call.Fun.(*ast.SelectorExpr)
			if x, ok := selected(s); !ok || !says[x+"."+s.Sel.Name] {
				return true
			}
			for _, arg := range call.Args {
				if lit, ok := arg.(*ast.BasicLit); ok && sentence.MatchString(lit.Value) && !columns[lit.Value] {
					t.Errorf("%s says %s in English only", name, lit.Value)
				}
			}
			return true
		})
	}
}

// columns are xl's, which programs read, and a command.
var columns = map[string]bool{`"Name                                ID Uptime"`: true, `"%w: hxen destroy %s"`: true}

func selected(s *ast.SelectorExpr) (string, bool) {
	if s == nil {
		return "", false
	}
	x, ok := s.X.(*ast.Ident)
	if !ok {
		return "", false
	}
	return x.Name, true
}

func TestUse(t *testing.T) {
	defer Use("")
	for name, want := range map[string]string{"de_AT.UTF-8": "Abbrechen", "de": "Abbrechen", "C": "Cancel", "": "Cancel", "xx": "Cancel", Pseudo: "[Cancel]"} {
		if Use(name); T("Cancel") != want {
			t.Errorf("%s: %s", name, T("Cancel"))
		}
	}
	Use("de")
	if got := T("HXEN %s is installed", "1"); got != "HXEN 1 ist installiert" {
		t.Error(got)
	}
}
