package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/platform/paths"
)

// run runs a command line on a store that nobody serves.
func run(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	t.Setenv(paths.HomeVar, t.TempDir())
	var o, e bytes.Buffer
	code = Main(Options{Version: "1.2.3", In: strings.NewReader(""), Out: &o, Err: &e,
		Service: func(context.Context, paths.Store, string, func()) error { return errors.New("no service in this test") }}, args)
	return code, o.String(), e.String()
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"version"}, exitOK, ""},
		{[]string{"--help"}, exitOK, ""},
		{[]string{"frob"}, exitUsage, `unknown command "frob"`},
		{[]string{"start"}, exitUsage, "hxen --help"},
		{[]string{"list", "--frob"}, exitUsage, "--frob"},
		{[]string{"new", "x", "--memory", "2Q", "--disk-size", "1G"}, exitUsage, "2Q"},
		{[]string{"new", "x"}, exitUsage, "nothing to boot from"},
		{[]string{"new", "x", "--iso", "a", "--disk", "b"}, exitUsage, "cannot be used together"},
		{[]string{"new", "x", "--disk-size", "1G", "--forward", "22"}, exitUsage, "2222:22"},
		{[]string{"new", "x", "--type", "pv", "--kernel", "k"}, exitUsage, "hvm or pvh"},
		{[]string{"new", "x", "--type", "pvh", "--disk-size", "1G"}, exitUsage, "--kernel"},
		{[]string{"new", "x", "--iso", "a", "--kernel", "b"}, exitUsage, "cannot be used together"},
		{[]string{"retype", "x", "pv"}, exitUsage, "hvm or pvh"},
		{[]string{"service"}, exitFailed, "no service in this test"},
	} {
		code, _, errs := run(t, c.args...)
		if code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%q: exit code %d, want %d: %s", c.args, code, c.code, errs)
		}
	}
}

// TestHelpOfEveryCommand: each command says what it does and shows an example.
func TestHelpOfEveryCommand(t *testing.T) {
	a := &app{Options: Options{Out: io.Discard, Err: io.Discard}}
	for _, c := range a.root().Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.Short == "" || !strings.Contains(c.Example, "hxen "+c.Name()) {
			t.Errorf("%s: no short text, or no example", c.Name())
		}
	}
}

func TestManualPages(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := run(t, "man", dir); code != exitOK {
		t.Fatal(errs)
	}
	page, err := os.ReadFile(filepath.Join(dir, "hxen-new.1"))
	if err != nil || !bytes.Contains(page, []byte(`disk\-size`)) || !bytes.Contains(page, []byte("HXEN 1.2.3")) {
		t.Errorf("hxen-new.1: %v\n%.400s", err, page)
	}
}

// A line per case, and an exit code that tells; without an accelerator the reason.
func TestSelfTestLines(t *testing.T) {
	run := func(asJSON bool, test func(func(SelfTestCase)) error) (string, error) {
		var out bytes.Buffer
		a := &app{Options: Options{Out: &out, SelfTest: func(_ context.Context, report func(SelfTestCase)) error { return test(report) }}}
		err := a.selfTest(t.Context(), asJSON)
		return out.String(), err
	}
	good := func(report func(SelfTestCase)) error {
		report(SelfTestCase{Name: "ports", State: CasePass})
		report(SelfTestCase{Name: "state", State: CaseSkip, Detail: "not here"})
		return nil
	}
	out, err := run(false, good)
	if want := "pass  ports\nskip  state                                    not here\n0 of 2 cases failed\n"; err != nil || out != want {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = run(true, good); err != nil || !strings.Contains(out, `"state": "skip"`) {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = run(false, func(report func(SelfTestCase)) error {
		report(SelfTestCase{Name: "ports", State: CaseFail, Detail: "it hung"})
		return nil
	})
	if !errors.Is(err, exitCode(exitFailed)) || !strings.Contains(out, "1 of 1 cases failed") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err = run(false, func(func(SelfTestCase)) error { return errors.New("no KVM") }); err == nil || !strings.Contains(err.Error(), "no KVM") {
		t.Errorf("%v", err)
	}
}

func TestCompletion(t *testing.T) {
	if code, out, errs := run(t, "completion", "bash"); code != exitOK || !strings.Contains(out, "__start_hxen") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	// With no service there are no names, and none is started for them.
	if code, out, _ := run(t, "__complete", "start", ""); code != exitOK || !strings.HasPrefix(out, ":4") {
		t.Errorf("exit code %d: %q", code, out)
	}
}

func TestListHasXLsColumns(t *testing.T) {
	rows := []api.ListRow{
		{Name: "off", DomID: -1, Memory: 512, VCPUs: 1, State: "------"},
		{Name: "b\x1b[31mad", DomID: 12, Memory: 1024, VCPUs: 2, State: "--p---", Time: 0.04},
		{Name: "web", DomID: 3, Memory: 2048, VCPUs: 4, State: "r-----", Time: 12.34},
	}
	sortRows(rows)
	var b bytes.Buffer
	if err := writeList(&b, rows); err != nil {
		t.Fatal(err)
	}
	want := "Name                                        ID   Mem VCPUs\tState\tTime(s)\n" +
		"web                                          3  2048     4     r-----      12.3\n" +
		"b[31mad                                     12  1024     2     --p---       0.0\n" +
		"off                                          -   512     1     ------       0.0\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestUptimeWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0:00:00", 61 * time.Second: "0:01:01", 24 * time.Hour: "1 day, 0:00:00",
		50*time.Hour + 3*time.Minute + 4*time.Second: "2 days, 2:03:04",
	} {
		if got := uptimeWords(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestQuotedIsOneWordForAShell(t *testing.T) {
	for in, want := range map[string]string{"web-1.2_x": "web-1.2_x", "my demo": "'my demo'", "it's": `'it'\''s'`, "é": "'é'", "": "''"} {
		if got := quoted(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// duplex is a console whose far end a test plays.
type duplex struct {
	io.Reader
	io.Writer
}

func (duplex) Close() error { return nil }

func TestConsoleJoins(t *testing.T) {
	t.Run("the leave key ends it and is not sent", func(t *testing.T) {
		fromGuest, _ := io.Pipe()
		var sent, shown bytes.Buffer
		ended, err := join(t.Context(), duplex{fromGuest, &sent}, strings.NewReader("ls\r\x1dmore"), &shown, true, "")
		if ended || err != nil || sent.String() != "ls\r" {
			t.Errorf("ended %v, %v, sent %q", ended, err, sent.String())
		}
	})
	t.Run("without a terminal it is a byte like others", func(t *testing.T) {
		var sent bytes.Buffer
		sendKeys(&sent, strings.NewReader("a\x1db"), false)
		if sent.String() != "a\x1db" {
			t.Errorf("sent %q", sent.String())
		}
	})
	t.Run("the guest's end ends it", func(t *testing.T) {
		var shown bytes.Buffer
		never, _ := io.Pipe()
		ended, err := join(t.Context(), duplex{strings.NewReader("bye\n"), io.Discard}, never, &shown, false, "")
		if !ended || err != nil || shown.String() != "bye\n" {
			t.Errorf("ended %v, %v, shown %q", ended, err, shown.String())
		}
	})
	t.Run("a split mark is found", func(t *testing.T) {
		r, w := io.Pipe()
		go func() {
			for _, part := range []string{"boot lo", "g", "in", ": ", "rest"} {
				if _, err := w.Write([]byte(part)); err != nil {
					return
				}
			}
		}()
		var shown bytes.Buffer
		found, err := copyUntil(&shown, r, []byte("login: "))
		if !found || err != nil || shown.String() != "boot login: " {
			t.Errorf("found %v, %v, shown %q", found, err, shown.String())
		}
		r.Close()
	})
}

// TestEveryTextIsTranslated: what the commands and their flags say of themselves
// went through the catalogue.
func TestEveryTextIsTranslated(t *testing.T) {
	text.Use(text.Pseudo)
	defer text.Use("")
	seen := 0
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		seen++
		for _, s := range []string{c.Short, c.Long} {
			if s != "" && !strings.HasPrefix(s, "[") {
				t.Errorf("%s: %q did not go through the catalogue", c.CommandPath(), s)
			}
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.HasPrefix(f.Usage, "[") {
				t.Errorf("%s --%s: %q did not go through the catalogue", c.CommandPath(), f.Name, f.Usage)
			}
		})
		for _, s := range c.Commands() {
			look(s)
		}
	}
	look((&app{}).root())
	if seen < 40 {
		t.Errorf("only %d commands", seen)
	}
}
