package native

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend/blk"
	"github.com/hxen-project/hxen/hv/qemu"
)

// serveTime bounds the start of a server for an image: it must become a sentence
// when that hangs.
const serveTime = time.Minute

// openDisks opens the guest's disks and drives.
func (g *Guest) openDisks(ctx context.Context) error {
	for i, d := range g.spec.Disks {
		file, err := g.openImage(ctx, i, d)
		if err != nil {
			return staged(stageDisk, err, "")
		}
		disk := g.newDisk(g.places[d.UUID], d, file)
		g.disks[d.UUID] = disk
		g.bootsFrom(d, file)
		g.config.Devices = append(g.config.Devices, disk)
	}
	return nil
}

// openImage opens a disk's image; nil is an empty drive.
func (g *Guest) openImage(ctx context.Context, i int, d hv.Disk) (hv.DiskFile, error) {
	if d.Path == "" {
		return nil, nil
	}
	if d.Format == hv.QCOW2 {
		return g.serveImage(ctx, i, d)
	}
	path := d.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(g.host.Dir, path)
	}
	if g.isolation == "" { // who is isolated opens nothing by himself
		if err := qemu.CheckImage(g.host.Dir, g.host.Base, d); err != nil {
			return nil, err
		}
	}
	if g.host.OpenDisk == nil {
		return nil, fmt.Errorf("open %s: this program opens no disks: %w", path, hv.ErrUnsupported)
	}
	f, err := g.host.OpenDisk(path, d.Mode == hv.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("the disk image %s: %w", path, err)
	}
	return f, nil
}

// served is an image behind a server of its own.
type served struct {
	*blk.NBD
	storage *qemu.Storage
}

func (s served) Close() error { return errors.Join(s.NBD.Close(), s.storage.Close()) }

func (g *Guest) serveImage(ctx context.Context, i int, d hv.Disk) (hv.DiskFile, error) {
	ctx, cancel := context.WithTimeout(ctx, serveTime)
	defer cancel()
	storage, conn, err := qemu.Serve(ctx, d, i, g.host)
	if err != nil {
		return nil, err
	}
	nbd, err := blk.NewNBD(conn, qemu.Export)
	if err != nil {
		return nil, errors.Join(err, storage.Close())
	}
	return served{nbd, storage}, nil
}

// pauseFull has the guest stand still until the host's disk has room again, as a
// guest that QEMU runs does. Requests that found no room wait for Resume.
func (g *Guest) pauseFull(disk string) {
	m, err := g.now("pause the guest")
	if err != nil || !m.Pause() { // one request among others has done it
		return
	}
	g.events.Put(hv.Event{Kind: hv.EventIOError, Object: disk,
		Text: "the guest could not write to a disk because the host's disk is full, and was paused; make room, then resume it"})
	g.events.Put(hv.Event{Kind: hv.EventState, State: hv.Paused})
}

// retryDisks lets requests go on that found no room.
func (g *Guest) retryDisks() {
	g.mu.Lock()
	disks := slices.Collect(maps.Values(g.disks))
	g.mu.Unlock()
	for _, d := range disks {
		d.Retry()
	}
}

// ChangeMedia puts media into a CD drive, or empties it. What cannot be opened
// leaves the old medium in place.
func (g *Guest) ChangeMedia(ctx context.Context, drive string, media hv.Disk) error {
	if _, err := g.now("change the medium"); err != nil {
		return err
	}
	i := -1
	g.mu.Lock()
	disk := g.disks[drive]
	for k, d := range g.spec.Disks {
		if d.UUID == drive && d.IsCD() {
			i = k
		}
	}
	g.mu.Unlock()
	if i < 0 {
		return fmt.Errorf("change the medium: the guest has no CD drive %s: %w", drive, hv.ErrUnavailable)
	}
	media.Kind, media.Mode = hv.KindCDROM, hv.ReadOnly
	if media.Format == "" {
		media.Format = hv.Raw
	}
	if media.Format == hv.QCOW2 && g.isolation != "" { // it can start no programs any more
		return fmt.Errorf("insert the medium: an isolated guest that runs can use raw images only: convert it with qemu-img convert -O raw, or insert it before the start: %w", hv.ErrUnavailable)
	}
	file, err := g.openImage(ctx, i, media)
	if err != nil {
		return fmt.Errorf("insert the medium: %w", err)
	}
	if err := disk.Change(file); err != nil {
		return fmt.Errorf("change the medium: %w", err)
	}
	g.mu.Lock()
	g.media[drive] = media.Path
	g.mu.Unlock()
	words := "a CD was inserted"
	if media.Path == "" {
		words = "a CD drive was emptied"
	}
	g.events.Put(hv.Event{Kind: hv.EventMedia, Object: drive, Text: words})
	return nil
}
