// Package modeltest is a service that lives in memory, for tests of what stands
// above model.Service: guests that change state when told, tasks that wait
// until the test lets them go on, and errors on demand. It knows neither
// sockets nor windows and is imported by tests only.
package modeltest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
)

// Service is a fake model.Service. It may be used from any goroutine.
type Service struct {
	// Dial answers Console; nil refuses.
	Dial func(ctx context.Context, vm api.Ref, protocol string) (net.Conn, error)

	mu       sync.Mutex
	objects  map[api.Ref]any
	order    []api.Ref
	watchers map[chan model.Batch]chan error
	host     api.HostInfo
	probes   map[string]api.ProbeResult
	configs  map[api.Ref]api.GuestConfig
	fail     map[string]error
	gates    map[string]chan struct{}
	calls    []string
	created  []api.NewGuest
	down     error
	beat     int
	next     int
}

var _ model.Service = (*Service)(nil)

// New returns a service on a host of 16 GiB and 8 processors with KVM, and no
// guests.
func New() *Service {
	return &Service{
		objects:  map[api.Ref]any{},
		watchers: map[chan model.Batch]chan error{},
		host: api.HostInfo{Memory: 16 << 30, MemoryFree: 9 << 30, CPUs: 8, DiskFree: 200 << 30,
			Store: "/home/me/.local/share/hxen", Accel: "kvm", Native: "kvm", QEMU: "9.2.0", UEFI: true},
		probes:  map[string]api.ProbeResult{},
		configs: map[api.Ref]api.GuestConfig{},
		fail:    map[string]error{},
		gates:   map[string]chan struct{}{},
	}
}

// UUID makes a uuid from a number.
func UUID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

// Add adds a guest in a power state, with a disk, a CD drive and a card.
func (s *Service) Add(name, state string, change ...func(*api.VM)) api.Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(name, state, change...)
}

func (s *Service) add(name, state string, change ...func(*api.VM)) api.Ref {
	s.next += 10
	id := func(k int) (string, api.Ref) { return UUID(s.next + k), api.RefOf(UUID(s.next + k)) }
	uuid, ref := id(0)
	mUUID, metrics := id(1)
	bUUID, vbd := id(2)
	iUUID, vdi := id(3)
	cUUID, cd := id(4)
	fUUID, vif := id(5)
	vm := &api.VM{UUID: uuid, NameLabel: name, PowerState: state, MemoryStaticMax: 2 << 30, VCPUsMax: 2,
		DomainType: "hvm", DomID: -1, Metrics: metrics, VBDs: []api.Ref{vbd, cd}, VIFs: []api.Ref{vif},
		HVMBootParams: map[string]string{api.KeyFirmware: "bios"},
		OtherConfig:   map[string]string{api.KeyLog: "/home/me/.local/share/hxen/guests/" + uuid + "/worker.log"}}
	vm.AllowedOperations = allowed(state)
	for _, f := range change {
		f(vm)
	}
	s.put(metrics, &api.VMMetrics{UUID: mUUID, OtherConfig: map[string]string{api.KeyEngine: "qemu", api.KeyAccel: s.host.Accel, api.KeyAccelReason: s.host.AccelWhy}})
	s.put(vdi, &api.VDI{UUID: iUUID, VBDs: []api.Ref{vbd}, VirtualSize: 32 << 30, PhysicalUtilisation: 3 << 30,
		Location: "/home/me/.local/share/hxen/guests/" + uuid + "/disk-1.qcow2", SMConfig: map[string]string{"image-format": "qcow2"}})
	s.put(vbd, &api.VBD{UUID: bUUID, VM: ref, VDI: vdi, Device: "vda", Mode: "RW", Type: "Disk"})
	s.put(cd, &api.VBD{UUID: cUUID, VM: ref, Device: "sr0", Mode: "RO", Type: "CD", Empty: true})
	f := &api.VIF{UUID: fUUID, VM: ref, Device: "0", MAC: "52:54:00:12:34:56"}
	if state == model.Running {
		f.IPv4Addresses = []string{fmt.Sprintf("192.168.127.%d", 2+s.next/10)}
	}
	s.put(vif, f)
	s.put(ref, vm)
	s.configs[ref] = api.GuestConfig{VM: ref, Name: name, Memory: vm.MemoryStaticMax, VCPUs: vm.VCPUsMax, Firmware: "bios",
		BootOrder: "cd", Network: true, Display: "virtio", Forwards: []api.Forward{{From: 2222, To: 22}}}
	return ref
}

func allowed(state string) []string {
	switch state {
	case model.Halted:
		return []string{model.OpStart, model.OpMedia, model.OpConfigure, model.OpRename, model.OpDestroy}
	case model.Running:
		return []string{model.OpPause, model.OpSave, model.OpShutdown, model.OpRestart, model.OpPowerOff, model.OpReset, model.OpKeys, model.OpMedia, model.OpRename}
	case model.Suspended:
		return []string{model.OpRestore, model.OpPowerOff, model.OpRename}
	case model.Paused:
		return []string{model.OpResume, model.OpSave, model.OpPowerOff, model.OpReset, model.OpMedia, model.OpRename}
	}
	return nil
}

// put stores an object and tells the watchers. The lock is held.
func (s *Service) put(ref api.Ref, record any) {
	if s.objects[ref] == nil {
		s.order = append(s.order, ref)
	}
	s.objects[ref] = record
	s.tell(model.Batch{Changes: []model.Change{{Ref: ref, Record: record}}})
}

func (s *Service) tell(b model.Batch) {
	for w := range s.watchers {
		w <- b
	}
}

// Change changes a guest's record.
func (s *Service) Change(ref api.Ref, f func(*api.VM)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change(ref, f)
}

func (s *Service) change(ref api.Ref, f func(*api.VM)) {
	if vm, ok := s.objects[ref].(*api.VM); ok {
		c := *vm
		c.OtherConfig = map[string]string{}
		for k, v := range vm.OtherConfig {
			c.OtherConfig[k] = v
		}
		f(&c)
		s.put(ref, &c)
	}
}

// SetState puts a guest into a state.
func (s *Service) SetState(ref api.Ref, state string) {
	s.Change(ref, func(vm *api.VM) { vm.PowerState, vm.AllowedOperations = state, allowed(state) })
}

// Remove makes an object vanish.
func (s *Service) Remove(ref api.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(ref)
}

func (s *Service) remove(ref api.Ref) {
	delete(s.objects, ref)
	s.order = slices.DeleteFunc(s.order, func(r api.Ref) bool { return r == ref })
	s.tell(model.Batch{Changes: []model.Change{{Ref: ref, Gone: true}}})
}

// SetHost changes what the host is.
func (s *Service) SetHost(f func(*api.HostInfo)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.host)
}

// SetProbe says what a file is.
func (s *Service) SetProbe(path string, r api.ProbeResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probes[path] = r
}

// Fail makes calls of this name ("Create", "Do start", ...) return err.
func (s *Service) Fail(call string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[call] = err
}

// Hold makes calls of this name wait, with a cancellable task, until the
// returned function lets them go on.
func (s *Service) Hold(call string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gates[call] = gate
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.gates[call] == gate {
			delete(s.gates, call)
			close(gate)
		}
	}
}

// Calls are the calls that changed something, in order.
func (s *Service) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Created are the guests asked for.
func (s *Service) Created() []api.NewGuest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.created)
}

// Stop ends every Watch with err and refuses new ones; nil lets them in again.
func (s *Service) Stop(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
	if err != nil {
		for _, end := range s.watchers {
			end <- err
		}
		clear(s.watchers)
	}
}

// Watch delivers all objects, then every change.
func (s *Service) Watch(ctx context.Context, deliver func(model.Batch)) error {
	s.mu.Lock()
	if s.down != nil {
		defer s.mu.Unlock()
		return s.down
	}
	full := model.Batch{Full: true}
	for _, ref := range s.order {
		full.Changes = append(full.Changes, model.Change{Ref: ref, Record: s.objects[ref]})
	}
	w, end := make(chan model.Batch, 1024), make(chan error, 1)
	s.watchers[w] = end
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watchers, w)
		s.mu.Unlock()
	}()
	deliver(full)
	for {
		select {
		case b := <-w:
			deliver(b)
		case err := <-end:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// work does what every changing call has in common: it notes the call, waits at
// its gate under a task, and fails when told to.
func (s *Service) work(ctx context.Context, call, label string, do func() error) error {
	s.mu.Lock()
	s.calls = append(s.calls, call)
	gate := s.gates[call]
	if gate == nil {
		gate = s.gates[strings.Fields(call)[0]]
	}
	var task api.Ref
	if gate != nil {
		s.next += 10
		task = api.RefOf(UUID(s.next))
		s.put(task, &api.Task{UUID: UUID(s.next), NameLabel: label, Status: api.TaskPending, Progress: 0.25,
			AllowedOperations: []string{"cancel"}, Created: api.Time{Time: time.Unix(int64(s.next), 0)}})
	}
	s.mu.Unlock()
	var err error
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if gate != nil {
		if t, ok := s.objects[task].(*api.Task); !ok || t.Status == api.TaskCancelled {
			err = api.NewError(api.ErrTaskCancelled, string(task))
		}
		s.remove(task)
	}
	for _, k := range []string{call, strings.Fields(call)[0]} {
		if f := s.fail[k]; f != nil && err == nil {
			err = f
		}
	}
	if err != nil {
		return err
	}
	return do()
}

// Host implements model.Service.
func (s *Service) Host(context.Context) (api.HostInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.host, s.down
}

// Do implements model.Service.
func (s *Service) Do(ctx context.Context, vm api.Ref, op string) error {
	return s.work(ctx, "Do "+op, op, func() error {
		rec, ok := s.objects[vm].(*api.VM)
		if !ok {
			return api.NewError(api.ErrHandleInvalid, "VM", string(vm))
		}
		if !slices.Contains(rec.AllowedOperations, op) {
			return api.NewError(api.ErrVMBadPowerState, string(vm), "other", rec.PowerState)
		}
		to, exit := model.Running, ""
		switch op {
		case model.OpPause:
			to = model.Paused
		case model.OpSave:
			to = model.Suspended
		case model.OpShutdown:
			to, exit = model.Halted, "poweroff"
		case model.OpPowerOff:
			to, exit = model.Halted, "destroyed"
		}
		s.change(vm, func(v *api.VM) {
			v.PowerState, v.AllowedOperations = to, allowed(to)
			v.OtherConfig[api.KeyLastExit] = exit
		})
		return nil
	})
}

// Rename implements model.Service.
func (s *Service) Rename(ctx context.Context, vm api.Ref, name string) error {
	return s.work(ctx, "Rename", "rename", func() error {
		s.change(vm, func(v *api.VM) { v.NameLabel = name })
		return nil
	})
}

// Clone implements model.Service.
func (s *Service) Clone(ctx context.Context, vm api.Ref, name string) error {
	return s.work(ctx, "Clone", "clone", func() error { return nil })
}

// SetTemplate implements model.Service.
func (s *Service) SetTemplate(ctx context.Context, vm api.Ref, on bool) error {
	return s.work(ctx, "SetTemplate", "template", func() error {
		s.change(vm, func(v *api.VM) { v.IsATemplate = on })
		return nil
	})
}

// Config implements model.Service.
func (s *Service) Config(_ context.Context, vm api.Ref) (api.GuestConfig, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.configs[vm], s.fail["Config"]
}

// SetConfig implements model.Service.
func (s *Service) SetConfig(ctx context.Context, c api.GuestConfig) error {
	return s.work(ctx, "SetConfig", "settings", func() error {
		s.configs[c.VM] = c
		s.change(c.VM, func(v *api.VM) {
			v.NameLabel, v.MemoryStaticMax, v.VCPUsMax = c.Name, c.Memory, c.VCPUs
		})
		return nil
	})
}

// Retype implements model.Service.
func (s *Service) Retype(ctx context.Context, vm api.Ref, to string) (notes []string, err error) {
	err = s.work(ctx, "Retype "+to, "type", func() error {
		s.change(vm, func(v *api.VM) { v.DomainType = to })
		notes = []string{"The kernel's command line is now \"console=tty0 console=ttyS0\" (it was \"console=hvc0\")."}
		return nil
	})
	return notes, err
}

// Paths implements model.Service.
func (s *Service) Paths(_ context.Context, vm api.Ref) (api.Deleted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.host.Store, "guests", vm.UUID())
	return api.Deleted{Trash: []string{dir, dir + "/disk-1.qcow2"}, Kept: []string{"/home/me/isos/debian.iso"}}, s.fail["Paths"]
}

// Delete implements model.Service.
func (s *Service) Delete(ctx context.Context, d api.Delete) (out api.Deleted, err error) {
	call := "Delete"
	if d.KeepDisks {
		call = "Delete keep"
	}
	return out, s.work(ctx, call, "delete", func() error {
		s.remove(d.VM)
		return nil
	})
}

// Create implements model.Service.
func (s *Service) Create(ctx context.Context, g api.NewGuest) (c api.Created, err error) {
	return c, s.work(ctx, "Create", "Create "+g.Name, func() error {
		s.created = append(s.created, g)
		c.VM = s.add(g.Name, model.Halted, func(v *api.VM) { v.MemoryStaticMax, v.VCPUsMax = g.Memory, g.VCPUs })
		c.UUID = c.VM.UUID()
		return nil
	})
}

// Probe implements model.Service: what SetProbe said, else a missing file.
func (s *Service) Probe(_ context.Context, path string) (api.ProbeResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.probes[path]; ok {
		return r, nil
	}
	return api.ProbeResult{Kind: "unknown", Problem: "there is no file " + path}, nil
}

// InsertCD implements model.Service.
func (s *Service) InsertCD(ctx context.Context, vm api.Ref, path string) error {
	return s.work(ctx, "InsertCD "+path, "insert", func() error { return nil })
}

// EjectCD implements model.Service.
func (s *Service) EjectCD(ctx context.Context, vm api.Ref) error {
	return s.work(ctx, "EjectCD", "eject", func() error { return nil })
}

// CancelTask implements model.Service.
func (s *Service) CancelTask(_ context.Context, task api.Ref) error {
	s.mu.Lock()
	t, ok := s.objects[task].(*api.Task)
	defer s.mu.Unlock()
	if !ok {
		return api.NewError(api.ErrHandleInvalid, "task", string(task))
	}
	c := *t
	c.Status = api.TaskCancelled
	s.put(task, &c)
	for call, gate := range s.gates {
		delete(s.gates, call)
		close(gate)
	}
	return nil
}

// DataSources implements model.Service with figures that go up and down.
func (s *Service) DataSources(_ context.Context, vm api.Ref) ([]api.DataSource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beat++
	wave := float64(s.beat%10) / 10
	return []api.DataSource{
		{Name: "cpu_usage", Value: wave}, {Name: "memory", Value: 2 << 30}, {Name: "memory_rss", Value: (1 << 30) + wave*(1<<28)},
		{Name: "vbd_vda_read", Value: wave * (5 << 20)}, {Name: "vbd_vda_write", Value: (1 - wave) * (2 << 20)},
		{Name: "vif_0_rx", Value: wave * (1 << 20)}, {Name: "vif_0_tx", Value: wave * (300 << 10)},
	}, s.fail["DataSources"]
}

// Console implements model.Service.
func (s *Service) Console(ctx context.Context, vm api.Ref, protocol string) (net.Conn, error) {
	if s.Dial == nil {
		return nil, errors.New("this guest has no " + protocol + " console")
	}
	return s.Dial(ctx, vm, protocol)
}
