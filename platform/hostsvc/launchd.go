package hostsvc

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kardianos/service"
)

// LaunchdLabel is the job's name to launchd.
func LaunchdLabel(name string) string { return "org.hxen." + name }

// LaunchdPlist is the text of a LaunchDaemon, or of a LaunchAgent if it is per
// user: launchd.plist(5).
func LaunchdPlist(d Desired) string {
	var b strings.Builder
	b.WriteString(xml.Header)
	b.WriteString("<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist version=\"1.0\">\n<dict>\n")
	key := func(name, value string) { fmt.Fprintf(&b, "\t<key>%s</key>\n\t%s\n", name, value) }
	text := func(s string) string { return "<string>" + escape(s) + "</string>" }
	key("Label", text(LaunchdLabel(d.Name)))
	words := make([]string, 0, len(d.Args)+1)
	for _, w := range append([]string{d.Program}, d.Args...) {
		words = append(words, "\t\t"+text(w)+"\n")
	}
	key("ProgramArguments", "<array>\n"+strings.Join(words, "")+"\t</array>")
	if !d.PerUser {
		key("UserName", text(d.User.Name))
	}
	env := d.Env
	if d.User.Home != "" {
		env = append([]string{"HOME=" + d.User.Home}, env...) // launchd sets none for daemons
	}
	if len(env) > 0 {
		vars := ""
		for _, e := range env {
			k, v, _ := strings.Cut(e, "=")
			vars += "\t\t<key>" + escape(k) + "</key>\n\t\t" + text(v) + "\n"
		}
		key("EnvironmentVariables", "<dict>\n"+vars+"\t</dict>")
	}
	key("RunAtLoad", "<true/>")
	// Started again when it fails, not when it was told to stop.
	key("KeepAlive", "<dict>\n\t\t<key>SuccessfulExit</key>\n\t\t<false/>\n\t</dict>")
	// Guests' workers go on when the service ends.
	key("AbandonProcessGroup", "<true/>")
	key("ExitTimeOut", fmt.Sprintf("<integer>%d</integer>", int(d.StopTime.Seconds())))
	key("ProcessType", text("Interactive")) // guests are what somebody waits for
	key("SoftResourceLimits", "<dict>\n\t\t<key>NumberOfFiles</key>\n\t\t<integer>8192</integer>\n\t</dict>")
	b.WriteString("</dict>\n</plist>\n")
	return b.String()
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

// launchd is one job.
type launchd struct {
	r       Runner
	label   string
	file    string
	domain  string // system, or gui/UID
	perUser bool
	lib     func(plist string) (service.Service, error) // nil: its files are written and removed here
}

func newLaunchd(r Runner, dir, name, domain string, perUser bool) launchd {
	label := LaunchdLabel(name)
	return launchd{r: r, label: label, file: filepath.Join(dir, label+".plist"), domain: domain, perUser: perUser}
}

func (l launchd) target() string { return l.domain + "/" + l.label }

func (l launchd) set(ctx context.Context, d Desired) error {
	if err := d.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(dirOf(l.file), 0o755); err != nil {
		return err
	}
	same, err := l.register(LaunchdPlist(d))
	if err != nil {
		return fmt.Errorf("register with launchd: %w", err)
	}
	if _, err := l.r.Run(ctx, "launchctl", "enable", l.target()); err != nil {
		return err
	}
	if _, err := l.r.Run(ctx, "launchctl", "print", l.target()); err == nil {
		if same {
			return nil
		}
		if _, err := l.r.Run(ctx, "launchctl", "bootout", l.target()); err != nil {
			return err
		}
	}
	_, err = l.r.Run(ctx, "launchctl", "bootstrap", l.domain, l.file)
	return err
}

// register writes the job's file, through kardianos/service where there is none
// yet: launchd itself is spoken to here, as the library knows its old commands only.
func (l launchd) register(plist string) (same bool, err error) {
	if _, err := os.Lstat(l.file); l.lib == nil || !errors.Is(err, fs.ErrNotExist) {
		return replaceFile(l.file, plist)
	}
	lib, err := l.lib(plist)
	if err == nil {
		err = lib.Install()
	}
	if err != nil {
		return false, err
	}
	return false, syncFile(l.file)
}

func (l launchd) remove(ctx context.Context) error {
	if _, err := os.Lstat(l.file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var stopped error
	if _, err := l.r.Run(ctx, "launchctl", "print", l.target()); err == nil {
		_, stopped = l.r.Run(ctx, "launchctl", "bootout", l.target())
	}
	if l.lib == nil {
		return errors.Join(stopped, os.Remove(l.file))
	}
	lib, err := l.lib("")
	if err == nil {
		err = lib.Uninstall()
	}
	return errors.Join(stopped, err)
}

func (l launchd) query(ctx context.Context) (State, error) {
	st := State{Manager: "launchd", PerUser: l.perUser}
	if _, err := os.Stat(l.file); err == nil {
		st.Installed, st.Where = true, l.file
	} else if !errors.Is(err, fs.ErrNotExist) {
		return st, err
	}
	out, err := l.r.Run(ctx, "launchctl", "print", l.target())
	if err != nil {
		return st, nil // it is not loaded
	}
	for _, line := range strings.Split(out, "\n") {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && k == "state" {
			st.Running, st.Detail = v == "running", v
		}
	}
	return st, nil
}
