// Package blk is the back end of a guest's disks and CD drives: Xen's block
// protocol (io/blkif.h) over a raw image, or over an NBD server that reads other
// formats.
//
// It does not know where images lie or how a host reads them best: that is
// hv.DiskFile. Requests come from the guest and are hostile.
package blk

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// KernelOption has xen-blkfront cut transfers no smaller than Linux itself does: its own
// bound is 32 pages.
const KernelOption = "xen_blkfront.max_indirect_segments=256"

// Config is a disk or a CD drive.
type Config struct {
	Index    int    // its place among the guest's disks: 0 is xvda
	UUID     string // of the device, for events and counters
	ReadOnly bool
	CD       bool
	Log      *slog.Logger
	// Event tells of errors. Full says that the host has no room: the guest is to be
	// paused, and Retry called when it goes on. Neither may wait.
	Event func(hv.Event)
	Full  func()
}

// Disk is a guest's disk or drive from its launch to its end, over all of the
// guest's machines. Its methods may be called from any goroutine.
type Disk struct {
	config Config

	reads, writes, readBytes, writeBytes atomic.Uint64

	change sync.Mutex // held while the medium changes

	mu     sync.Mutex
	medium *medium         // guarded by mu; nil: an empty drive
	device *backend.Device // guarded by mu; of the last machine
	queue  *queue          // guarded by mu; its driver
	logged time.Time       // guarded by mu
}

// medium is an image that requests use; users are those requests.
type medium struct {
	hv.DiskFile
	users sync.WaitGroup
}

// New makes a disk of an opened image, which is the disk's from then on; nil is
// an empty drive.
func New(c Config, file hv.DiskFile) *Disk {
	d := &Disk{config: c}
	if file != nil {
		d.medium = &medium{DiskFile: file}
	}
	return d
}

// Number is the virtual device number of a guest's i-th disk (Xen's
// docs/man/xen-vbd-interface.7): 202 is xvd's major, with 16 partitions for each
// of 16 disks; those beyond have numbers of the extended form.
func Number(i int) int {
	if i < 16 {
		return 202<<8 | i<<4
	}
	return 1<<28 | i<<8
}

// Attach makes the disk one of a machine's.
func (d *Disk) Attach(g *backend.Guest) (*backend.Device, error) {
	q := newQueue(d)
	c := backend.Config{
		Type: "vbd", ID: Number(d.config.Index),
		Front: map[string]string{
			"virtual-device": strconv.Itoa(Number(d.config.Index)),
			// Linux takes no "cdrom" in a PVH guest, which it counts among those that have
			// emulated drives; that it is one is in the back end's "info".
			"device-type": "disk",
		},
		Back: map[string]string{
			"dev": "xvd" + string(rune('a'+d.config.Index)), "mode": "w", "removable": "0",
			"max-ring-page-order": strconv.Itoa(maxRingOrder),
		},
	}
	if d.config.ReadOnly {
		c.Back["mode"] = "r"
	}
	if d.config.CD {
		c.Back["removable"] = "1"
	}
	device, err := g.Add(c, q)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.device, d.queue = device, q
	return device, nil
}

// use is the medium for one request; done ends it. nil is an empty drive.
func (d *Disk) use() *medium {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.medium != nil {
		d.medium.users.Add(1)
	}
	return d.medium
}

// nodes are what a front end has to know before it begins.
func (d *Disk) nodes() map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	info := 0
	if d.config.CD {
		info |= xenabi.VDISK_CDROM | xenabi.VDISK_REMOVABLE
	}
	if d.config.ReadOnly {
		info |= xenabi.VDISK_READONLY
	}
	n := map[string]string{
		"sectors": "0", "sector-size": strconv.Itoa(sector), "physical-sector-size": strconv.Itoa(sector), "info": strconv.Itoa(info),
		"feature-flush-cache": "1", "feature-barrier": "0", "feature-persistent": "0",
		"feature-max-indirect-segments": strconv.Itoa(maxSegments),
	}
	if d.medium != nil {
		n["sectors"] = strconv.FormatInt(d.medium.Size()/sector, 10)
	}
	if !d.config.ReadOnly {
		n["feature-discard"], n["discard-granularity"], n["discard-alignment"] = "1", "4096", "0"
	}
	return n
}

// Change puts another image into a CD drive, or with nil none. The guest sees a
// drive of another size; requests that are under way end with the old one.
func (d *Disk) Change(file hv.DiskFile) error {
	if !d.config.CD {
		return errors.New("only a CD drive's medium can be changed")
	}
	d.change.Lock()
	defer d.change.Unlock()
	d.mu.Lock()
	device := d.device
	d.mu.Unlock()
	var old *medium
	var err error
	swap := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		old, d.medium = d.medium, nil
		if file != nil {
			d.medium = &medium{DiskFile: file}
		}
	}
	// On the device's own goroutine, the size that is told first is never the old one.
	if device == nil || !device.Do(func() {
		swap()
		err = device.Publish(map[string]string{"sectors": d.nodes()["sectors"]})
	}) {
		swap()
	}
	if old != nil {
		old.users.Wait()
		err = errors.Join(err, old.Close())
	}
	return err
}

// Retry has requests go on that waited for room on the host's disk.
func (d *Disk) Retry() {
	d.mu.Lock()
	q := d.queue
	d.mu.Unlock()
	if q != nil {
		q.retry()
	}
}

// failed tells of a request that the host could not serve.
func (d *Disk) failed(r *request, err error) {
	verb := "write to"
	if r.op == xenabi.BLKIF_OP_READ {
		verb = "read from"
	}
	d.config.Event(hv.Event{Kind: hv.EventIOError, Object: d.config.UUID, Text: fmt.Sprintf("the guest could not %s a disk (%v)", verb, err)})
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.logged) > 10*time.Second { // guests try again and again
		d.logged = now
		d.config.Log.Warn("a disk of the guest has failed", "disk", d.config.Index, "at", r.off, "bytes", r.n, "err", err)
	}
}

// Count adds the disk's counters to the guest's.
func (d *Disk) Count(s *hv.Stats) {
	s.Disks[d.config.UUID] = hv.DiskStats{
		ReadBytes: d.readBytes.Load(), WriteBytes: d.writeBytes.Load(),
		Reads: d.reads.Load(), Writes: d.writes.Load(),
	}
}

// Close closes the image, after the last machine has gone.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.medium == nil {
		return nil
	}
	err := d.medium.Close()
	d.medium = nil
	if err != nil {
		return fmt.Errorf("close disk %d: %w", d.config.Index, err)
	}
	return nil
}
