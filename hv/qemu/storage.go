package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// Export is the name under which Storage serves its image.
const Export = "disk"

// Storage is a qemu-storage-daemon that serves one image over NBD, for guests
// that QEMU does not run. It ends with the worker.
type Storage struct {
	child *child
	mon   *Monitor
	once  sync.Once
}

// Serve starts a daemon for the i-th image that the guest h.Short uses, and
// returns the connection to it. Formats are never guessed and files that the
// image names are never opened, as in a guest that QEMU runs.
func Serve(ctx context.Context, d hv.Disk, i int, h hv.Host) (*Storage, net.Conn, error) {
	if h.QEMU.Storage == "" {
		path := resolve(h.Dir, d.Path)
		return nil, nil, staged(stageDisk, fmt.Errorf("%s is a %s image, which guests of type pvh use through qemu-storage-daemon, a part of QEMU that is not installed", path, d.Format),
			fmt.Sprintf("install QEMU, or convert to raw: qemu-img convert -O raw %q %q", path, path+".raw"))
	}
	im, err := inspect(h.Dir, h.Base, d)
	if err != nil {
		return nil, nil, staged(stageDisk, err, "")
	}
	dir, err := os.MkdirTemp(socketDir(h), h.Short+".d")
	if err != nil {
		return nil, nil, staged(stageSockets, fmt.Errorf("make a folder for sockets: %w", err), "")
	}
	defer os.RemoveAll(dir) // what is connected stays so
	s, conn, err := serve(ctx, d, im, dir, h)
	if err != nil {
		return nil, nil, staged(stageDisk, err, "")
	}
	h.Log.Info("an image is served by qemu-storage-daemon", "disk", i, "pid", s.child.proc.PID())
	return s, conn, nil
}

// socketDir is the runtime folder, or where it is none (Windows) that of
// temporary files.
func socketDir(h hv.Host) string {
	if fi, err := os.Stat(h.RunDir); err == nil && fi.IsDir() {
		return h.RunDir
	}
	return ""
}

func serve(ctx context.Context, d hv.Disk, im image, dir string, h hv.Host) (_ *Storage, _ net.Conn, err error) {
	qmp, nbd := filepath.Join(dir, "q"), filepath.Join(dir, "n")
	l, _, err := listen(qmp)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	ch, err := startChild(h, hv.Command{Path: h.QEMU.Storage, Args: storageArgs(d, im, qmp, nbd), Dir: h.Dir, Files: slices.Clone(h.Inherit)})
	if err != nil {
		return nil, nil, err
	}
	s := &Storage{child: ch}
	defer func() {
		if err != nil {
			ch.kill()
		}
	}()
	conn, err := ch.accept(ctx, l)
	if err != nil {
		return nil, nil, err
	}
	// The monitor is the last thing that the daemon makes, so its greeting says that
	// the NBD server is there.
	s.mon = NewMonitor(conn, nil)
	if _, err := s.mon.Open(ctx); err != nil {
		return nil, nil, ch.because(err)
	}
	var dial net.Dialer
	disk, err := dial.DialContext(ctx, "unix", nbd)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to qemu-storage-daemon: %w", err)
	}
	return s, disk, nil
}

// storageArgs is the daemon's command line; the order is that in which it makes
// things.
func storageArgs(d hv.Disk, im image, qmp, nbd string) []string {
	b := &builder{}
	b.add("--chardev", "socket,id=qmp,path="+esc(qmp)+",server=off")
	b.obj("--blockdev", blockNode(d, im, "image"))
	b.add("--nbd-server", "addr.type=unix,addr.path="+esc(nbd)+",max-connections=1")
	b.obj("--export", map[string]any{
		"type": "nbd", "id": "export", "node-name": "image", "name": Export, "writable": d.Mode == hv.ReadWrite,
	})
	b.add("--monitor", "chardev=qmp")
	return b.args
}

// storageTime is how long the daemon gets to write back what it holds; an image
// is whole if it is killed then, but may have lost room.
const storageTime = 30 * time.Second

// Close has the daemon put everything on its disk and end, and waits. It is
// killed if it does not.
func (s *Storage) Close() error {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), storageTime)
		defer cancel()
		_ = s.mon.Do(ctx, "quit", nil, nil) // it may have ended before
		select {
		case <-s.child.done:
		case <-ctx.Done():
			s.child.kill()
		}
		_ = s.mon.Disconnect()
	})
	if s.child.code != 0 {
		return errors.Join(errors.New("qemu-storage-daemon failed"), s.child.failure())
	}
	return nil
}
