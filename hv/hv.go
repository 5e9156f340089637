// Package hv is the vocabulary that every part of HXEN shares: what a guest is
// (Spec), which state it can be in (PowerState), which operation is allowed
// when (Allowed), what happens to it (Event), and the two ports that separate
// the app from what runs guests: Engine/Machine above and Host below.
//
// It knows nothing of files, sockets, operating systems or hypervisors, and
// imports nothing but the standard library.
package hv

import "errors"

// ErrUnsupported says that this engine or guest can never do the operation;
// ErrUnavailable says that it cannot do it here or now. Both are wrapped with a
// reason and, where there is one, a cure.
var (
	ErrUnsupported = errors.New("not supported")
	ErrUnavailable = errors.New("not available")
)

// PowerState is a guest's state as in XenAPI's vm_power_state.
type PowerState string

const (
	Halted    PowerState = "Halted"
	Paused    PowerState = "Paused"
	Running   PowerState = "Running"
	Suspended PowerState = "Suspended"
)

// Operation is a verb on a guest as in XenAPI's vm_operations.
type Operation string

const (
	OpStart         Operation = "start"
	OpPause         Operation = "pause"
	OpUnpause       Operation = "unpause"
	OpCleanShutdown Operation = "clean_shutdown"
	OpCleanReboot   Operation = "clean_reboot"
	OpHardShutdown  Operation = "hard_shutdown"
	OpHardReboot    Operation = "hard_reboot"
	OpSuspend       Operation = "suspend"
	OpResume        Operation = "resume"
	OpDestroy       Operation = "destroy"
	OpRename        Operation = "changing_name"
	OpConfigure     Operation = "changing_static_configuration"
	OpChangeMedia   Operation = "changing_media"
	OpSendKeys      Operation = "send_sysrq"
	OpMemoryLive    Operation = "changing_dynamic_range"
	OpVCPUsLive     Operation = "changing_VCPUs_live"
	OpPlug          Operation = "changing_devices"
	OpClone         Operation = "clone"
	OpCheckpoint    Operation = "checkpoint"
	OpTemplate      Operation = "make_into_template"
)

// operations is the operation table: the states that each verb accepts, in the
// order that a menu shows them. It is the only place that decides this.
var operations = []struct {
	op     Operation
	states []PowerState
}{
	{OpStart, []PowerState{Halted}},
	{OpPause, []PowerState{Running}},
	{OpUnpause, []PowerState{Paused}},
	{OpResume, []PowerState{Suspended}},
	{OpSuspend, []PowerState{Running, Paused}},
	{OpCleanShutdown, []PowerState{Running}},
	{OpCleanReboot, []PowerState{Running}},
	{OpHardShutdown, []PowerState{Running, Paused, Suspended}}, // Suspended: the saved state is discarded
	{OpHardReboot, []PowerState{Running, Paused}},
	{OpSendKeys, []PowerState{Running}},
	{OpChangeMedia, []PowerState{Halted, Running, Paused}},
	{OpMemoryLive, []PowerState{Running}},
	{OpVCPUsLive, []PowerState{Running}},
	{OpConfigure, []PowerState{Halted}},
	{OpRename, []PowerState{Halted, Running, Paused, Suspended}},
	{OpPlug, []PowerState{Halted, Running, Paused}},
	{OpCheckpoint, []PowerState{Running, Paused}},
	{OpClone, []PowerState{Halted, Suspended}},
	{OpTemplate, []PowerState{Halted, Suspended}},
	{OpDestroy, []PowerState{Halted}},
}

// TemplateOps are the operations that a template accepts, whose state never
// changes, in menu order.
var TemplateOps = []Operation{OpRename, OpClone, OpTemplate, OpDestroy}

// Allowed returns the operations that a guest in state s accepts, in menu order.
func Allowed(s PowerState) []Operation {
	var out []Operation
	for _, row := range operations {
		for _, st := range row.states {
			if st == s {
				out = append(out, row.op)
			}
		}
	}
	return out
}

// CanDo reports whether op is allowed in state s.
func CanDo(op Operation, s PowerState) bool {
	for _, o := range Allowed(s) {
		if o == op {
			return true
		}
	}
	return false
}

// Accepts returns the power states in which op is allowed; nil for an unknown op.
func Accepts(op Operation) []PowerState {
	for _, row := range operations {
		if row.op == op {
			return row.states
		}
	}
	return nil
}
