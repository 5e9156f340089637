package model

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/text"
)

// Settings is the state behind the settings form of one guest. Config is what
// the form changes, as a whole.
type Settings struct {
	VM       *VM
	Config   api.GuestConfig
	Forwards string // as text, one a line: "2222:22", "udp 127.0.0.1:5353:53"

	loaded api.GuestConfig
}

// LoadSettings asks for the guest's settings.
func (v *VM) LoadSettings(done func(*Settings, error)) {
	var c api.GuestConfig
	ref := v.Ref
	v.lib.Async(func(ctx context.Context) (err error) {
		c, err = v.lib.svc.Config(ctx, ref)
		return err
	}, func(err error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(&Settings{VM: v, Config: c, Forwards: FormatForwards(c.Forwards), loaded: c}, nil)
	})
}

// Locked says why the settings cannot be changed now; empty if they can.
func (s *Settings) Locked() string {
	switch {
	case s.VM.Allows(OpConfigure):
		return ""
	case s.VM.lib.state != Online:
		return text.T("The service does not answer; the settings can be changed once it does.")
	case !s.VM.Is(Halted):
		return text.T("The machine is on. Shut it down to change its settings.")
	}
	return text.T("Another operation is under way. Wait until it has ended.")
}

// Limits tells what the host can give.
func (s *Settings) Limits() Limits {
	w := Wizard{lib: s.VM.lib}
	return w.Limits()
}

// Problems forbid saving, each a sentence.
func (s *Settings) Problems() []string {
	c := s.Config
	w := Wizard{lib: s.VM.lib, Source: FromDisk, Memory: c.Memory, VCPUs: c.VCPUs, Firmware: c.Firmware, Page: PageResources}
	var out []string
	name := strings.TrimSpace(c.Name)
	switch {
	case name == "":
		out = append(out, text.T("Give the machine a name."))
	case name != s.loaded.Name:
		w.Name = name
		out = append(out, w.nameProblems()...)
	}
	out = append(out, w.resourceProblems()...)
	if _, err := ParseForwards(s.Forwards); err != nil {
		out = append(out, Sentence(err.Error()))
	}
	for _, p := range []string{c.Kernel, c.Initrd} {
		if p != "" && !filepath.IsAbs(p) {
			out = append(out, text.T("Give the whole path of %s, from the root folder on.", p))
		}
	}
	if c.Kernel == "" && (c.Initrd != "" || c.Cmdline != "") {
		out = append(out, text.T("An initial RAM disk and a command line need a kernel."))
	}
	return out
}

// Changed reports whether there is something to save.
func (s *Settings) Changed() bool {
	a, b := s.Config, s.loaded
	f, err := ParseForwards(s.Forwards)
	same := err == nil && slices.Equal(f, b.Forwards)
	a.Forwards, b.Forwards = nil, nil
	return !same || !configEqual(a, b)
}

func configEqual(a, b api.GuestConfig) bool {
	return a.Name == b.Name && a.Description == b.Description && a.Memory == b.Memory && a.VCPUs == b.VCPUs &&
		a.Firmware == b.Firmware && a.BootOrder == b.BootOrder && a.Kernel == b.Kernel && a.Initrd == b.Initrd &&
		a.Cmdline == b.Cmdline && a.BootEntry == b.BootEntry && a.Network == b.Network && a.Display == b.Display && a.Audio == b.Audio && a.Autostart == b.Autostart
}

// Save replaces the guest's settings.
func (s *Settings) Save(done func(error)) {
	c := s.Config
	c.VM, c.Name = s.VM.Ref, strings.TrimSpace(c.Name)
	c.Forwards, _ = ParseForwards(s.Forwards)
	svc := s.VM.lib.svc
	s.VM.lib.Async(func(ctx context.Context) error { return svc.SetConfig(ctx, c) }, done)
}

// Clone makes a guest like this one, which does not run, and starts it.
func (v *VM) Clone(name string, done func(error)) {
	svc, ref := v.lib.svc, v.Ref
	v.lib.Async(func(ctx context.Context) error { return svc.Clone(ctx, ref, strings.TrimSpace(name)) }, done)
}

// SetTemplate makes a guest that does not run a template, or a guest again.
func (v *VM) SetTemplate(on bool, done func(error)) {
	svc, ref := v.lib.svc, v.Ref
	v.lib.Async(func(ctx context.Context) error { return svc.SetTemplate(ctx, ref, on) }, done)
}

// Template reports whether the guest is one: it never runs itself.
func (v *VM) Template() bool { return v.Record.IsATemplate }

// Rename gives the guest another name, in any state.
func (v *VM) Rename(name string, done func(error)) {
	ref, svc := v.Ref, v.lib.svc
	v.lib.Async(func(ctx context.Context) error { return svc.Rename(ctx, ref, strings.TrimSpace(name)) }, done)
}

// NameProblem says why the guest cannot be called name; empty if it can.
func (v *VM) NameProblem(name string) string {
	if strings.TrimSpace(name) == v.Record.NameLabel {
		return ""
	}
	w := Wizard{lib: v.lib, Name: name}
	if p := w.nameProblems(); len(p) > 0 {
		return p[0]
	}
	return ""
}

// FormatForward writes one forward as the command line takes it.
func FormatForward(f api.Forward) string {
	s := strconv.Itoa(int(f.From)) + ":" + strconv.Itoa(int(f.To))
	if f.Host != "" && f.Host != "127.0.0.1" {
		host := f.Host
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		s = host + ":" + s
	}
	if f.Proto == "udp" {
		s = "udp " + s
	}
	return s
}

// FormatForwards writes forwards one a line.
func FormatForwards(list []api.Forward) string {
	lines := make([]string, len(list))
	for i, f := range list {
		lines[i] = FormatForward(f)
	}
	return strings.Join(lines, "\n")
}

// ParseForwards reads what FormatForwards writes; empty lines and commas part
// forwards as well.
func ParseForwards(s string) ([]api.Forward, error) {
	var out []api.Forward
	used := map[string]bool{}
	for _, line := range strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == ',' }) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		f, err := parseForward(line)
		if err != nil {
			return nil, err
		}
		key := f.Proto + f.Host + strconv.Itoa(int(f.From))
		if used[key] {
			return nil, forwardError(line, text.T("the host's port is forwarded twice"))
		}
		used[key] = true
		out = append(out, f)
	}
	return out, nil
}

type badForward struct{ line, why string }

func (e *badForward) Error() string {
	return text.T("The forward “%s”: %s", e.line, e.why)
}

func forwardError(line, why string) error { return &badForward{line, why} }

func parseForward(line string) (api.Forward, error) {
	var f api.Forward
	rest := line
	if p, r, ok := strings.Cut(line, " "); ok {
		if p != "tcp" && p != "udp" {
			return f, forwardError(line, text.T("start with tcp or udp, or leave that out"))
		}
		f.Proto, rest = p, strings.TrimSpace(r)
		if p == "tcp" {
			f.Proto = ""
		}
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return f, forwardError(line, text.T("write it as HOST-PORT:GUEST-PORT, like 2222:22"))
	}
	left, right := rest[:i], rest[i+1:]
	if j := strings.LastIndexByte(left, ':'); j >= 0 {
		addr, err := netip.ParseAddr(strings.Trim(left[:j], "[]"))
		if err != nil || addr.Zone() != "" {
			return f, forwardError(line, text.T("what stands before the ports is no address of this computer, like 127.0.0.1"))
		}
		f.Host, left = addr.String(), left[j+1:]
	}
	from, err1 := strconv.ParseUint(left, 10, 16)
	to, err2 := strconv.ParseUint(right, 10, 16)
	if err1 != nil || err2 != nil || from == 0 || to == 0 {
		return f, forwardError(line, text.T("ports are numbers from 1 to 65535"))
	}
	f.From, f.To = uint16(from), uint16(to)
	return f, nil
}

// LoadDelete asks which files deleting the guest concerns.
func (v *VM) LoadDelete(done func(api.Deleted, error)) {
	var d api.Deleted
	ref, svc := v.Ref, v.lib.svc
	v.lib.Async(func(ctx context.Context) (err error) {
		d, err = svc.Paths(ctx, ref)
		return err
	}, func(err error) { done(d, err) })
}

// Delete deletes the halted guest; done gets what was moved and what was kept.
func (v *VM) Delete(keepDisks bool, done func(api.Deleted, error)) {
	var d api.Deleted
	ref, svc := v.Ref, v.lib.svc
	v.lib.Async(func(ctx context.Context) (err error) {
		d, err = svc.Delete(ctx, api.Delete{VM: ref, KeepDisks: keepDisks})
		return err
	}, func(err error) { done(d, err) })
}
