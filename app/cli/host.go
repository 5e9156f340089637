package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/platform/hostinfo"
	"github.com/hxen-project/hxen/platform/paths"
)

func (a *app) doctorCommand() *cobra.Command {
	var asJSON, selfTest bool
	cmd := &cobra.Command{
		Use: "doctor", Args: cobra.NoArgs,
		Short: text.T("Check this computer: what works, what does not, and what cures it"),
		Long: text.T(`Check what guests need of this computer. The exit code is 1 when something keeps
guests from running. No service is needed, and none is started.

With --self-test it runs the accelerator through the cases that guests of type
pvh depend on, each in a process of its own, and prints a line for each. The exit
code is 1 when one fails, or when they cannot be run.`),
		Example: "  hxen doctor\n  hxen doctor --json\n  hxen doctor --self-test",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if selfTest {
				return a.selfTest(cmd.Context(), asJSON)
			}
			store, err := paths.Default()
			if err != nil {
				return err
			}
			checks := hostinfo.Collect(cmd.Context(), store)
			failed := false
			for _, c := range checks {
				failed = failed || c.State == hostinfo.Fail
			}
			if asJSON {
				err = a.json(checks)
			} else {
				a.printChecks(checks)
			}
			if err == nil && failed {
				return exitCode(exitFailed)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, text.T("print JSON"))
	cmd.Flags().BoolVar(&selfTest, "self-test", false, text.T("test the accelerator, case by case"))
	return cmd
}

// How a case of the self-test came out.
const (
	CasePass = "pass"
	CaseFail = "fail"
	CaseSkip = "skip" // the accelerator does not have what the case is about
)

// SelfTestCase is one case of the accelerator's self-test.
type SelfTestCase struct {
	Name   string `json:"name"`
	State  string `json:"state"`            // CasePass, CaseFail, CaseSkip
	Detail string `json:"detail,omitempty"` // why not
}

func (a *app) selfTest(ctx context.Context, asJSON bool) error {
	cases := []SelfTestCase{}
	failed := 0
	err := a.SelfTest(ctx, func(c SelfTestCase) {
		cases = append(cases, c)
		if c.State == CaseFail {
			failed++
		}
		if !asJSON {
			fmt.Fprintln(a.Out, strings.TrimSpace(fmt.Sprintf("%-5s %-40s %s", c.State, c.Name, printable(c.Detail))))
		}
	})
	if err != nil {
		return fmt.Errorf("%s: %w", text.T("the self-test cannot be run"), err)
	}
	if asJSON {
		if err := a.json(cases); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(a.Out, text.T("%d of %d cases failed", failed, len(cases)))
	}
	if failed > 0 {
		return exitCode(exitFailed)
	}
	return nil
}

func (a *app) printChecks(checks []hostinfo.Check) {
	for _, c := range checks {
		fmt.Fprintf(a.Out, "%-5s %-22s %s\n", c.State, text.Finding(c.Title), printable(text.Finding(c.Detail)))
		if c.Cure != "" {
			fmt.Fprintf(a.Out, "%-5s %-22s %s\n", "", "", text.T("cure: %s", text.Finding(c.Cure)))
		}
	}
}

func isTerminal(stream any) bool {
	_, ok := terminal(stream)
	return ok
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Args: cobra.NoArgs,
		Short:   text.T("Print the version of hxen and of the running service"),
		Example: "  hxen version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(a.Out, "hxen", a.Version)
			c, err := a.open(cmd.Context(), true)
			if errors.Is(err, client.ErrNotRunning) {
				fmt.Fprintln(a.Out, text.T("no service is running"))
				return nil
			}
			if err != nil {
				return err
			}
			v, err := c.Version(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out, text.T("service %s (process %d, store %s)", v.Version, v.PID, v.Store))
			return nil
		},
	}
}
