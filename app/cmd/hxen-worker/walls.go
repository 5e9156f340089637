package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/accel"
	"github.com/hxen-project/hxen/platform/confine"
	"github.com/hxen-project/hxen/platform/diskfile"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// maxFiles bounds the open files of a confined worker: disks, cards, clients.
const maxFiles = 1024

// dialTime bounds a dial for a confined worker; its relay waits longer.
const dialTime = 3 * time.Second

// walls stand around a worker whose guest runs in it.
type walls struct {
	guest  paths.Guest
	log    *slog.Logger
	dialer atomic.Pointer[confine.Dialer] // nil: this process may dial and open for itself
}

// confine leaves this process what it needs while the guest runs: what it has open,
// the worker's folder, and, through a process beside it, its networks and the media
// that the service grants it.
func (w *walls) confine(s hv.Spec) (string, error) {
	if err := w.startDialer(); err != nil && !errors.Is(err, confine.ErrNoDialer) {
		return "", err
	}
	p := confine.Policy{
		Read:  []string{"/proc/self", s.Boot.Kernel, s.Boot.Initrd}, // the first tells its use of the host
		Write: []string{w.guest.Worker()},
		Ioctl: accel.IoctlType, Files: maxFiles,
	}
	r, err := confine.Apply(p)
	if err != nil {
		return "", err
	}
	if r.Missing != "" {
		w.log.Warn("the guest is isolated less than it could be", "why", r.Missing)
	}
	return strings.Join(r.Walls, ", "), nil
}

func (w *walls) startDialer() error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	d, err := confine.StartDialer(func(f *os.File) error {
		_, err := proc.Start(proc.Command{Path: exe, Args: []string{"--dial", w.guest.Run, "--dir", w.guest.Dir}, ExtraFiles: []*os.File{f}, DieWithParent: true})
		return err
	})
	if err == nil {
		w.dialer.Store(d)
	}
	return err
}

// dial connects to a network's socket.
func (w *walls) dial(ctx context.Context, frames string) (net.Conn, error) {
	if d := w.dialer.Load(); d != nil {
		return d.Dial(ctx, frames)
	}
	return localsock.Dial(ctx, frames)
}

// openDisk opens an image or a disk of the host.
func (w *walls) openDisk(path string, readonly bool) (*diskfile.File, error) {
	d := w.dialer.Load()
	if d == nil {
		return diskfile.Open(path, readonly)
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	f, err := d.Open(ctx, path, !readonly)
	if err != nil {
		return nil, err
	}
	return diskfile.Use(f, readonly)
}

// serveDialer is the life of the process that dials and opens for a confined worker
// of the guest with the folder dir. It knows networks, each of which asks its caller
// who he is, and the one file that the service grants.
func serveDialer(run, dir string) error {
	dial := func(path string) (net.Conn, error) {
		if !paths.IsFrames(path, run) {
			return nil, fmt.Errorf("%s is no network's socket", path)
		}
		ctx, cancel := context.WithTimeout(context.Background(), dialTime)
		defer cancel()
		return localsock.Dial(ctx, path)
	}
	open := func(path string, write bool) (*os.File, error) {
		return openGranted(paths.GuestDir(dir, run).Grant(), path, write)
	}
	return confine.ServeDialer(os.NewFile(3, "worker"), confine.Doors{Dial: dial, Open: open})
}

// openGranted opens path if the service says in the file grant that it may be.
func openGranted(grant, path string, write bool) (*os.File, error) {
	var g control.Grant
	b, err := os.ReadFile(grant)
	if err == nil {
		err = json.Unmarshal(b, &g)
	}
	if err != nil || g.Path != path || write && !g.Write {
		return nil, fmt.Errorf("%s is not a file that this guest was given", path)
	}
	fi, err := os.Stat(path) // opening a FIFO would hang
	if err != nil {
		return nil, err
	}
	if m := fi.Mode(); !m.IsRegular() && (m&os.ModeDevice == 0 || m&os.ModeCharDevice != 0) {
		return nil, fmt.Errorf("%s is neither a file nor a disk", path)
	}
	flag := os.O_RDONLY
	if write {
		flag = os.O_RDWR
	}
	return os.OpenFile(path, flag, 0)
}
