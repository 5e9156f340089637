package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/accel"
	"github.com/hxen-project/hxen/platform/confine"
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
	dialer atomic.Pointer[confine.Dialer] // nil: this process may dial for itself
}

// confine leaves this process what it needs while the guest runs: the guest's
// media, the worker's folder, and the networks of its cards through a process
// that dials for it.
func (w *walls) confine(s hv.Spec) (string, error) {
	if len(s.NICs) > 0 {
		if err := w.startDialer(); err != nil && !errors.Is(err, confine.ErrNoDialer) {
			return "", err
		}
	}
	p := confine.Policy{
		Read:  []string{"/proc/self", s.Boot.Kernel, s.Boot.Initrd}, // the first tells its use of the host
		Write: []string{w.guest.Worker()},
		Ioctl: accel.IoctlType, Files: maxFiles,
	}
	for _, d := range s.Disks {
		if d.IsCD() { // media come from anywhere, while the guest runs
			p.Read = append(p.Read, string(filepath.Separator))
		}
		path := d.Path
		if path != "" && !filepath.IsAbs(path) {
			path = filepath.Join(w.guest.Dir, path)
		}
		if d.Mode == hv.ReadOnly {
			p.Read = append(p.Read, path)
		} else {
			p.Write = append(p.Write, path)
		}
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
		_, err := proc.Start(proc.Command{Path: exe, Args: []string{"--dial", w.guest.Run}, ExtraFiles: []*os.File{f}, DieWithParent: true})
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

// serveDialer is the life of the process that dials for a confined worker. It
// knows networks only, and each asks its caller who he is.
func serveDialer(run string) error {
	return confine.ServeDialer(os.NewFile(3, "worker"), func(path string) (net.Conn, error) {
		if !paths.IsFrames(path, run) {
			return nil, fmt.Errorf("%s is no network's socket", path)
		}
		ctx, cancel := context.WithTimeout(context.Background(), dialTime)
		defer cancel()
		return localsock.Dial(ctx, path)
	})
}
