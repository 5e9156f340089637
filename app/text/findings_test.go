package text

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestFindings: what is recognised is still said by hostinfo or accel, piece by
// piece, and the German has as many places.
func TestFindings(t *testing.T) {
	b, err := files.ReadFile("de.findings.json")
	if err != nil {
		t.Fatal(err)
	}
	var patterns map[string]string
	if err := json.Unmarshal(b, &patterns); err != nil {
		t.Fatal(err)
	}
	said := literals(t, "../../platform/hostinfo/*.go", "../../platform/accel/*.go")
	for english, german := range patterns {
		if strings.Count(english, place) != strings.Count(german, place) {
			t.Errorf("%q and %q have not the same places", english, german)
		}
		for piece := range strings.SplitSeq(english, place) {
			if piece = strings.Trim(piece, " .,:;("); len(piece) > 3 && !strings.Contains(said, piece) {
				t.Errorf("nobody says %q of %q", piece, english)
			}
		}
	}
}

// literals is the text of all constants in files, where verbs are places.
func literals(t *testing.T, globs ...string) string {
	t.Helper()
	var all strings.Builder
	for _, glob := range globs {
		names, err := filepath.Glob(glob)
		if err != nil || len(names) < 5 {
			t.Fatalf("%s: %d files, %v", glob, len(names), err)
		}
		for _, name := range names {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if s, err := strconv.Unquote(lit.Value); err == nil {
						all.WriteString(s + "\n")
					}
				}
				return true
			})
		}
	}
	return all.String()
}

func TestFinding(t *testing.T) {
	defer Use("")
	Use("de_AT")
	for english, want := range map[string]string{
		"Memory":                       "Arbeitsspeicher",
		"5.9 GiB of 23.4 GiB are free": "5.9 GiB von 23.4 GiB sind frei",
		"cannot run: KVM is present but does not run guests: it ended in an emulation failure":                    "können nicht laufen: KVM ist vorhanden, führt aber keine Gäste aus: it ended in an emulation failure",
		"cannot run: the Windows Hypervisor Platform is not installed":                                            "können nicht laufen: die Windows-Hypervisor-Plattform ist nicht installiert",
		"VirtualBox and VMware is loaded; while its guests run, KVM guests cannot start, and the other way round": "VirtualBox und VMware ist geladen; solange dessen Gäste laufen, können KVM-Gäste nicht starten, und umgekehrt",
		"something else": "something else",
	} {
		if got := Finding(english); got != want {
			t.Errorf("%q: %q, not %q", english, got, want)
		}
	}
	if Use("C"); Finding("Memory") != "Memory" {
		t.Error("English is not English")
	}
	if Use(Pseudo); Finding("Memory") != "[Memory]" {
		t.Error("the pseudo language forgets findings")
	}
}
