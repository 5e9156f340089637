package hostsvc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kardianos/service"
)

func dirOf(path string) string { return filepath.Dir(path) }

// SystemdUnit is the text of the unit file: systemd.service(5), systemd.exec(5).
//
// The service is told to stop, and its guests' workers are not: they go on under
// the next service, and end with the host, after the service has stopped them by
// each guest's policy.
func SystemdUnit(d Desired) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Written by \"hxen service install\", which writes it anew; put changes of your own")
	line("# into %s.service.d/.", d.Name)
	line("[Unit]")
	line("Description=HXEN virtual machines")
	line("Documentation=man:hxen(1)")
	if !d.PerUser {
		// D-Bus is asked, while the host stops, whether it does.
		line("After=local-fs.target remote-fs.target network.target dbus.service systemd-logind.service time-sync.target")
		if d.Store != "" {
			line("RequiresMountsFor=%s", systemdQuote(d.Store))
		}
	}
	line("StartLimitIntervalSec=60")
	line("StartLimitBurst=5")
	line("")
	line("[Service]")
	line("Type=notify")
	line("NotifyAccess=main")
	line("ExecStart=%s", systemdCommand(d))
	for _, e := range d.Env {
		line("Environment=%s", systemdQuote(e))
	}
	if !d.PerUser {
		line("User=%s", d.User.Name)
		if len(d.User.Groups) > 0 {
			line("SupplementaryGroups=%s", strings.Join(d.User.Groups, " "))
		}
		// Guests' sockets are there, and outlive the service as the guests do.
		line("RuntimeDirectory=%s", d.Name)
		line("RuntimeDirectoryMode=0700")
		line("RuntimeDirectoryPreserve=yes")
	}
	line("Restart=on-failure")
	line("RestartSec=2")
	line("KillMode=process")
	line("TimeoutStartSec=60")
	line("TimeoutStopSec=%d", int(d.StopTime.Seconds()))
	line("OOMPolicy=continue")
	line("LimitNOFILE=65536")
	line("TasksMax=infinity")
	if !d.PerUser {
		// What QEMU (which makes code at run time), the networks and disks anywhere in
		// the user's home need stays open.
		for _, s := range []string{"NoNewPrivileges", "ProtectKernelModules", "ProtectKernelTunables", "ProtectKernelLogs",
			"ProtectControlGroups", "ProtectHostname", "RestrictSUIDSGID", "RestrictRealtime", "RestrictNamespaces", "LockPersonality"} {
			line("%s=yes", s)
		}
		line("ProtectSystem=full")
		line("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK")
		line("SystemCallArchitectures=native")
		line("UMask=0077")
	}
	line("")
	line("[Install]")
	if d.PerUser {
		line("WantedBy=default.target")
	} else {
		line("WantedBy=multi-user.target")
	}
	return b.String()
}

func systemdCommand(d Desired) string {
	words := []string{systemdQuote(d.Program)}
	for _, a := range d.Args {
		words = append(words, strings.ReplaceAll(systemdQuote(a), "$", "$$"))
	}
	return strings.Join(words, " ")
}

// systemdQuote: systemd.syntax(7), quoting; systemd.unit(5), specifiers.
func systemdQuote(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if strings.ContainsAny(s, " \t\"'\\;") || s == "" {
		s = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
	return s
}

// systemdFolder is where units of this kind live, and the words that make
// systemctl speak of them.
func systemdFolder(perUser bool, home string) (dir string, scope []string) {
	if perUser {
		return filepath.Join(home, ".config", "systemd", "user"), []string{"--user"}
	}
	return "/etc/systemd/system", nil
}

// systemd is one unit: kardianos/service registers it, removes it and tells it to
// start and stop; what that lacks (a unit that is there already and is to change,
// and what its state is) is ours.
type systemd struct {
	r     Runner
	unit  string // name
	file  string
	scope []string
	lib   func(unitText string) (service.Service, error)
}

func newSystemd(r Runner, dir, name string, scope []string, lib func(string) (service.Service, error)) systemd {
	return systemd{r: r, unit: name + ".service", file: filepath.Join(dir, name+".service"), scope: scope, lib: lib}
}

func (s systemd) ctl(ctx context.Context, words ...string) (string, error) {
	return s.r.Run(ctx, "systemctl", append(append([]string{}, s.scope...), words...)...)
}

// set writes the unit, if it is another, and has it started at every boot.
func (s systemd) set(ctx context.Context, d Desired) error {
	if err := d.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(dirOf(s.file), 0o755); err != nil {
		return err
	}
	if _, err := os.Lstat(s.file); errors.Is(err, fs.ErrNotExist) {
		lib, err := s.lib(SystemdUnit(d))
		if err == nil {
			err = lib.Install()
		}
		if err != nil {
			return fmt.Errorf("register with systemd: %w", err)
		}
		return syncFile(s.file)
	}
	same, err := replaceFile(s.file, SystemdUnit(d))
	if err != nil {
		return fmt.Errorf("write %s: %w", s.file, err)
	}
	if !same {
		if _, err := s.ctl(ctx, "daemon-reload"); err != nil {
			return err
		}
	}
	_, err = s.ctl(ctx, "enable", s.unit)
	return err
}

func (s systemd) remove() error {
	if _, err := os.Lstat(s.file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lib, err := s.lib("")
	if err != nil {
		return err
	}
	return errors.Join(lib.Stop(), lib.Uninstall())
}

func (s systemd) control(verb string) error {
	lib, err := s.lib("")
	if err != nil {
		return err
	}
	return service.Control(lib, verb)
}

func (s systemd) query(ctx context.Context) (State, error) {
	st := State{Manager: "systemd", PerUser: len(s.scope) > 0}
	if _, err := os.Stat(s.file); err == nil {
		st.Installed, st.Where = true, s.file
	} else if !errors.Is(err, fs.ErrNotExist) {
		return st, err
	}
	// An exit code that is not 0 is an answer here.
	out, err := s.ctl(ctx, "show", "--property=ActiveState,SubState,UnitFileState", s.unit)
	if err != nil {
		if st.Installed {
			return st, err
		}
		return st, nil
	}
	fields := map[string]string{}
	for _, l := range strings.Split(out, "\n") {
		if k, v, ok := strings.Cut(strings.TrimSpace(l), "="); ok {
			fields[k] = v
		}
	}
	st.Running = fields["ActiveState"] == "active" || fields["ActiveState"] == "activating" || fields["ActiveState"] == "reloading"
	st.Detail = strings.TrimSpace(fields["ActiveState"] + " (" + fields["SubState"] + "), " + fields["UnitFileState"])
	return st, nil
}
