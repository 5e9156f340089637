package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
)

// TestRepair makes broken folders guests again.
func TestRepair(t *testing.T) {
	b := newBench(t)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "web", DiskSize: 1 << 30})
	dir := b.opt.Store.Guest(ref.UUID(), "").Dir
	c.must(nil, "VM.set_name_description", ref, "as it was last")
	wantCode(t, c.plugin(nil, api.FnRepair, api.RepairArg{VM: ref}), api.ErrRefused, "whole")
	b.stop()

	other := filepath.Join(b.opt.Store.Guests(), "a copy")
	if err := os.CopyFS(other, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "spec.json"), []byte(`{"version": 1, "uu`), 0o600); err != nil {
		t.Fatal(err)
	}
	c = b.up()
	r := c.vm(ref)
	if r.OtherConfig[api.KeyBroken] == "" || !strings.Contains(r.OtherConfig[api.KeyRepair], "settings of \"web\"") {
		t.Fatalf("told of the damaged guest: %q", r.OtherConfig)
	}
	var made api.Created
	if err := c.plugin(&made, api.FnRepair, api.RepairArg{VM: ref}); err != nil || made.VM != ref {
		t.Fatal(made, err)
	}
	if r := c.vm(ref); r.NameLabel != "web" || r.NameDescription != "as it was last" || r.OtherConfig[api.KeyBroken] != "" {
		t.Errorf("repaired: %q %q", r.NameLabel, r.OtherConfig)
	}
	if kept, _ := filepath.Glob(filepath.Join(dir, "spec.json.broken-*")); len(kept) != 1 {
		t.Errorf("the damaged settings were not kept: %v", kept)
	}
	c.must(nil, "VM.start", ref, false, false)

	copied := api.RefOf(derive("folder", "a copy"))
	if r := c.vm(copied); !strings.Contains(r.OtherConfig[api.KeyRepair], "of its own") {
		t.Errorf("told of the copy: %q", r.OtherConfig)
	}
	if err := c.plugin(&made, api.FnRepair, api.RepairArg{VM: copied}); err != nil || made.VM == ref || made.VM == copied {
		t.Fatal(made, err)
	}
	r = c.vm(made.VM)
	if r.NameLabel != "web (2)" || r.OtherConfig[api.KeyBroken] != "" {
		t.Errorf("the copy is %q: %q", r.NameLabel, r.OtherConfig)
	}
	c.must(nil, "VM.start", made.VM, false, false)
	var all []api.Ref
	if c.must(&all, "VM.get_all"); len(all) != 2 {
		t.Errorf("%d guests, want 2", len(all))
	}
}

// TestDamagedFiles opens the store with each of its files cut at any place, full of
// something else, from the future, or impossible to read. No guest is lost by it,
// no other guest has anything to do with it, and what is damaged is not touched.
func TestDamagedFiles(t *testing.T) {
	b := newBench(t)
	c := b.up()
	victim := c.create(api.NewGuest{Name: "victim", DiskSize: 1 << 30})
	c.create(api.NewGuest{Name: "bystander", DiskSize: 1 << 30})
	c.must(nil, "VM.start", victim, false, false)
	c.must(nil, "VM.hard_shutdown", victim)
	b.stop()
	b.opt.Log = slog.New(slog.DiscardHandler)
	points, lost, wrong := 0, 0, 0
	try := func(path, how string, damage func() error, kept []byte) {
		t.Helper()
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, was, 0o600); err != nil {
				t.Fatal(err)
			}
		}()
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		points++
		s, lock, err := open(t.Context(), b.opt)
		if err != nil {
			lost += 2
			t.Errorf("%s %s: the store does not open: %v", filepath.Base(path), how, err)
			return
		}
		defer lock.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		spec := filepath.Base(path) == "spec.json"
		for _, g := range s.guests {
			switch {
			case g.name == "bystander" && !g.sound(), g.uuid == victim.UUID() && !spec && !g.sound():
				lost++
				t.Errorf("%s %s: guest %s cannot be used: %s", filepath.Base(path), how, g.name, g.problem)
			case g.power != hv.Halted:
				wrong++
				t.Errorf("%s %s: guest %s is told to be %s", filepath.Base(path), how, g.name, g.power)
			}
		}
		if len(s.guests) != 2 {
			lost++
			t.Errorf("%s %s: %d guests", filepath.Base(path), how, len(s.guests))
		}
		if now, _ := os.ReadFile(path); spec && kept != nil && !bytes.Equal(now, kept) {
			lost++
			t.Errorf("%s %s: it was rewritten", filepath.Base(path), how)
		}
	}
	files := b.opt.Store.Guest(victim.UUID(), "")
	for _, path := range []string{files.Spec(), files.SpecCopy(), files.State(), b.opt.Store.Hosts(), b.opt.Store.DomID()} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write := func(how string, text []byte) {
			t.Helper()
			try(path, how, func() error { return os.WriteFile(path, text, 0o600) }, text)
		}
		for n := 0; n < len(whole); n += max(1, len(whole)/40) {
			write(fmt.Sprint("cut after ", n), whole[:n])
		}
		write("full of zeros", make([]byte, len(whole)))
		write("foreign", []byte("\x7fELF\x02\x01\x01 not ours at all"))
		write("other JSON", []byte(`[{"version":"x"}]`))
		var fields map[string]any
		if json.Unmarshal(whole, &fields) == nil {
			fields["version"] = 99
			newer, err := json.Marshal(fields)
			if err != nil {
				t.Fatal(err)
			}
			write("newer", newer)
		}
		try(path, "a folder", func() error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		}, nil)
	}
	fmt.Printf("damaged files: points tried %d, guests lost %d, states wrong %d\n", points, lost, wrong)
}
