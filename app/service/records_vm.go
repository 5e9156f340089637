package service

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
)

// The words that name the parts of a guest which need no record of their own;
// derive makes their uuids.
const (
	partMetrics = "metrics"
	partGuest   = "guest_metrics"
	partRFB     = "rfb"
	partVT100   = "vt100"
)

func (g *guest) part(word string) api.Ref { return api.RefOf(derive(g.uuid, word)) }

// publish shows a guest, as it is now, to clients. s.mu is held.
func (s *Service) publish(g *guest) {
	shown := map[api.Ref]string{}
	put := func(class string, ref api.Ref, record any) {
		s.db.Put(ref, record)
		shown[ref] = class
	}
	if g.sound() {
		for i, d := range g.spec.Disks {
			put("VBD", api.RefOf(d.UUID), s.vbdRecord(g, i, d))
			if ref, vdi, ok := s.ownVDI(g, d); ok {
				put("VDI", ref, vdi)
			}
		}
		for i, n := range g.spec.NICs {
			put("VIF", api.RefOf(n.UUID), s.vifRecord(g, i, n))
		}
		put("VM_metrics", g.part(partMetrics), s.metricsRecord(g))
	}
	if g.link != nil {
		if g.spec == nil || g.spec.Display.Adapter != "none" {
			put("console", g.part(partRFB), s.consoleRecord(g, partRFB, api.ProtocolRFB))
		}
		put("console", g.part(partVT100), s.consoleRecord(g, partVT100, api.ProtocolVT100))
	}
	if g.info != nil {
		put("VM_guest_metrics", g.part(partGuest), s.guestMetricsRecord(g))
	}
	put("VM", g.ref(), s.vmRecord(g, shown))
	for ref, class := range s.shown[g.uuid] {
		if _, still := shown[ref]; !still && s.shownBy(class, ref, g) {
			s.db.Delete(class, ref)
		}
	}
	s.shown[g.uuid] = shown
}

// shownBy reports whether no other guest shows the object. s.mu is held.
func (s *Service) shownBy(class string, ref api.Ref, g *guest) bool {
	if class != "VDI" {
		return true
	}
	_, outside := s.media[ref.UUID()]
	return !outside
}

// conceal takes a deleted guest's records away. s.mu is held.
func (s *Service) conceal(g *guest) {
	for ref, class := range s.shown[g.uuid] {
		s.db.Delete(class, ref)
	}
	delete(s.shown, g.uuid)
}

func (s *Service) vmRecord(g *guest, shown map[api.Ref]string) api.VM {
	vm := api.VM{
		UUID: g.uuid, NameLabel: g.name, PowerState: string(g.power), DomID: int64(g.domid),
		AllowedOperations: g.allowed(), CurrentOperations: map[string]string{},
		ResidentOn: api.NullRef, Metrics: api.NullRef, GuestMetrics: api.NullRef,
		DomArch: "x86_64", UserVersion: 1, HardwarePlatformVersion: 0,
		OtherConfig: map[string]string{}, Platform: map[string]string{}, HVMBootParams: map[string]string{},
	}
	for task, op := range g.ops {
		vm.CurrentOperations[string(task)] = string(op)
	}
	if g.power == hv.Running || g.power == hv.Paused {
		vm.ResidentOn = s.hostRef()
	}
	for ref, class := range shown {
		switch class {
		case "console":
			vm.Consoles = append(vm.Consoles, ref)
		case "VM_guest_metrics":
			vm.GuestMetrics = ref
		}
	}
	if len(vm.Consoles) == 2 && vm.Consoles[0] != g.part(partRFB) {
		vm.Consoles[0], vm.Consoles[1] = vm.Consoles[1], vm.Consoles[0]
	}
	if g.sound() {
		vm.Metrics = g.part(partMetrics)
		describe(&vm, g.spec)
	}
	notes(&vm, g)
	savedNotes(&vm, g)
	return vm
}

// describe fills in what the settings say.
func describe(vm *api.VM, spec *hv.Spec) {
	vm.NameDescription, vm.IsATemplate = spec.Description, spec.Template
	mem := int64(spec.Memory)
	vm.MemoryTarget, vm.MemoryStaticMax, vm.MemoryDynamicMax, vm.MemoryDynamicMin = mem, mem, mem, mem
	vm.MemoryStaticMin, vm.MemoryOverhead = int64(hv.MinMemory), int64(overheadOf(spec))
	vm.VCPUsMax, vm.VCPUsAtStartup = int64(spec.VCPUs), int64(spec.VCPUs)
	vm.ActionsAfterShutdown = orElse(spec.OnPoweroff, "destroy")
	vm.ActionsAfterReboot = orElse(spec.OnReboot, "restart")
	vm.ActionsAfterCrash = strings.Replace(orElse(spec.OnCrash, hv.EndDestroy), "coredump-", "coredump_and_", 1) // XenAPI's on_crash_behaviour
	vm.ActionsAfterCrash = strings.Replace(vm.ActionsAfterCrash, "rename-", "rename_", 1)
	vm.DomainType = string(spec.Type)
	vm.PVKernel, vm.PVRamdisk, vm.PVArgs = spec.Boot.Kernel, spec.Boot.Initrd, spec.Boot.Cmdline
	vm.PVBootloaderArgs = spec.Boot.Entry
	if spec.Type == hv.HVM {
		vm.HVMBootPolicy = "BIOS order"
		vm.HVMBootParams[api.KeyOrder] = orElse(spec.Boot.Order, "cd")
		vm.HVMBootParams[api.KeyFirmware] = orElse(string(spec.Firmware), string(hv.BIOS))
	}
	for k, v := range spec.Other {
		if key, ok := strings.CutPrefix(k, platformPrefix); ok {
			vm.Platform[key] = v
		} else {
			vm.OtherConfig[k] = v
		}
	}
	if spec.Type == hv.HVM {
		vm.Platform["vga"] = orElse(spec.Display.Adapter, "virtio")
		vm.Platform["audio"] = strconv.FormatBool(spec.Display.Audio)
	} else if spec.Display.Adapter == "none" {
		vm.Platform["vga"] = "none"
	}
	if spec.Machine != "" {
		vm.Platform["device-model"] = spec.Machine
	}
	vm.Order, vm.StartDelay = int64(spec.Order), int64(spec.StartPause())
	vm.OtherConfig[api.KeyOnHostStop] = orElse(spec.OnHostStop, hv.StopShutdown)
	if spec.WaitFor != "" {
		vm.OtherConfig[api.KeyWaitFor] = spec.WaitFor
	}
	vm.OtherConfig["auto_poweron"] = strconv.FormatBool(spec.Autostart)
	for _, n := range spec.NICs {
		vm.VIFs = append(vm.VIFs, api.RefOf(n.UUID))
	}
	for _, d := range spec.Disks {
		vm.VBDs = append(vm.VBDs, api.RefOf(d.UUID))
	}
}

// notes puts into other_config what XenAPI has no field for.
func notes(vm *api.VM, g *guest) {
	set := func(key, text string) {
		if text != "" {
			vm.OtherConfig[key] = text
		}
	}
	set(api.KeyBroken, g.problem)
	set(api.KeyRepair, g.repair)
	set(api.KeyLog, g.files.Log())
	set(api.KeyNotice, g.notice)
	if g.hangs() {
		set(api.KeySilent, silentText)
	}
	set(api.KeyWaiting, g.waiting)
	if g.spec != nil {
		set(api.KeyOnWatchdog, g.spec.OnWatchdog)
	}
	if g.link != nil {
		set(api.KeyEngine, g.status.Info.Engine)
		set(api.KeyAccel, g.status.Info.Accelerator)
		set(api.KeyAccelReason, g.status.Info.AccelReason)
		set(api.KeyIsolation, g.status.Info.Isolation)
		set(api.KeyDisplay, string(g.status.Display))
	}
	if g.last != nil { // also of a guest that runs again, by its policy perhaps
		set(api.KeyLastExit, string(g.last.Reason))
		text := g.last.Text
		if text != "" && g.last.Cure != "" {
			text += "; " + g.last.Cure
		}
		set(api.KeyLastText, text)
	}
}

func (s *Service) metricsRecord(g *guest) api.VMMetrics {
	m := api.VMMetrics{
		UUID: g.part(partMetrics).UUID(), VCPUsNumber: int64(g.spec.VCPUs), HVM: g.spec.Type == hv.HVM,
		CurrentDomainType: string(g.spec.Type), OtherConfig: map[string]string{},
	}
	if g.link == nil {
		return m
	}
	st := g.status
	m.MemoryActual, m.StartTime, m.LastUpdated = int64(g.spec.Memory), api.Time{Time: st.Started}, api.Time{Time: st.Started}
	if g.power == hv.Paused {
		m.State = []string{"paused"}
	}
	for key, v := range map[string]string{api.KeyEngine: st.Info.Engine, api.KeyAccel: st.Info.Accelerator, api.KeyAccelReason: st.Info.AccelReason, api.KeyIsolation: st.Info.Isolation} {
		if v != "" {
			m.OtherConfig[key] = v
		}
	}
	return m
}

func (s *Service) guestMetricsRecord(g *guest) api.VMGuestMetrics {
	m := api.VMGuestMetrics{
		UUID: g.part(partGuest).UUID(), OSVersion: g.info.OS, Networks: map[string]string{},
		Other: map[string]string{}, LastUpdated: api.Time{Time: g.infoAt}, Live: true,
		CanUseHotplugVBD: "no", CanUseHotplugVIF: "no",
	}
	if g.info.Hostname != "" {
		m.NetbiosName = map[string]string{"host_name": g.info.Hostname}
	}
	v4, v6 := 0, 0
	for _, a := range g.info.Addresses {
		if ip := parseIP(a); ip == nil {
			continue
		} else if ip.To4() != nil {
			if v4 == 0 {
				m.Networks["0/ip"] = ip.String()
			}
			m.Networks[fmt.Sprintf("0/ipv4/%d", v4)] = ip.String()
			v4++
		} else {
			m.Networks[fmt.Sprintf("0/ipv6/%d", v6)] = ip.String()
			v6++
		}
	}
	return m
}

func (s *Service) consoleRecord(g *guest, part, protocol string) api.Console {
	ref := g.part(part)
	return api.Console{
		UUID: ref.UUID(), Protocol: protocol, VM: g.ref(),
		Location: "http://localhost" + api.PathConsole + "?ref=" + url.QueryEscape(string(ref)),
	}
}

func (s *Service) vifRecord(g *guest, i int, n hv.NIC) api.VIF {
	v := api.VIF{
		UUID: n.UUID, Device: strconv.Itoa(i), Network: api.RefOf(n.Network), VM: g.ref(), MAC: n.MAC, MTU: 1500,
		MACAutogenerated: true, LockingMode: "network_default", CurrentlyAttached: g.attached(n.UUID),
		IPv4ConfigurationMode: "None", IPv6ConfigurationMode: "None", Metrics: api.NullRef, ReservedPCI: api.NullRef,
	}
	if ip := g.address(n.UUID); ip != "" {
		v.IPv4Addresses = []string{ip}
	}
	if failed := g.leases[n.UUID].Failed; len(failed) > 0 {
		v.StatusCode, v.StatusDetail = 1, failed[0]
	}
	return v
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
