package hvtest

import "testing"

func TestParseLab(t *testing.T) {
	const pass = "--- PASS: TestA (0.01s)\n    --- PASS: TestA/one_(of_two) (1.20s)\n"
	for _, c := range []struct {
		console string
		results int
		err     string
	}{
		{"Linux\n@@ begin kvm\n=== RUN TestA\n" + pass + "PASS\n@@ end kvm 0\n", 2, ""},
		{"@@ begin kvm\n" + pass + "--- FAIL: TestB (0.00s)\nFAIL\n@@ end kvm 1\n", 3, "it ended with status 1"},
		{"@@ begin kvm\n--- SKIP: TestB (0.00s)\nPASS\n@@ end kvm 0\n", 1, "nothing passed"},
		{"@@ begin kvm\n" + pass + "[ 19.6] Oops", 2, "it never ended"},
		{"@@ begin other\n" + pass + "@@ end other 0\n", 0, "it was never started"},
	} {
		results, err := parseLab(c.console, "kvm")
		if len(results) != c.results || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%q gave %v, %v; want %d results and %q", c.console, results, err, c.results, c.err)
		}
	}
}
