package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hxen-project/hxen/app/text"
)

// Pages are written here, not by cobra's package for it: its Markdown and YAML
// readers would be made ready at the start of every command.

func (a *app) manCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Args: cobra.ExactArgs(1), Hidden: true,
		Short: text.T("Write the manual pages into a folder"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return manPages(root, args[0], "HXEN "+a.Version)
		},
	}
}

// manPages writes the pages of a command and of those below it.
func manPages(c *cobra.Command, dir, source string) error {
	if !c.IsAvailableCommand() && c.HasParent() {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, pageName(c)+".1"), manPage(c, source), 0o644); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if err := manPages(sub, dir, source); err != nil {
			return err
		}
	}
	return nil
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage is a command's page in the language of man(7).
func manPage(c *cobra.Command, source string) []byte {
	c.InitDefaultHelpFlag()
	var b bytes.Buffer
	section := func(name string) { fmt.Fprintf(&b, ".SH %s\n", name) }
	fmt.Fprintf(&b, ".TH %q 1 \"\" %q HXEN\n", strings.ToUpper(pageName(c)), source)
	section("NAME")
	fmt.Fprintf(&b, "%s \\- %s\n", roff(pageName(c)), roff(c.Short))
	section("SYNOPSIS")
	fmt.Fprintf(&b, "\\fB%s\\fP\n", roff(c.UseLine()))
	section("DESCRIPTION")
	if c.Long == "" {
		fmt.Fprintln(&b, roff(c.Short))
	} else {
		fmt.Fprintln(&b, strings.ReplaceAll(roff(strings.TrimSpace(c.Long)), "\n\n", "\n.PP\n"))
	}
	options := func(name string, flags *pflag.FlagSet) {
		if flags.HasAvailableFlags() {
			section(name)
			flags.VisitAll(func(f *pflag.Flag) { manFlag(&b, f) })
		}
	}
	options("OPTIONS", c.NonInheritedFlags())
	options("GENERAL OPTIONS", c.InheritedFlags())
	if c.Example != "" {
		section("EXAMPLES")
		fmt.Fprintf(&b, ".nf\n%s\n.fi\n", roff(strings.Trim(c.Example, "\n")))
	}
	var also []string
	if c.HasParent() {
		also = append(also, pageName(c.Parent()))
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			also = append(also, pageName(sub))
		}
	}
	if len(also) > 0 {
		section("SEE ALSO")
		for i, name := range also {
			also[i] = fmt.Sprintf("\\fB%s\\fP(1)", roff(name))
		}
		fmt.Fprintln(&b, strings.Join(also, ",\n"))
	}
	return b.Bytes()
}

func manFlag(b *bytes.Buffer, f *pflag.Flag) {
	if f.Hidden {
		return
	}
	value, usage := pflag.UnquoteUsage(f)
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	fmt.Fprintf(b, ".TP\n\\fB%s\\fP", roff(name))
	if value != "" {
		fmt.Fprintf(b, " \\fI%s\\fP", roff(value))
	}
	fmt.Fprintf(b, "\n%s\n", roff(usage))
}

// roff has a text printed as it is: backslashes, dashes, and lines that begin like
// an order to roff.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
