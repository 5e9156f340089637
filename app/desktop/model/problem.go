package model

import (
	"context"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/text"
)

// Problem is a failure in words for a person: what failed, why, what to do, and
// where more can be read.
type Problem struct {
	What string
	Why  string
	Cure string
	Log  string // path of a log, if there is one
	// RunAs is the type as which the guest can be run here although it cannot be
	// started as it is: hvm; empty if there is none.
	RunAs string
}

// Explain turns an error into a Problem; vm may be nil. Nil and a cancelled
// operation are no problem, nor is a connection that was only just lost.
func Explain(what string, vm *VM, err error) (Problem, bool) {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, errDropped) {
		return Problem{}, false
	}
	p := Problem{What: what, Why: Sentence(err.Error())}
	var e *api.Error
	if errors.As(err, &e) {
		if e.Code == api.ErrTaskCancelled {
			return Problem{}, false
		}
		if vm != nil {
			p.RunAs = e.RunAs()
		}
		if e.Why() != "" { // the title says what failed: the stage would only repeat it
			p.Why, p.Cure = Sentence(e.Why()), Sentence(e.Cure())
		}
	}
	if vm != nil {
		p.Log = vm.Log()
	}
	return p, true
}

// HostNotice is what the user should know of this computer: what is missing, or
// why guests are slow, with the cure. Empty if all is well.
func HostNotice(h api.HostInfo) string {
	lines := []string{Sentence(h.Missing)}
	if h.Missing == "" {
		if h.Accel != "tcg" {
			return ""
		}
		lines[0] = strings.TrimSpace(text.T("Guests run by emulation, several times slower than they could.") + " " + Sentence(h.AccelWhy))
		if h.AccelCure != "" {
			lines = append(lines, Sentence(h.AccelCure))
		}
	}
	return strings.Join(lines, "\n")
}

// TimedOut reports that a guest was asked to shut down and did not in time.
func TimedOut(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && (e.Code == api.ErrVMShutdownTimeout || e.Code == api.ErrVMFailedShutdownAck)
}

// Text is the whole problem as text, for the clipboard.
func (p Problem) Text() string {
	lines := []string{p.What, p.Why}
	if p.Cure != "" {
		lines = append(lines, text.T("What to do: %s", p.Cure))
	}
	if p.Log != "" {
		lines = append(lines, text.T("Log: %s", p.Log))
	}
	return strings.Join(lines, "\n")
}

// Sentence gives s a capital at its start and a full stop at its end.
func Sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	r, n := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(r)) + s[n:]
	if last, _ := utf8.DecodeLastRuneInString(s); !strings.ContainsRune(".!?", last) {
		s += "."
	}
	return s
}
