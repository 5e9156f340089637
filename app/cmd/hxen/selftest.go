package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/hxen-project/hxen/app/cli"
	"github.com/hxen-project/hxen/hv/accel/selftest"
	"github.com/hxen-project/hxen/platform/accel"
)

// caseVar names the case that a child process of the self-test is to run.
const caseVar = "HXEN_SELFTEST_CASE"

// caseLimit is what a child gets. Cases guard themselves; this is for a processor
// that hangs inside the kernel.
const caseLimit = 3 * selftest.Guard

// How a child ends.
const (
	casePassed = 0
	caseFailed = 21
	caseLacks  = 22 // the back end does not have what the case is about
)

// selfTestChild returns at once, except in a child process of the self-test: it
// runs one case there and ends the process.
func selfTestChild() {
	name := os.Getenv(caseVar)
	if name == "" {
		return
	}
	err := runCase(name)
	switch {
	case err == nil:
		os.Exit(casePassed)
	case errors.Is(err, selftest.ErrSkip):
		fmt.Println(err)
		os.Exit(caseLacks)
	}
	fmt.Println(err)
	os.Exit(caseFailed)
}

func runCase(name string) error {
	for _, c := range selftest.Cases {
		if c.Name != name {
			continue
		}
		h, err := accel.Open()
		if err != nil {
			return err
		}
		return c.Run(h)
	}
	return fmt.Errorf("there is no case %q", name)
}

// selfTest runs every case on this computer's accelerator, each in a child of
// this program. It is not begun where the probe has seen that guests do not run.
func selfTest(ctx context.Context, report func(cli.SelfTestCase)) error {
	verdict := accel.Probe(ctx, accel.Options{Fresh: true})[0]
	if n := verdict.Native; !n.Usable {
		return &accel.UnavailableError{Reason: n.Reason, Cure: n.Cure}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	for _, c := range selftest.Cases {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), caseVar+"="+c.Name)
		r, err := judgeCase(ctx, caseLimit, cmd)
		if err != nil {
			return err
		}
		r.Name = c.Name
		report(r)
	}
	return nil
}

// judgeCase runs a child to its end or its limit. One that cannot be killed is
// left behind.
func judgeCase(ctx context.Context, limit time.Duration, cmd *exec.Cmd) (cli.SelfTestCase, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return cli.SelfTestCase{}, fmt.Errorf("start a case of the self-test: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		_ = cmd.Process.Kill()
		return cli.SelfTestCase{State: cli.CaseFail, Detail: fmt.Sprintf("it hung for %v", limit)}, nil
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		return cli.SelfTestCase{}, ctx.Err()
	}
	said := strings.TrimSpace(out.String())
	switch cmd.ProcessState.ExitCode() {
	case casePassed:
		return cli.SelfTestCase{State: cli.CasePass}, nil
	case caseLacks:
		return cli.SelfTestCase{State: cli.CaseSkip, Detail: said}, nil
	case caseFailed:
		return cli.SelfTestCase{State: cli.CaseFail, Detail: said}, nil
	}
	return cli.SelfTestCase{State: cli.CaseFail, Detail: strings.TrimSpace(fmt.Sprintf("its process ended by %s: %s", cmd.ProcessState, said))}, nil
}
