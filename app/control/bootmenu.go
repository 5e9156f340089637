package control

import "github.com/hxen-project/hxen/hv"

// A worker that is started with --boot-menu runs no guest: it gets one BootQuery on
// its standard input and says one BootMenu on its standard output.
type BootQuery struct {
	Spec hv.Spec     `json:"spec"`
	QEMU hv.QEMUInfo `json:"qemu"`
}

// MaxBootMenu bounds a BootMenu in bytes. What is in it was written by the guest.
const MaxBootMenu = 8 << 20

// BootMenu is what a guest's disks can boot.
type BootMenu struct {
	Entries []BootEntry `json:"entries"`
	Boots   int         `json:"boots"` // the one that a start takes; -1: none, as Problem says
	Problem string      `json:"problem,omitempty"`
	From    string      `json:"from,omitempty"`  // the file that says so, on the guest's disk
	Error   string      `json:"error,omitempty"` // why there is no menu, in words for the user
}

// BootEntry is one thing to boot.
type BootEntry struct {
	ID      string `json:"id"`
	Title   string `json:"title"`
	Kernel  string `json:"kernel"` // its path on the guest's disk
	Cmdline string `json:"cmdline"`
}
