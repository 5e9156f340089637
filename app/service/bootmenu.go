package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/proc"
)

// bootMenuLimit is a hang guard for reading a guest's disks.
const bootMenuLimit = 4 * time.Minute

// bootMenu tells what the disks of a halted guest can boot. A worker reads them, as
// what is on them was written by strangers.
func (s *Service) bootMenu(c *rpc.Call, arg api.VMArg) (api.BootMenu, error) {
	var menu api.BootMenu
	g, end, err := s.begin(arg.VM, hv.OpConfigure, c.Task.Ref())
	if err != nil {
		return menu, err
	}
	defer end()
	s.mu.Lock()
	spec := g.spec.Clone()
	s.mu.Unlock()
	if err := s.checkMedia(g, spec); err != nil {
		return menu, err
	}
	said, err := s.askBootMenu(c.Context(), g, control.BootQuery{Spec: *spec, QEMU: s.opt.Host.QEMU(c.Context())})
	if err != nil {
		return menu, refuse("boot", err.Error(), "choose a disk with a system on it, or a kernel on this computer")
	}
	menu.From, menu.Chosen, menu.Boots, menu.Entries = said.From, spec.Boot.Entry, said.Boots, []api.BootEntry{}
	menu.Problem = said.Problem
	for _, e := range said.Entries {
		menu.Entries = append(menu.Entries, api.BootEntry(e))
	}
	if spec.Boot.Kernel != "" {
		menu.Boots, menu.Problem = -1, "the guest boots a kernel of this computer: "+spec.Boot.Kernel
	}
	return menu, nil
}

// askBootMenu has a worker of its own read the disks.
func (s *Service) askBootMenu(ctx context.Context, g *guest, q control.BootQuery) (control.BootMenu, error) {
	var said control.BootMenu
	ctx, cancel := context.WithTimeoutCause(ctx, bootMenuLimit, fmt.Errorf("the guest's disks could not be read within %v", bootMenuLimit))
	defer cancel()
	question, err := json.Marshal(q)
	if err != nil {
		return said, err
	}
	log, err := openProgramLog(g.files.Log())
	if err != nil {
		return said, err
	}
	defer log.Close()
	answer := &bounded{left: control.MaxBootMenu}
	p, err := proc.Start(proc.Command{
		Path: s.opt.Worker, Args: []string{"--boot-menu", "--dir", g.dir, "--run", s.run}, Env: s.opt.Env,
		Stdin: bytes.NewReader(question), Stdout: answer, Stderr: log, DieWithParent: true,
	})
	if err != nil {
		return said, err
	}
	defer context.AfterFunc(ctx, func() { _ = p.Kill() })()
	code, err := p.Wait()
	switch {
	case ctx.Err() != nil:
		return said, context.Cause(ctx)
	case err != nil:
		return said, err
	case code != 0:
		return said, fmt.Errorf("the worker that reads the guest's disks failed; %s says more", g.files.Log())
	}
	if err := json.Unmarshal(answer.b.Bytes(), &said); err != nil {
		return said, fmt.Errorf("what the worker says of the guest's disks: %w", err)
	}
	if said.Error != "" {
		return said, errors.New(said.Error)
	}
	return said, nil
}

// bounded keeps what is written to it, up to a limit.
type bounded struct {
	b    bytes.Buffer
	left int
}

func (w *bounded) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errors.New("too long an answer")
	}
	return w.b.Write(p)
}
