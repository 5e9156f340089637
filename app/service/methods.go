package service

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/localsock"
)

// shutdownWait is how long a guest has to do what it was asked to.
const shutdownWait = time.Minute

// askAgain is how long after one press of the power button comes the next.
const askAgain = 5 * time.Second

// register tells the server what clients can call.
func (s *Service) register(srv *rpc.Server) {
	s.registerPower(srv)
	s.registerSuspend(srv)
	s.registerClone(srv)
	s.registerPlug(srv)
	s.registerTrash(srv)
	s.registerFields(srv)
	s.registerPlugin(srv)
	srv.Register("pool.get_master", func(*rpc.Call, api.Ref) (api.Ref, error) { return s.hostRef(), nil })
	srv.Register("VM.destroy", func(c *rpc.Call, ref api.Ref) error {
		_, err := s.destroy(c, api.Delete{VM: ref})
		return err
	})
	srv.Register("VBD.insert", func(c *rpc.Call, vbd, vdi api.Ref) error {
		return s.insert(c.Context(), vbd, vdi, c.Task.Ref())
	})
	srv.Register("VBD.eject", func(c *rpc.Call, vbd api.Ref) error { return s.eject(c.Context(), vbd, c.Task.Ref()) })
	srv.Register("VDI.forget", func(_ *rpc.Call, vdi api.Ref) error { return s.forget(vdi) })
	srv.Register("VDI.introduce", s.introduceVDI)
	srv.Register("SR.scan", func(_ *rpc.Call, _ api.Ref) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, g := range s.guests {
			s.measure(g)
			s.publish(g)
		}
		for _, m := range s.media {
			s.lookAt(m)
			s.publishMedia(m)
		}
		s.publishSpace()
		return nil
	})
	srv.Register("VM.get_data_sources", func(c *rpc.Call, ref api.Ref) ([]api.DataSource, error) {
		return s.dataSources(c.Context(), ref)
	})
	srv.Register("VM.query_data_source", func(c *rpc.Call, ref api.Ref, name string) (float64, error) {
		all, err := s.dataSources(c.Context(), ref)
		for _, d := range all {
			if d.Name == name {
				return d.Value, nil
			}
		}
		if err == nil {
			err = api.NewError(api.ErrValueNotSupported, "data_source", name, "the guest has no such figure")
		}
		return 0, err
	})
	srv.HandleStream(api.PathConsole, s.openConsole)
	srv.HandleFunc(api.PathSnapshot, s.snapshot)
}

// registerPower adds the verbs that change a guest's power state.
func (s *Service) registerPower(srv *rpc.Server) {
	start := func(c *rpc.Call, ref api.Ref, paused bool) error {
		g, end, err := s.begin(ref, hv.OpStart, c.Task.Ref())
		if err != nil {
			return err
		}
		defer end()
		return s.start(c.Context(), g, launchHow{paused: paused}, progressOf(c.Task))
	}
	srv.Register("VM.start", func(c *rpc.Call, ref api.Ref, paused, _ bool) error { return start(c, ref, paused) })
	srv.Register("VM.start_on", func(c *rpc.Call, ref, host api.Ref, paused, _ bool) error {
		if host != s.hostRef() {
			return api.NewError(api.ErrHandleInvalid, "host", string(host))
		}
		return start(c, ref, paused)
	})
	quick := func(method string, op hv.Operation, verb string, after hv.PowerState) {
		srv.Register("VM."+method, func(c *rpc.Call, ref api.Ref) error {
			g, end, err := s.begin(ref, op, c.Task.Ref())
			if err != nil {
				return err
			}
			defer end()
			r := s.runOf(g)
			if err := s.call(c.Context(), g, verb, nil, nil); err != nil || r == nil || after == "" {
				return err
			}
			return s.settle(c.Context(), g, r, after)
		})
	}
	quick("pause", hv.OpPause, control.VerbPause, hv.Paused)
	quick("unpause", hv.OpUnpause, control.VerbResume, hv.Running)
	quick("hard_reboot", hv.OpHardReboot, control.VerbReset, "")
	resize := func(c *rpc.Call, ref api.Ref, op hv.Operation, what control.Resize) error {
		g, end, err := s.begin(ref, op, c.Task.Ref())
		if err != nil {
			return err
		}
		defer end()
		return s.call(c.Context(), g, control.VerbResize, what, nil)
	}
	srv.Register("VM.set_memory_dynamic_range", func(c *rpc.Call, ref api.Ref, least, most int64) error {
		if least != most || most < 1 { // the guest is told one number, and no other part of the host changes it
			return api.NewError(api.ErrValueNotSupported, "min", strconv.FormatInt(least, 10), "minimum and maximum must be the same: the memory that the guest shall have")
		}
		return resize(c, ref, hv.OpMemoryLive, control.Resize{Memory: uint64(most)})
	})
	srv.Register("VM.set_VCPUs_number_live", func(c *rpc.Call, ref api.Ref, n int64) error {
		if n < 1 || n > 1<<16 {
			return api.NewError(api.ErrValueNotSupported, "nvcpu", strconv.FormatInt(n, 10), "a guest has 1 processor or more")
		}
		return resize(c, ref, hv.OpVCPUsLive, control.Resize{VCPUs: int(n)})
	})
	srv.Register("VM.hard_shutdown", func(c *rpc.Call, ref api.Ref) error {
		g, end, err := s.begin(ref, hv.OpHardShutdown, c.Task.Ref())
		if err != nil {
			return err
		}
		defer end()
		if s.suspended(g) {
			return s.discard(g)
		}
		return s.powerOff(c.Context(), g)
	})
	srv.Register("VM.clean_shutdown", func(c *rpc.Call, ref api.Ref) error { return s.ask(c, ref, hv.OpCleanShutdown, hv.Ask) })
	srv.Register("VM.clean_reboot", func(c *rpc.Call, ref api.Ref) error { return s.ask(c, ref, hv.OpCleanReboot, hv.AskReboot) })
}

// runOf returns the guest's run; nil when it is halted.
func (s *Service) runOf(g *guest) *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.link == nil {
		return nil
	}
	select {
	case <-g.link.run.rebooted: // of long ago
	default:
	}
	return g.link.run
}

// settle waits until the guest's own events say that it is in a state, so that
// whoever asked for the change sees it in the records.
func (s *Service) settle(ctx context.Context, g *guest, r *run, want hv.PowerState) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callWait, fmt.Errorf("the guest did not say that it is %s", want))
	defer cancel()
	for {
		s.mu.Lock()
		there := g.power == want
		s.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-r.moved:
		case <-r.ended:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// powerOff pulls the plug and returns when the guest is halted. A worker that
// does not answer is ended.
func (s *Service) powerOff(ctx context.Context, g *guest) error {
	r := s.runOf(g)
	if r == nil {
		return nil
	}
	s.mu.Lock()
	hangs := g.hangs()
	s.mu.Unlock()
	err := errSilent
	if !hangs {
		err = s.call(ctx, g, control.VerbPower, control.Power{How: hv.PowerOff}, nil)
	}
	timer := time.NewTimer(endWait)
	defer timer.Stop()
	if err != nil {
		s.log.Warn("power a guest off", "guest", g.name, "err", err)
		s.mu.Lock()
		g.pulled = true
		s.mu.Unlock()
		s.kill(g) // then its connection ends, and it is halted as lost
	}
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
	}
	s.kill(g)
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(endWait):
		return refuse("power off", fmt.Sprintf("the processes of guest %q cannot be ended", g.name), "see the guest's worker.log")
	}
}

// ask asks the guest to shut down or reboot and waits until it has. It asks
// again from time to time: a guest that is still starting misses the first time,
// and one that is under way ignores the next.
func (s *Service) ask(c *rpc.Call, ref api.Ref, op hv.Operation, how hv.StopHow) error {
	g, end, err := s.begin(ref, op, c.Task.Ref())
	if err != nil {
		return err
	}
	defer end()
	r := s.runOf(g)
	if r == nil {
		return nil
	}
	rebooted := r.rebooted
	if how == hv.Ask {
		rebooted = nil
	}
	late := time.NewTimer(s.shutdownWait)
	defer late.Stop()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		if err := s.call(c.Context(), g, control.VerbPower, control.Power{How: how}, nil); err != nil && !closedNow(r.ended) {
			return err
		}
		select {
		case <-r.ended:
			return nil
		case <-rebooted:
			return nil
		case <-late.C:
			return api.NewError(api.ErrVMShutdownTimeout, string(ref), strconv.Itoa(int(s.shutdownWait.Seconds())))
		case <-c.Context().Done():
			return context.Cause(c.Context())
		case <-again.C:
		}
	}
}

// destroy deletes a guest.
func (s *Service) destroy(c *rpc.Call, d api.Delete) (api.Deleted, error) {
	g, end, err := s.begin(d.VM, hv.OpDestroy, c.Task.Ref())
	if err != nil {
		return api.Deleted{}, err
	}
	defer end()
	return s.remove(g, d.KeepDisks)
}

// introduceVDI is XenAPI's VDI.introduce; the file is its location.
func (s *Service) introduceVDI(_ *rpc.Call, _, label, _ string, sr api.Ref, _ string, _, _ bool, _ map[string]string, location string, _ map[string]string, _ map[string]string) (api.Ref, error) {
	if sr != s.srOutside() {
		return "", api.NewError(api.ErrOperationNotAllowed, "images are introduced into the SR \"Images outside the store\" only")
	}
	img, err := s.inspectAny(location)
	if err != nil {
		return "", err
	}
	m, err := s.introduce(img, label)
	if err != nil {
		return "", err
	}
	return api.RefOf(m.UUID), nil
}

// openConsole opens the stream of a console.
func (s *Service) openConsole(c *rpc.Call, r *http.Request) (io.ReadWriteCloser, error) {
	ref := api.Ref(r.URL.Query().Get("ref"))
	console, ok := rpc.Get[api.Console](s.db, ref)
	if !ok {
		if uuid := r.URL.Query().Get("uuid"); uuid != "" { // xapi takes either
			ref = api.RefOf(uuid)
			console, ok = rpc.Get[api.Console](s.db, ref)
		}
	}
	if !ok {
		return nil, api.NewError(api.ErrHandleInvalid, api.ClassConsole, string(ref))
	}
	s.mu.Lock()
	g, err := s.lookup(console.VM)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.Context(), dialWait)
	defer cancel()
	nc, err := localsock.Dial(ctx, g.files.Ctl())
	if err != nil {
		return nil, fmt.Errorf("open the console of guest %q: %w", g.name, err)
	}
	_ = nc.SetDeadline(time.Now().Add(dialWait))
	stream, err := control.DialStream(nc, "hxen", s.opt.Version, console.Protocol)
	if err != nil {
		return nil, api.NewError(api.ErrOperationNotAllowed, err.Error())
	}
	_ = stream.SetDeadline(time.Time{})
	return stream, nil
}

// snapshot answers with the guest's screen as PNG.
func (s *Service) snapshot(c *rpc.Call, w http.ResponseWriter, r *http.Request) error {
	uuid := r.URL.Query().Get("uuid")
	s.mu.Lock()
	g := s.guests[uuid]
	s.mu.Unlock()
	if g == nil {
		return api.NewError(api.ErrUUIDInvalid, api.ClassVM, uuid)
	}
	var shot control.Screenshot
	if s.suspended(g) {
		var err error
		if shot.PNG, err = os.ReadFile(g.files.SavedScreen()); err != nil {
			return api.NewError(api.ErrOperationNotAllowed, fmt.Sprintf("there is no picture of guest %q as it was saved", g.name))
		}
	} else if err := s.call(c.Context(), g, control.VerbScreenshot, nil, &shot); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Content-Length", strconv.Itoa(len(shot.PNG)))
	_, _ = w.Write(shot.PNG) // who has hung up reads no error either
	return nil
}

// version says which service this is.
func (s *Service) version() api.Version {
	return api.Version{Version: s.opt.Version, Protocol: control.Protocol, PID: os.Getpid(), Store: s.store.Root}
}
