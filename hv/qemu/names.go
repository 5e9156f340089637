package qemu

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/hxen-project/hxen/hv"
)

// names are all files that the engine uses for one guest.
type names struct {
	QMP, VNC, Serial, Agent string   // sockets
	NIC                     []string // the worker's sockets, by the card's place in the Spec
	Caps                    string   // remembered capabilities of the installed QEMU
	CapsQMP                 string   // socket while they are asked
	Migration               string   // socket while the guest is saved or restored
	Shot                    string   // a screenshot on its way
	NVRAM                   string   // UEFI variables, in the guest's folder
	temp                    string   // folder to remove afterwards; "" if the runtime folder is used
}

// namesFor places the sockets in the runtime folder. Where that is not a folder
// but a name space of pipes (Windows), QEMU's sockets, which are Unix sockets
// there too, go to a fresh private folder.
func namesFor(s hv.Spec, h hv.Host) (names, error) {
	run, temp := h.RunDir, ""
	if fi, err := os.Stat(run); err != nil || !fi.IsDir() {
		dir, err := os.MkdirTemp("", "hxen-")
		if err != nil {
			return names{}, fmt.Errorf("make a folder for sockets: %w", err)
		}
		run, temp = dir, dir
	}
	stem := filepath.Join(run, h.Short)
	n := names{
		QMP: stem + ".qmp", VNC: stem + ".vnc", Serial: stem + ".ser", Agent: stem + ".qga",
		Caps: filepath.Join(run, "qemu.caps"), CapsQMP: stem + ".cap", Migration: stem + ".mig", Shot: stem + ".png",
		NVRAM: filepath.Join(h.Dir, "nvram.fd"), temp: temp,
		NIC: h.NICs,
	}
	if len(n.NIC) != len(s.NICs) {
		return names{}, fmt.Errorf("%d network cards have %d sockets", len(s.NICs), len(n.NIC))
	}
	return n, nil
}

// remove deletes what belongs to one run of the guest.
func (n names) remove() {
	for _, f := range []string{n.QMP, n.VNC, n.Serial, n.Agent, n.CapsQMP, n.Migration, n.Shot} {
		_ = os.Remove(f)
	}
	if n.temp != "" {
		_ = os.RemoveAll(n.temp)
	}
}

// listen listens on a socket whose name only the holder of the guest's lock
// uses: what lies there is left over from a worker that was killed.
func listen(path string) (*net.UnixListener, error) {
	_ = os.Remove(path)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for QEMU: %w", err)
	}
	return l, nil
}
