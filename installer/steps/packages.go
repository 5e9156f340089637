package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
)

// packages is the step that has the distribution's package manager install QEMU
// and what else comes from there.
type packages struct {
	host  *Host
	names []string
	take  bool // uninstalling removes them
}

// manager is how a package manager is asked. Each list is a command without the
// packages' names.
type manager struct {
	env                    []string
	install, remove, query []string
	refresh                []string // brings the lists of what there is up to date
}

var managers = map[string]manager{
	"apt-get": {
		env:     []string{"DEBIAN_FRONTEND=noninteractive"},
		install: []string{"apt-get", "install", "-y", "--no-install-recommends"},
		remove:  []string{"apt-get", "remove", "-y"},
		query:   []string{"dpkg-query", "-W", "-f", "${db:Status-Status}\n"},
		refresh: []string{"apt-get", "update"},
	},
	"dnf": {
		install: []string{"dnf", "install", "-y", "--setopt=install_weak_deps=False"},
		remove:  []string{"dnf", "remove", "-y"},
		query:   []string{"rpm", "-q"},
	},
	"pacman": {
		install: []string{"pacman", "-S", "--needed", "--noconfirm"},
		remove:  []string{"pacman", "-R", "--noconfirm"},
		query:   []string{"pacman", "-Q"},
	},
	"zypper": {
		install: []string{"zypper", "--non-interactive", "install", "--no-recommends"},
		remove:  []string{"zypper", "--non-interactive", "remove"},
		query:   []string{"rpm", "-q"},
	},
	"apk": {
		install: []string{"apk", "add"},
		remove:  []string{"apk", "del"},
		query:   []string{"apk", "info", "-e"},
	},
	"winget": { // which knows one package at a time, and HXEN needs one
		install: []string{"winget", "install", "--exact", "--silent", "--disable-interactivity", "--accept-package-agreements", "--accept-source-agreements", "--id"},
		remove:  []string{"winget", "uninstall", "--exact", "--silent", "--disable-interactivity", "--id"},
		query:   []string{"winget", "list", "--exact", "--disable-interactivity", "--accept-source-agreements", "--id"},
	},
	"brew": {
		install: []string{"brew", "install"},
		remove:  []string{"brew", "uninstall"},
		query:   []string{"brew", "list", "--versions"},
	},
}

const kindPackage = "package"

func (*packages) ID() string    { return "packages" }
func (*packages) Title() string { return text.T("Installing QEMU from your system's packages") }

// missing lists the chosen packages that are not installed.
func (p *packages) missing(ctx context.Context) ([]string, error) {
	m, ok := managers[p.host.Manager]
	if !ok && len(p.names) > 0 {
		return nil, errors.New(text.T("this system's package manager is not known; install QEMU yourself and leave it out here"))
	}
	var out []string
	for _, n := range p.names {
		if !slices.Contains(p.host.Names, n) {
			return nil, fmt.Errorf("the plan asks for the package %q, which is not one of HXEN's", n)
		}
		if !p.installed(ctx, m, n) {
			out = append(out, n)
		}
	}
	return out, nil
}

func (p *packages) installed(ctx context.Context, m manager, name string) bool {
	out, err := p.host.Run.Run(ctx, nil, m.query[0], append(slices.Clone(m.query[1:]), name)...)
	return err == nil && (m.query[0] != "dpkg-query" || strings.Contains(out, "installed\n") && !strings.Contains(out, "not-installed"))
}

// Check implements plan.Step.
func (p *packages) Check(ctx context.Context, _ *plan.Session) (plan.Status, error) {
	missing, err := p.missing(ctx)
	if err != nil {
		return plan.Status{}, err
	}
	if len(missing) == 0 {
		return plan.Status{Done: true, Detail: text.T("they are installed")}, nil
	}
	return plan.Status{Detail: text.T("%s installs %s", p.host.Manager, strings.Join(missing, ", "))}, nil
}

// Apply implements plan.Step.
func (p *packages) Apply(ctx context.Context, s *plan.Session) error {
	missing, err := p.missing(ctx)
	if err != nil {
		return err
	}
	var acts []plan.Act
	for _, n := range missing {
		if !slices.ContainsFunc(s.Pending(), func(a plan.Act) bool { return a.Name == n }) {
			acts = append(acts, plan.Act{Kind: kindPackage, Name: n, Args: []string{p.host.Manager}})
		}
	}
	if err := s.Intend(acts...); err != nil {
		return err
	}
	m := managers[p.host.Manager]
	out, err := p.run(ctx, s, m, m.install, missing...)
	if err != nil && len(m.refresh) > 0 && ctx.Err() == nil {
		// The lists may have been old. apt-get update calls it a success when it could
		// fetch none.
		said, lerr := p.run(ctx, s, m, m.refresh)
		if err = lerr; err == nil {
			out, err = p.run(ctx, s, m, m.install, missing...)
		}
		out += said
	}
	if err == nil {
		return nil
	}
	command := strings.Join(append(slices.Clone(m.install), missing...), " ")
	if offline(out + err.Error()) {
		return fmt.Errorf("%w; %s", err, text.T("packages could not be downloaded: connect to the network and try again, or leave QEMU out"))
	}
	return fmt.Errorf("%w; %s", err, text.T("see what this says in a terminal: %s", command))
}

func (p *packages) run(ctx context.Context, s *plan.Session, m manager, command []string, names ...string) (string, error) {
	args := append(slices.Clone(command[1:]), names...)
	s.Log("%s %s", command[0], strings.Join(args, " "))
	out, err := p.host.Run.Run(ctx, m.env, command[0], args...)
	for line := range strings.Lines(out) {
		s.Log("%s", strings.TrimRight(line, "\r\n"))
	}
	return out, err
}

// offline reports whether a package manager says that there is no network.
func offline(out string) bool {
	return slices.ContainsFunc([]string{
		"failure resolving", "could not resolve", "unable to fetch", "failed to fetch", "couldn't resolve", "network is unreachable",
		"failed to download", "could not connect", "failed retrieving", "temporary error", "connection failed", "no such host",
	}, func(s string) bool { return strings.Contains(strings.ToLower(out), s) })
}

// Undo implements plan.Step. A run that failed takes its packages back;
// uninstalling leaves them unless asked, because others may use them by now.
func (p *packages) Undo(ctx context.Context, s *plan.Session, a plan.Act) error {
	if len(a.Args) == 0 || a.Args[0] != p.host.Manager || !slices.Contains(p.host.Names, a.Name) {
		return nil
	}
	m := managers[p.host.Manager]
	if !p.installed(ctx, m, a.Name) {
		return nil
	}
	if s.Uninstalling() && !p.take {
		s.Note(text.T("The package %s stays installed; your system's package manager removes it.", a.Name))
		return nil
	}
	if _, err := p.run(ctx, s, m, m.remove, a.Name); err != nil {
		s.Note(text.T("The package %s could not be removed: %v", a.Name, err)) // another needs it, perhaps
	}
	return nil
}
