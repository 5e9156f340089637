package steps

import (
	"context"
	"slices"
	"strings"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/platform/hostinfo"
	"github.com/hxen-project/hxen/platform/paths"
)

// Fix is what the setup can do about a finding.
type Fix string

const (
	FixPackages Fix = "packages" // install QEMU and what the window needs
	FixKVM      Fix = "kvm"      // let the user use the accelerator: plan.Options.KVM
)

// Finding is one line of the wizard's check page.
type Finding struct {
	hostinfo.Check
	Fix Fix `json:"fix,omitempty"` // empty: only the user can do something
}

// Preflight looks at the computer. Its main must begin with accel.ProbeChild.
func (s *Setup) Preflight(ctx context.Context) ([]Finding, error) {
	store, err := paths.Default()
	if err != nil {
		return nil, err
	}
	var out []Finding
	for _, c := range hostinfo.Collect(ctx, store) {
		if c.ID == "sockets" || c.ID == "display" {
			continue // they say nothing about what is to be installed
		}
		out = append(out, Finding{c, s.fixFor(c)})
	}
	if c, ok := s.room(); ok {
		out = append(out, Finding{Check: c})
	}
	return out, nil
}

// fixFor says what the setup can do about a check that came out badly.
func (s *Setup) fixFor(c hostinfo.Check) Fix {
	switch {
	case c.State == hostinfo.OK || c.State == hostinfo.Info:
		return ""
	case slices.Contains([]string{"qemu", "qemu-img", "firmware", "opengl"}, c.ID) && s.Host.Manager != "" && managers[s.Host.Manager].install != nil:
		return FixPackages
	}
	return s.accelFix(c)
}

// ResumeFlag has the setup go on after a restart that something it has switched on
// needs.
const ResumeFlag = "--resume"

// Resumed is what there is to say after such a restart: whether guests run as they
// were to.
func Resumed(found []Finding) []string {
	var notes []string
	for _, f := range found {
		switch {
		case !strings.HasPrefix(f.ID, "accelerator."):
		case f.State == hostinfo.OK:
			return []string{text.T("Your guests run at the processor's speed now.")}
		default:
			notes = append(notes, strings.TrimSpace(text.Finding(f.Title)+": "+text.Finding(f.Detail)+" "+text.Finding(f.Cure)))
		}
	}
	return notes
}

// room says whether the place that is proposed has room for HXEN.
func (s *Setup) room() (hostinfo.Check, bool) {
	if s.Payload == nil {
		return hostinfo.Check{}, false
	}
	o := s.Defaults()
	list, err := s.Payload.For(o, o.Prefix)
	if err != nil {
		return hostinfo.Check{}, false
	}
	var need int64
	for _, f := range list {
		need += f.Size
	}
	c := hostinfo.Check{ID: "room", Title: text.T("Room for HXEN"), State: hostinfo.OK}
	free, err := freeSpace(o.Prefix)
	switch {
	case err != nil:
		c.State, c.Detail = hostinfo.Warn, err.Error()
	case free < uint64(need)+spare:
		c.State = hostinfo.Fail
		c.Detail = text.T("%s are needed in %s, %s are free", text.Size(need), o.Prefix, text.Size(int64(free)))
		c.Cure = text.T("Free some space or choose another place.")
	default:
		c.Detail = text.T("%s are needed in %s, %s are free", text.Size(need), o.Prefix, text.Size(int64(free>>20)<<20))
	}
	return c, true
}

// Propose is what findings ask of the options: fixes that the setup can make.
func Propose(o plan.Options, findings []Finding) plan.Options {
	for _, f := range findings {
		switch f.Fix {
		case FixKVM:
			o.KVM = true
		case FixPackages:
			if !o.Has(plan.QEMU) {
				o.Components = append(o.Components, plan.QEMU)
			}
		}
	}
	return o
}
