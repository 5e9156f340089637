package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
)

// leaveKey is Ctrl-], xl's and telnet's escape.
const leaveKey = 0x1d

// endWait is how long the end of a guest may take to be told after the end of
// its serial line.
const endWait = 3 * time.Second

func (a *app) consoleCommand() *cobra.Command {
	var until string
	cmd := &cobra.Command{
		Use: "console NAME", Args: cobra.ExactArgs(1),
		Short: text.T("Show a guest's serial console here; Ctrl-] leaves"),
		Long: text.T(`Show a guest's serial console in this terminal, with what it printed lately.
Ctrl-] leaves; the guest goes on. With input that is not a terminal, the input is
sent to the guest and its output printed until the guest ends, or until it has
printed the text given by --until.`),
		Example:           "  hxen console web\n  hxen console --until 'login: ' web </dev/null",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.showConsole(cmd.Context(), args[0], until)
		},
	}
	cmd.Flags().StringVar(&until, "until", "", text.T("leave when the guest has printed this text"))
	return cmd
}

func (a *app) showConsole(ctx context.Context, name, until string) error {
	c, vm, row, err := a.guest(ctx, name)
	if err != nil {
		return err
	}
	ref, err := c.ConsoleOf(ctx, vm, api.ProtocolVT100)
	if err != nil {
		return fmt.Errorf("%s: %w", row.Name, err)
	}
	conn, err := c.Console(ctx, ref)
	if err != nil {
		return fmt.Errorf("%s: %w", row.Name, err)
	}
	defer conn.Close()
	if f, ok := terminal(a.In); ok {
		fmt.Fprintln(a.Err, text.T("Console of %s; Ctrl-] leaves.", row.Name))
		old, err := term.MakeRaw(int(f.Fd()))
		if err != nil {
			return fmt.Errorf("%s: %w", text.T("take over the terminal"), err)
		}
		defer func() {
			_ = term.Restore(int(f.Fd()), old)
			fmt.Fprintln(a.Err)
		}()
		ended, err := join(ctx, conn, f, a.Out, true, until)
		return a.consoleEnd(ctx, ended, err, vm, row, "\r\n")
	}
	ended, err := join(ctx, conn, a.In, a.Out, false, until)
	return a.consoleEnd(ctx, ended, err, vm, row, "\n")
}

// consoleEnd says why a console ended that nobody left.
func (a *app) consoleEnd(ctx context.Context, ended bool, err error, vm api.Ref, row api.ListRow, newline string) error {
	if !ended || err != nil {
		return err
	}
	// The serial line ends a moment before the service has written down how.
	ctx, cancel := context.WithTimeout(ctx, endWait)
	defer cancel()
	halted := false
	_ = a.conn.Watch(ctx, []string{api.ClassVM + "/" + string(vm)}, func(b client.Batch) {
		for _, e := range b.Events {
			record, err := client.Decode[api.VM](e)
			if e.Operation == api.EventDel || err == nil && record.PowerState == "Halted" {
				halted = true
				cancel()
			}
		}
	})
	if halted {
		fmt.Fprint(a.Err, newline+text.T("%s has ended.", row.Name)+newline)
		return nil
	}
	return errors.New(text.T("the connection to %s was lost; its console is back with: hxen console %s", row.Name, quoted(row.Name)))
}

// join carries bytes both ways until the far end closes (ended), the text was
// printed, ctx ends or, on a terminal, a person leaves.
func join(ctx context.Context, conn io.ReadWriteCloser, in io.Reader, out io.Writer, isTerminal bool, until string) (ended bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	left := make(chan struct{})
	go func() { // may stay in Read of a terminal until the program ends
		if sendKeys(conn, in, isTerminal) {
			close(left)
		}
	}()
	type result struct {
		found bool
		err   error
	}
	done := make(chan result, 1)
	go func() {
		found, err := copyUntil(out, conn, []byte(until))
		done <- result{found, err}
	}()
	select {
	case r := <-done:
		return !r.found, r.err
	case <-left:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// sendKeys copies input to the guest; it reports whether the leave key ended it.
func sendKeys(conn io.Writer, in io.Reader, isTerminal bool) (left bool) {
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		keys := buf[:n]
		leave := -1
		if isTerminal {
			leave = bytes.IndexByte(keys, leaveKey)
		}
		if leave >= 0 {
			keys = keys[:leave]
		}
		if _, werr := conn.Write(keys); werr != nil {
			return false // the other direction says why
		}
		if leave >= 0 {
			return true
		}
		if err != nil {
			return false
		}
	}
}

// copyUntil copies the guest's output until it holds mark (which may be empty)
// or ends.
func copyUntil(out io.Writer, conn io.Reader, mark []byte) (found bool, err error) {
	buf := make([]byte, 4096)
	var tail []byte // the end of what was printed: mark may be split
	for {
		n, rerr := conn.Read(buf)
		if _, err := out.Write(buf[:n]); err != nil {
			return false, err
		}
		if len(mark) > 0 {
			tail = append(tail, buf[:n]...)
			if bytes.Contains(tail, mark) {
				return true, nil
			}
			tail = append(tail[:0], tail[max(0, len(tail)-len(mark)+1):]...)
		}
		if rerr != nil {
			return false, nil
		}
	}
}

// quoted writes a name so that a shell takes it as one word.
func quoted(name string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	if name != "" && strings.Trim(name, plain) == "" {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

// printPaths prints one path a line, indented.
func printPaths(w io.Writer, list []string) {
	for _, p := range list {
		fmt.Fprintln(w, "  "+printable(p))
	}
}
