package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv/native"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// serveBootMenu is the life of a worker that only tells what its guest's disks can
// boot. It does so behind the walls that a running guest gets: disks are written
// by strangers.
func serveBootMenu(dir, run string) error {
	var q control.BootQuery
	if err := json.NewDecoder(io.LimitReader(os.Stdin, control.MaxLine)).Decode(&q); err != nil {
		return fmt.Errorf("read the question: %w", err)
	}
	var said control.BootMenu
	if err := bootMenu(dir, run, q, &said); err != nil {
		said = control.BootMenu{Error: err.Error()}
	}
	return json.NewEncoder(os.Stdout).Encode(said)
}

func bootMenu(dir, run string, q control.BootQuery, said *control.BootMenu) error {
	g := paths.GuestDir(dir, run)
	if err := os.MkdirAll(g.Worker(), 0o700); err != nil {
		return fmt.Errorf("make the worker's folder: %w", err)
	}
	lock, err := proc.TryLock(g.Lock())
	if errors.Is(err, proc.ErrLocked) {
		return errors.New("the guest is running")
	}
	if err != nil {
		return fmt.Errorf("lock the guest's folder: %w", err)
	}
	defer lock.Close()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)) // the guest's log
	walls := &walls{guest: g, log: log}
	h := host(g, lock, "", &started{times: map[int]string{}}, &doors{}, walls, log)
	h.QEMU = q.QEMU
	h.Confine = func() (string, error) { return walls.confine(q.Spec) }
	menu, err := native.BootMenu(context.Background(), q.Spec, h)
	if err != nil {
		return err
	}
	said.From = menu.From
	if said.Boots, err = menu.Index(q.Spec.Boot.Entry); err != nil {
		said.Problem = err.Error()
	}
	for _, e := range menu.Entries {
		said.Entries = append(said.Entries, control.BootEntry{ID: e.ID, Title: e.Title, Kernel: e.Kernel, Cmdline: e.Cmdline})
	}
	return nil
}
