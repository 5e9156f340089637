package hostsvc

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// systemctl is a program that notes what it is told, and says what is to be said
// of units; said returns what was told since it was asked last.
func systemctl(t *testing.T) (said func() []string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	text := `#!/bin/sh
echo "$*" >>` + log + `
case "$*" in *show*) printf 'ActiveState=active\nSubState=running\nUnitFileState=enabled\n';; esac
`
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() []string {
		b, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		_ = os.Remove(log) // it may never have been told anything
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
}

// TestSetIsRepeatable: registering is for any state of the system. The library
// writes and removes the unit; a unit that is there is changed in place.
func TestSetIsRepeatable(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	said := systemctl(t)
	dir, scope := systemdFolder(true, home)
	s := newSystemd(Commands{}, dir, "hxen", scope, librarySystemd("hxen", true))
	d := desired(true)
	says := func(want ...string) {
		t.Helper()
		if got := said(); !slices.Equal(got, want) {
			t.Errorf("ran %q, want %q", got, want)
		}
	}
	if err := s.set(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	says("enable --user hxen.service", "daemon-reload --user")
	golden := func() {
		t.Helper()
		if b, err := os.ReadFile(s.file); err != nil || string(b) != SystemdUnit(d) {
			t.Errorf("the unit is %v\n%s", err, b)
		}
	}
	golden()
	if err := s.set(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	says("--user enable hxen.service")
	d.StopTime = time.Minute
	if err := s.set(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	says("--user daemon-reload", "--user enable hxen.service")
	golden()
	for _, verb := range []string{"start", "stop", "restart"} {
		if err := s.control(verb); err != nil {
			t.Fatal(err)
		}
		says(verb + " --user hxen.service")
	}
	st, err := s.query(t.Context())
	if err != nil || !st.Installed || !st.Running || st.Where != s.file {
		t.Errorf("%+v, %v", st, err)
	}
	said()
	for range 2 {
		if err := s.remove(); err != nil {
			t.Fatal(err)
		}
	}
	says("stop --user hxen.service", "disable --user hxen.service", "daemon-reload --user")
	if st, err := s.query(t.Context()); err != nil || st.Installed {
		t.Errorf("%+v, %v", st, err)
	}
	d.Program = "/bin/a\nExecStartPre=/bin/b"
	if err := s.set(t.Context(), d); err == nil {
		t.Error("a line break got into a unit")
	}
}
