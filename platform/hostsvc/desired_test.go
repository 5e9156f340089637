package hostsvc

import (
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("update", false, "write the golden files anew")

func desired(perUser bool) Desired {
	d := Desired{
		Name: "hxen", Program: "/opt/My VMs/100% hxen", Args: []string{"service", "--managed", "$HOME"},
		PerUser: perUser, Env: []string{"HXEN_HOME=/home/ann/my \"guests\" & more"}, Store: "/home/ann/my \"guests\" & more",
		StopTime: 330 * time.Second,
	}
	if !perUser {
		d.User = Account{Name: "ann", Home: "/home/ann", Groups: []string{"kvm"}}
	}
	return d
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
	}
}

// TestGoldens: what is registered on each system.
func TestGoldens(t *testing.T) {
	golden(t, "system.service", SystemdUnit(desired(false)))
	golden(t, "user.service", SystemdUnit(desired(true)))
	golden(t, "daemon.plist", LaunchdPlist(desired(false)))
	golden(t, "agent.plist", LaunchdPlist(desired(true)))
	d := desired(false)
	d.User.Name = VirtualAccount(d.Name)
	c := scmConfig(d, false)
	var options []string
	for k, v := range c.Option {
		options = append(options, fmt.Sprintf("%s=%v", k, v))
	}
	slices.Sort(options)
	golden(t, "scm.txt", fmt.Sprintf("name %s\ndisplay %s\nprogram %s %q\naccount %s\nenvironment %q\n%s\n",
		c.Name, c.DisplayName, c.Executable, c.Arguments, c.UserName, c.EnvVars, strings.Join(options, "\n")))
}

func TestPlistsParse(t *testing.T) {
	for _, perUser := range []bool{false, true} {
		dec := xml.NewDecoder(strings.NewReader(LaunchdPlist(desired(perUser))))
		for {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestSystemdAccepts has systemd judge the units.
func TestSystemdAccepts(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if slices.Contains(strings.Split(os.Getenv("HXEN_REQUIRE"), ","), "systemd") {
			t.Fatal("HXEN_REQUIRE names systemd, but systemd-analyze is not installed")
		}
		t.Skip("needs systemd-analyze: install systemd")
	}
	for _, perUser := range []bool{false, true} {
		d := desired(perUser)
		d.Program = "/bin/true" // it looks for the program
		if !perUser {
			d.User = Account{Name: "root", Home: "/root"}
		}
		path := filepath.Join(t.TempDir(), "hxen.service")
		if err := os.WriteFile(path, []byte(SystemdUnit(d)), 0o644); err != nil {
			t.Fatal(err)
		}
		args := []string{"verify", "--man=no", path}
		if perUser {
			args = append([]string{"--user"}, args...)
		}
		cmd := exec.Command("systemd-analyze", args...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), "hxen.service") {
			t.Errorf("per user %v: %v\n%s", perUser, err, out)
		}
	}
}

// script plays the host's commands.
type script struct {
	said   []string
	answer map[string]string // by a word of the command; "!" fails
}

func (s *script) Run(_ context.Context, name string, args ...string) (string, error) {
	line := name + " " + strings.Join(args, " ")
	s.said = append(s.said, line)
	for word, out := range s.answer {
		if strings.Contains(line, word) {
			if out == "!" {
				return "", errors.New(line + ": no")
			}
			return out, nil
		}
	}
	return "", nil
}

func (s *script) says(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(s.said, want) {
		t.Errorf("ran %q, want %q", s.said, want)
	}
	s.said = nil
}

func TestLaunchd(t *testing.T) {
	r := &script{answer: map[string]string{"print": "!"}}
	l := newLaunchd(r, t.TempDir(), "hxen", "system", false)
	if err := l.set(t.Context(), desired(false)); err != nil {
		t.Fatal(err)
	}
	r.says(t, "launchctl enable system/org.hxen.hxen", "launchctl print system/org.hxen.hxen", "launchctl bootstrap system "+l.file)
	r.answer["print"] = "\tstate = running\n"
	if err := l.set(t.Context(), desired(false)); err != nil {
		t.Fatal(err)
	}
	r.says(t, "launchctl enable system/org.hxen.hxen", "launchctl print system/org.hxen.hxen")
	if st, err := l.query(t.Context()); err != nil || !st.Running {
		t.Errorf("%+v, %v", st, err)
	}
	r.said = nil
	if err := l.remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.says(t, "launchctl print system/org.hxen.hxen", "launchctl bootout system/org.hxen.hxen")
}
