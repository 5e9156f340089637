package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/platform/paths"
)

func (a *app) cdInsertCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cd-insert NAME FILE", Args: cobra.ExactArgs(2),
		Short:             text.T("Put a CD image into a guest's drive"),
		Example:           "  hxen cd-insert web tools.iso",
		ValidArgsFunction: a.guestThenFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.InsertCD(cmd.Context(), vm, args[1])
		},
	}
}

func (a *app) cdEjectCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cd-eject NAME", Args: cobra.ExactArgs(1),
		Short:             text.T("Empty a guest's CD drive"),
		Example:           "  hxen cd-eject web",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.EjectCD(cmd.Context(), vm)
		},
	}
}

// guestThenFile completes a guest's name first and files after it.
func (a *app) guestThenFile(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.guestNames(cmd, args, toComplete)
	}
	return nil, cobra.ShellCompDirectiveDefault
}

func (a *app) screenshotCommand() *cobra.Command {
	return &cobra.Command{
		Use: "screenshot NAME FILE", Args: cobra.ExactArgs(2),
		Short:             text.T("Save a guest's screen as a PNG picture"),
		Example:           "  hxen screenshot web web.png\n  hxen screenshot web - | display",
		ValidArgsFunction: a.guestThenFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			png, err := c.Screenshot(cmd.Context(), vm)
			if err != nil {
				return err
			}
			if args[1] == "-" {
				_, err = a.Out.Write(png)
				return err
			}
			return os.WriteFile(args[1], png, 0o644)
		},
	}
}

func (a *app) vncviewerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "vncviewer NAME", Args: cobra.ExactArgs(1),
		Short:             text.T("Open a window with a guest's screen"),
		Example:           "  hxen vncviewer web",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, _, row, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			program, err := paths.Program("hxen-desktop")
			if err != nil {
				return err
			}
			w := exec.CommandContext(cmd.Context(), program, "--console", row.UUID)
			w.Stdout, w.Stderr = a.Out, a.Err
			err = w.Run()
			var ended *exec.ExitError
			switch {
			case errors.As(err, &ended):
				return exitCode(exitFailed) // it has said why
			case errors.Is(err, fs.ErrNotExist):
				return fmt.Errorf("%s", text.T("the window program %s is not installed", program))
			}
			return err
		},
	}
}
