package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hxen-project/hxen/hv"
)

// names are all files that the engine uses for one guest.
type names struct {
	QMP, VNC, Serial, Agent string   // sockets
	NIC                     []string // where QEMU connects the cards, by their place in the Spec
	Caps                    string   // remembered capabilities of the installed QEMU
	CapsQMP                 string   // socket while they are asked
	Migration               string   // socket while the guest is saved or restored; "" if it cannot be
	Password                string   // of the screen, where others could connect to it; "" if it has none
	Shot                    string   // a screenshot on its way
	NVRAM                   string   // UEFI variables, in the guest's folder
	doors                   bool     // QEMU cannot connect to the worker's sockets: the engine does
	temp                    string   // folder to remove afterwards; "" if the runtime folder is used
}

// namesFor places the sockets in the runtime folder. Where that is not a folder
// but a name space of pipes (Windows), QEMU's sockets, which are Unix sockets
// there too, go to a fresh private folder; or they are TCP ports if try says that Unix
// sockets do not work there.
func namesFor(s hv.Spec, h hv.Host, try func(dir string) error) (names, error) {
	run, temp := h.RunDir, ""
	var tcp error
	if fi, err := os.Stat(run); err != nil || !fi.IsDir() {
		dir, err := os.MkdirTemp("", "hxen-")
		if err != nil {
			return names{}, fmt.Errorf("make a folder for sockets: %w", err)
		}
		run, temp = dir, dir
		if tcp = try(dir); tcp != nil {
			if h.PeerPID == nil {
				return names{temp: temp}, fmt.Errorf("make sockets for QEMU: %w", tcp)
			}
			h.Log.Info("QEMU is spoken with over the loopback interface: Unix sockets do not work here", "err", tcp)
		}
	}
	stem := filepath.Join(run, h.Short)
	n := names{
		QMP: stem + ".qmp", VNC: stem + ".vnc", Serial: stem + ".ser", Agent: stem + ".qga",
		Caps: filepath.Join(run, "qemu.caps"), CapsQMP: stem + ".cap", Migration: stem + ".mig", Shot: stem + ".png",
		NVRAM: filepath.Join(h.Dir, "nvram.fd"), temp: temp,
		NIC: slices.Clone(h.NICs), doors: temp != "",
	}
	if tcp != nil {
		n.QMP, n.VNC, n.Serial, n.Agent, n.CapsQMP, n.Migration = anyPort, anyPort, anyPort, anyPort, anyPort, ""
		n.Password = newPassword()
	}
	if len(n.NIC) != len(s.NICs) {
		return n, fmt.Errorf("%d network cards have %d sockets", len(s.NICs), len(n.NIC))
	}
	return n, nil
}

// remove deletes what belongs to one run of the guest.
func (n names) remove() {
	for _, f := range []string{n.QMP, n.VNC, n.Serial, n.Agent, n.CapsQMP, n.Migration, n.Shot} {
		if _, tcp := port(f); !tcp && f != "" {
			_ = os.Remove(f)
		}
	}
	if n.temp != "" {
		_ = os.RemoveAll(n.temp)
	}
}
