// Package hvtest holds what tests of several packages share: the rule for parts
// that a machine may lack, and the conformance suites that every implementation
// of a port passes. It is imported by tests only.
package hvtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// parts are the parts that a test may need, with the programs that make them up.
var parts = map[string][]string{
	"qemu":    {"qemu-system-x86_64", "qemu-img"},
	"display": {"Xvfb", "xdotool", "openbox", "import", "xprop", "dbus-daemon"},
	"wine":    {"wine", "wineserver"},     // Windows programs run
	"mingw":   {"x86_64-w64-mingw32-gcc"}, // a C compiler for Windows
	"images":  {"mmdebstrap", "xorriso", "grub-mkrescue", "dpkg-deb"},
}

// Require skips the test when a part is missing, with the reason; it fails the
// test instead when HXEN_REQUIRE (a comma-separated list) names the part.
func Require(t testing.TB, names ...string) {
	t.Helper()
	for _, part := range names {
		programs, known := parts[part]
		if !known {
			t.Fatalf("hvtest.Require: no part is called %q", part)
		}
		for _, p := range programs {
			if _, err := exec.LookPath(p); err != nil {
				missing(t, part, p+" is not installed")
			}
		}
	}
}

func missing(t testing.TB, part, reason string) {
	t.Helper()
	for _, want := range strings.Split(os.Getenv("HXEN_REQUIRE"), ",") {
		if strings.TrimSpace(want) == part {
			t.Fatalf("HXEN_REQUIRE names %s, but %s", part, reason)
		}
	}
	t.Skipf("needs %s: %s", part, reason)
}
