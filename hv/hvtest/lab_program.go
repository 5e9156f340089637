package hvtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// WithLibraries adds a program to a lab's files, in a folder of its own there with
// the libraries that it needs; the folder's "run" starts it.
func WithLibraries(t testing.TB, files map[string]string, folder, program string) {
	t.Helper()
	loader := ""
	for _, word := range strings.Fields(output(t, "", "ldd", program)) {
		if filepath.IsAbs(word) {
			files[folder+"/"+filepath.Base(word)] = word
			if strings.Contains(filepath.Base(word), "ld-linux") {
				loader = filepath.Base(word)
			}
		}
	}
	files[folder+"/"+filepath.Base(program)] = program
	run := filepath.Join(t.TempDir(), "run")
	script := "#!/bin/sh\nexec ${0%/*}/" + loader + " --library-path ${0%/*} ${0%/*}/" + filepath.Base(program) + " \"$@\"\n"
	if err := os.WriteFile(run, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	files[folder+"/run"] = run
}
