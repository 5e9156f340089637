package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/cli"
)

// A child of the self-test is judged by how it ends, and given up when it hangs.
func TestJudgeCase(t *testing.T) {
	const never = time.Hour
	for _, c := range []struct {
		script string
		limit  time.Duration
		state  string
		detail string
	}{
		{"exit 0", never, cli.CasePass, ""},
		{"echo not here; exit 22", never, cli.CaseSkip, "not here"},
		{"echo it told 3; exit 21", never, cli.CaseFail, "it told 3"},
		{"kill -9 $$", never, cli.CaseFail, "killed"},
		{"echo panic; exit 2", never, cli.CaseFail, "panic"},
		{"exec sleep 3600", time.Second, cli.CaseFail, "it hung for 1s"},
	} {
		r, err := judgeCase(t.Context(), c.limit, exec.Command("sh", "-c", c.script))
		if err != nil || r.State != c.state || !strings.Contains(r.Detail, c.detail) {
			t.Errorf("%s: %+v, %v", c.script, r, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := judgeCase(ctx, never, exec.Command("sleep", "3600")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// The real program: on a computer whose accelerator does not run guests it says
// so and runs nothing; on one whose does it passes.
func TestSelfTest(t *testing.T) {
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "hxen"), "doctor", "--self-test")
	cmd.Env = append(os.Environ(), "HXEN_HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	passed := err == nil && strings.Contains(string(out), "pass  eight processors")
	refused := cmd.ProcessState.ExitCode() == 1 && strings.Contains(string(out), "the self-test cannot be run: ") && !strings.Contains(string(out), "pass ")
	if !passed && !refused {
		t.Errorf("exit code %d\n%s", cmd.ProcessState.ExitCode(), out)
	}
}
