package steps

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/platform/elevate"
)

// ElevatedFlag is the argument that makes the setup program the helper.
const ElevatedFlag = "--elevated"

// ask runs the plan's steps that need an administrator in a helper: this program
// again. It gets the plan as one line; the end of its input tells it to stop.
func (s *Setup) ask(ctx context.Context, p plan.Plan, report func(plan.Event)) plan.Result {
	r := plan.Result{Action: p.Action, Version: p.Version, Hash: p.Hash(), Undone: true}
	finish := func(err error) plan.Result {
		switch {
		case errors.Is(err, elevate.ErrCancelled):
			r.Rights = true
			err = errors.New(text.T("the administrator's password was not given, so nothing was changed"))
		case errors.Is(err, elevate.ErrUnavailable):
			r.Rights = true
		case ctx.Err() != nil:
			err = ctx.Err()
		}
		r.Error = err.Error()
		if report != nil {
			report(plan.Event{End: &r})
		}
		return r
	}
	line, err := json.Marshal(p)
	if err != nil {
		return finish(err)
	}
	h, err := s.elevate(context.WithoutCancel(ctx), elevate.Command{
		Path: s.Program, Args: []string{ElevatedFlag}, Terminal: s.Terminal,
		Prompt: text.T("HXEN's setup asks for your password to carry out plan %s: ", short(p.Hash())),
	})
	if err != nil {
		return finish(err)
	}
	stop := context.AfterFunc(ctx, func() { h.In.Close() })
	defer stop()
	if _, err := h.In.Write(append(line, '\n')); err != nil {
		h.In.Close()
		io.Copy(io.Discard, h.Out)
		return finish(errors.Join(h.Wait(), err))
	}
	var end *plan.Result
	for d := json.NewDecoder(bufio.NewReader(h.Out)); end == nil; {
		var e plan.Event
		if err = d.Decode(&e); err != nil {
			break
		}
		end = e.End
		if report != nil {
			report(e)
		}
	}
	h.In.Close()
	werr := h.Wait()
	switch {
	case end != nil:
		return *end
	case werr != nil:
		return finish(werr)
	}
	r.Undone = false
	return finish(fmt.Errorf("%s: %w", text.T("the part of the setup that runs as administrator ended unexpectedly; start the setup again, it goes on where that was"), err))
}

// short is how a plan's hash is shown.
func short(hash string) string { return hash[:12] }

// Elevated is the helper: it reads a plan, builds the steps anew from what this
// program itself knows and carries, refuses the plan if that is not the same, and
// runs it. Events go to out, one a line, the result last.
func (s *Setup) Elevated(ctx context.Context, in io.Reader, out io.Writer) plan.Result {
	e := json.NewEncoder(out)
	report := func(ev plan.Event) { e.Encode(ev) } // a caller that has gone does not stop the work half way
	fail := func(err error) plan.Result {
		r := plan.Result{Error: err.Error(), Undone: true}
		report(plan.Event{End: &r})
		return r
	}
	b := bufio.NewReader(in)
	line, err := b.ReadString('\n')
	if err != nil {
		return fail(fmt.Errorf("read the plan: %w", err))
	}
	p, err := plan.Read(strings.NewReader(line))
	if err != nil {
		return fail(err)
	}
	if err := s.Accept(p); err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		b.ReadByte() // nothing comes but the end
		cancel()
	}()
	return s.runAdmin(ctx, p, only(s.steps(p), true), report)
}

// Accept refuses a plan that this program would not have made.
func (s *Setup) Accept(p plan.Plan) error {
	tampered := errors.New(text.T("the plan is not one of this setup program; start the setup again"))
	if p.Action != plan.Install && p.Action != plan.Uninstall {
		return tampered
	}
	if p.Action == plan.Install && (s.Payload == nil || p.Payload != s.Payload.Sum || p.Version != s.Payload.Version || p.Stamp != s.Payload.Stamp) {
		return tampered
	}
	if err := s.validate(p.Options); err != nil {
		return fmt.Errorf("%w: %w", tampered, err)
	}
	for _, n := range p.Packages {
		if !slices.Contains(s.Host.Names, n) {
			return tampered
		}
	}
	if !slices.Equal(p.Steps, stepIDs(s.steps(p))) {
		return tampered
	}
	if uid, ok := elevate.Caller(); ok {
		u, err := user.LookupId(strconv.Itoa(uid))
		if err != nil || u.Username != p.Account {
			return fmt.Errorf("%w: it is for %s", tampered, p.Account)
		}
		s.Home = u.HomeDir
	}
	if p.Action == plan.Install && p.Scope == plan.System {
		if dir, _ := s.journals(p.Scope); dir != "" {
			j, err := plan.Load(dir)
			if err != nil {
				return err
			}
			if i, there := j.Installed(); there && older(p, i) {
				return Refused(text.T("HXEN %s is installed, which is newer than the %s that this setup carries; uninstall it first if you really want the older one", i.Version, p.Version))
			}
		}
	}
	return nil
}
