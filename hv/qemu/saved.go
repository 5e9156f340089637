package qemu

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
)

// QEMU's parts of a saved guest's file: its migration stream is the data, and the
// state says what machine the stream is of.
const saveEngine = "qemu"

type savedState struct {
	At        time.Time       `json:"at"`
	QEMU      string          `json:"qemu"` // its version
	Machine   string          `json:"machine"`
	Accel     string          `json:"accel"`
	Spec      hv.Spec         `json:"spec"`            // as the guest ran
	GenID     string          `json:"genid"`           // the virtual machine's generation
	AgentOpen bool            `json:"agent,omitempty"` // somebody in the guest had the agent's port open
	Disks     []savefile.Disk `json:"disks"`
}

// saved is a saved guest that is being read.
type saved struct {
	head   savedState
	file   *savefile.File
	stream *io.SectionReader
}

// readSaved takes an opened file apart.
func readSaved(f *savefile.File) (*saved, error) {
	s := &saved{file: f, stream: f.Data()}
	return s, f.ReadState(&s.head)
}

// differs says what keeps the state from going on in the guest as it is now; nil
// if nothing does.
func (s *saved) differs(now hv.Spec, dir string, anyDate bool) error {
	was := machineOf(s.head.Spec)
	is := machineOf(now)
	var fields []string
	for k, v := range was {
		if !bytes.Equal(v, is[k]) {
			fields = append(fields, k)
		}
	}
	if len(fields) > 0 {
		slices.Sort(fields)
		return fmt.Errorf("the guest's settings were changed since it was saved (%s)", strings.Join(fields, ", "))
	}
	disks, err := savefile.Disks(dir, now.Disks)
	if err != nil {
		return err
	}
	return savefile.Same(s.head.Disks, disks, anyDate)
}

// machineOf is what of the settings makes the machine that a state belongs to, by
// the setting's name.
func machineOf(s hv.Spec) map[string]json.RawMessage {
	nics := make([][2]string, len(s.NICs))
	for i, n := range s.NICs {
		nics[i] = [2]string{n.UUID, n.MAC}
	}
	firmware := s.Firmware
	if firmware == "" {
		firmware = hv.BIOS
	}
	order := s.Boot
	order.Order = ""
	out := map[string]json.RawMessage{}
	for k, v := range map[string]any{
		"memory": s.Memory, "vcpus": s.VCPUs, "firmware": firmware, "boot": order, "disks": s.Disks, "network cards": nics, "display": s.Display,
	} {
		b, err := json.Marshal(v)
		if err != nil {
			panic("qemu: settings always encode: " + err.Error())
		}
		out[k] = b
	}
	return out
}
