package xenabi

import (
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// layouts pairs each C structure with our types for 64- and 32-bit callers.
// The named fields stand in the order in which testdata lists the C fields.
var layouts = []struct {
	c    string
	go64 any
	go32 any
}{
	{"hvm_start_info", StartInfo{}, StartInfo{}},
	{"hvm_modlist_entry", ModlistEntry{}, ModlistEntry{}},
	{"hvm_memmap_table_entry", MemmapEntry{}, MemmapEntry{}},
	{"xen_add_to_physmap", AddToPhysmap{}, AddToPhysmap32{}},
	{"xen_remove_from_physmap", RemoveFromPhysmap{}, RemoveFromPhysmap32{}},
	{"xen_memory_map", MemoryMap{}, MemoryMap32{}},
	{"xen_memory_reservation", MemoryReservation{}, MemoryReservation32{}},
	{"xen_feature_info", FeatureInfo{}, FeatureInfo{}},
	{"xen_compile_info", CompileInfo{}, CompileInfo{}},
	{"xen_hvm_param", HVMParam{}, HVMParam{}},
	{"xen_hvm_evtchn_upcall_vector", HVMEvtchnUpcallVector{}, HVMEvtchnUpcallVector{}},
	{"sched_shutdown", Shutdown{}, Shutdown{}},
	{"sched_remote_shutdown", RemoteShutdown{}, RemoteShutdown{}},
	{"sched_watchdog", Watchdog{}, Watchdog{}},
	{"sched_poll", Poll{}, Poll32{}},
	{"vcpu_runstate_info", RunstateInfo{}, RunstateInfo32{}},
	{"vcpu_register_runstate_memory_area", RegisterArea{}, RegisterArea{}},
	{"vcpu_set_periodic_timer", SetPeriodicTimer{}, SetPeriodicTimer{}},
	{"vcpu_set_singleshot_timer", SetSingleshotTimer{}, SetSingleshotTimer32{}},
	{"vcpu_register_vcpu_info", RegisterVCPUInfo{}, RegisterVCPUInfo{}},
	{"vcpu_time_info", VCPUTimeInfo{}, VCPUTimeInfo{}},
	{"vcpu_info", VCPUInfo{}, VCPUInfo32{}},
	{"multicall_entry", MulticallEntry{}, MulticallEntry32{}},
	{"evtchn_bind_interdomain", EvtchnBindInterdomain{}, EvtchnBindInterdomain{}},
	{"evtchn_bind_virq", EvtchnBindVIRQ{}, EvtchnBindVIRQ{}},
	{"evtchn_close", EvtchnPort{}, EvtchnPort{}},
	{"evtchn_send", EvtchnPort{}, EvtchnPort{}},
	{"evtchn_unmask", EvtchnPort{}, EvtchnPort{}},
	{"evtchn_status", EvtchnStatus{}, EvtchnStatus{}},
	{"evtchn_alloc_unbound", EvtchnAllocUnbound{}, EvtchnAllocUnbound{}},
	{"evtchn_bind_ipi", EvtchnBindIPI{}, EvtchnBindIPI{}},
	{"evtchn_bind_vcpu", EvtchnBindVCPU{}, EvtchnBindVCPU{}},
	{"evtchn_reset", EvtchnReset{}, EvtchnReset{}},
	{"evtchn_init_control", EvtchnInitControl{}, EvtchnInitControl{}},
	{"grant_entry_v1_t", GrantEntryV1{}, GrantEntryV1{}},
	{"gnttab_query_size", GnttabQuerySize{}, GnttabQuerySize{}},
	{"gnttab_set_version", GnttabSetVersion{}, GnttabSetVersion{}},
	{"gnttab_get_version", GnttabGetVersion{}, GnttabGetVersion{}},
	{"gnttab_setup_table", GnttabSetupTable{}, GnttabSetupTable32{}},
	{"xsd_sockmsg", XSDSockmsg{}, XSDSockmsg{}},
}

// printed reads what the C compiler printed: sizes by structure, and offsets
// by structure in the order of the fields.
func printed(t *testing.T, file string) (map[string]int, map[string][]int, map[string]int) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	sizes, offsets, byName := map[string]int{}, map[string][]int{}, map[string]int{}
	for line := range strings.Lines(string(b)) {
		name, num, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(num)
		if err != nil {
			t.Fatal(err)
		}
		byName[name] = n
		if s, _, isField := strings.Cut(name, "."); isField {
			offsets[s] = append(offsets[s], n)
		} else {
			sizes[s] = n
		}
	}
	return sizes, offsets, byName
}

func TestLayout(t *testing.T) {
	for width, file := range map[int]string{64: "layout64.txt", 32: "layout32.txt"} {
		sizes, offsets, byName := printed(t, file)
		for _, l := range layouts {
			typ := reflect.TypeOf(l.go64)
			if width == 32 {
				typ = reflect.TypeOf(l.go32)
			}
			size, ok := sizes[l.c]
			if !ok || int(typ.Size()) != size {
				t.Errorf("%d: struct %s has %d bytes, %s %d", width, l.c, size, typ.Name(), typ.Size())
			}
			if typ.Field(0).Type.String() != "structs.HostLayout" {
				t.Errorf("%s does not begin with HostLayout", typ.Name())
			}
			want, i := offsets[l.c], 0
			delete(offsets, l.c)
			for f := range fields(typ) {
				if i >= len(want) || want[i] != int(f.Offset) {
					t.Errorf("%d: %s.%s is at %d, field %d of struct %s is not (%v)", width, typ.Name(), f.Name, f.Offset, i, l.c, want)
				}
				i++
			}
			if i != len(want) {
				t.Errorf("%s has %d fields, struct %s %d", typ.Name(), i, l.c, len(want))
			}
		}
		checkPlaces(t, width, byName)
		delete(offsets, "shared_info")
		delete(offsets, "xenstore_domain_interface")
		delete(offsets, "xencons_interface")
		for s := range offsets {
			t.Errorf("struct %s is not compared with anything", s)
		}
	}
}

func fields(typ reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range typ.NumField() {
			if f := typ.Field(i); f.Name != "_" && !yield(f) {
				return
			}
		}
	}
}

func checkPlaces(t *testing.T, width int, at map[string]int) {
	t.Helper()
	s, secHi := SharedInfo64, "shared_info.wc_sec_hi"
	if width == 32 {
		s, secHi = SharedInfo32, "shared_info.arch.wc_sec_hi"
	}
	for name, got := range map[string]int{
		"shared_info.vcpu_info": s.VCPUInfo, "shared_info.evtchn_pending": s.EvtchnPending, "shared_info.evtchn_mask": s.EvtchnMask,
		"shared_info.wc_version": s.WCVersion, "shared_info.wc_sec": s.WCSec, "shared_info.wc_nsec": s.WCNsec, secHi: s.WCSecHi,
		"vcpu_info": VCPUInfoSize, "vcpu_info.time": VCPUTimeOffset, "vcpu_info.evtchn_pending_sel": s.PendingSel,
		"xenstore_domain_interface.req": XenstoreReq, "xenstore_domain_interface.rsp": XenstoreRsp,
		"xenstore_domain_interface.req_cons": XenstoreReqCons, "xenstore_domain_interface.req_prod": XenstoreReqProd,
		"xenstore_domain_interface.rsp_cons": XenstoreRspCons, "xenstore_domain_interface.rsp_prod": XenstoreRspProd,
		"xenstore_domain_interface.server_features": XenstoreServerFeatures, "xenstore_domain_interface.connection": XenstoreConnection,
		"xenstore_domain_interface.error": XenstoreError,
		"xencons_interface.in":            XenconsIn, "xencons_interface.out": XenconsOut, "xencons_interface.in_cons": XenconsInCons,
		"xencons_interface.in_prod": XenconsInProd, "xencons_interface.out_cons": XenconsOutCons, "xencons_interface.out_prod": XenconsOutProd,
	} {
		if want, ok := at[name]; !ok || want != got {
			t.Errorf("%d: %s is %d, we say %d", width, name, want, got)
		}
	}
	if want := (s.EvtchnMask - s.EvtchnPending) * 8; s.Ports != want || s.WordBits != width {
		t.Errorf("%d: %d ports in words of %d, want %d", width, s.Ports, s.WordBits, want)
	}
}

func TestBytes(t *testing.T) {
	v := EvtchnBindVIRQ{VIRQ: 1, VCPU: 0x0203, Port: 4}
	if b := Bytes(&v); len(b) != 12 || b[0] != 1 || b[4] != 3 || b[5] != 2 || b[8] != 4 {
		t.Errorf("%v", b)
	}
	if u := MakeU64(0x1122334455667788); u.Value() != 0x1122334455667788 || u[0] != 0x55667788 {
		t.Errorf("%#x", u)
	}
}
