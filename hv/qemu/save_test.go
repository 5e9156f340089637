package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// savedGuest boots a guest, saves it and returns the file.
func savedGuest(t *testing.T, l *lab, s hv.Spec) string {
	t.Helper()
	m := boots(t, l, s)
	path := filepath.Join(l.host.Dir, "saved")
	var done, total int64
	if err := m.Save(t.Context(), path, func(d, of int64) { done, total = d, of }); err != nil {
		t.Fatal(err)
	}
	if done == 0 || total < done {
		t.Errorf("progress ended at %d of %d", done, total)
	}
	for range m.Events() {
	}
	if reason, err := m.Wait(); reason != hv.ExitSaved || err != nil {
		t.Errorf("ended as %q, %v", reason, err)
	}
	if _, err := os.Stat(path + ".part"); err == nil {
		t.Error("the unfinished file is still there")
	}
	if left := l.left(t); len(left) > 0 {
		t.Errorf("the saved guest left %q", left)
	}
	return path
}

// restored goes on from path, and fails if the guest boots instead.
func restored(t *testing.T, l *lab, s hv.Spec, path string) *Machine {
	t.Helper()
	l.host.Restore = path
	defer func() { l.host.Restore = "" }()
	machine, err := New().Launch(t.Context(), s, l.host)
	if err != nil {
		t.Fatal(err)
	}
	m := machine.(*Machine)
	t.Cleanup(func() { m.Close() })
	io.WriteString(m.Console(), "y")
	if got := until(t, m, "y"); strings.Contains(got, "READY") {
		t.Errorf("it booted: %q", got)
	}
	return m
}

func TestSave(t *testing.T) {
	l := newLab(t)
	s := l.spec(t)
	s.Disks = append(s.Disks, hv.Disk{UUID: cdUUID, Path: hvtest.GuestDisk(t, t.TempDir()), Format: hv.Raw, Mode: hv.ReadOnly, Kind: hv.KindCDROM})
	path := savedGuest(t, l, s)
	m := restored(t, l, s, path)
	// It can be saved again, also when it stands still, and is then held.
	if err := m.ChangeMedia(t.Context(), cdUUID, hv.Disk{}); err != nil {
		t.Fatal(err)
	}
	if err := m.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Save(t.Context(), path, nil); err != nil {
		t.Fatal(err)
	}
	if se := restoreError(t, l, s, path); !strings.Contains(se.Error(), "disks") {
		t.Errorf("the medium was taken out before the save, but: %v", se)
	}
	s.Disks[1].Path, s.Disks[1].Format = "", ""
	restored(t, l, s, path)
}

func TestSaveUEFI(t *testing.T) {
	l := newLab(t)
	l.host.QEMU.OVMFCode, l.host.QEMU.OVMFVars = ovmf(t)
	s := l.spec(t)
	s.Firmware, s.Memory = hv.UEFI, 256*hv.MiB
	machine, err := New().Launch(t.Context(), s, l.host)
	if err != nil {
		t.Fatal(err)
	}
	m := machine.(*Machine)
	until(t, m, "BdsDxe:")
	path := filepath.Join(l.host.Dir, "saved")
	if err := m.Save(t.Context(), path, nil); err != nil {
		t.Fatal(err)
	}
	m.Close()
	l.host.Restore = path
	again, err := New().Launch(t.Context(), s, l.host)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Reset(t.Context()); err != nil { // the firmware starts from what was restored
		t.Fatal(err)
	}
	until(t, again.(*Machine), "BdsDxe:")
}

// restoreError goes on from path, which cannot be, and says why.
func restoreError(t *testing.T, l *lab, s hv.Spec, path string) *hv.StageError {
	t.Helper()
	l.host.Restore = path
	defer func() { l.host.Restore = "" }()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	se := launchError(t, l, s)
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a restore that failed touched the saved state: %v", err)
	}
	if se.Cure == "" {
		t.Errorf("no way out of %v", se)
	}
	return se
}

// TestRestoreRefuses: a state that does not fit is refused and kept.
func TestRestoreRefuses(t *testing.T) {
	l := newLab(t)
	s := l.spec(t)
	path := savedGuest(t, l, s)
	more := s
	more.Memory *= 2
	if se := restoreError(t, l, more, path); !strings.Contains(se.Error(), "memory") {
		t.Errorf("more memory: %v", se)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 0x40
	for name, b := range map[string][]byte{
		"cut short": whole[:len(whole)-1], "empty": nil, "damaged": damaged, "foreign": bytes.Repeat([]byte("x"), 1<<16),
	} {
		p := filepath.Join(t.TempDir(), "saved")
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if se := restoreError(t, l, s, p); se.Stage != stageSaved {
			t.Errorf("%s: %v", name, se)
		}
	}
	restored(t, l, s, path).Close() // all of that did no harm
	disk := filepath.Join(l.host.Dir, "guest.img")
	if err := os.Chtimes(disk, time.Time{}, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if se := restoreError(t, l, s, path); !strings.Contains(se.Error(), "was changed after the guest was saved") {
		t.Errorf("a changed disk: %v", se)
	}
	l.host.Force = true
	restored(t, l, s, path).Close()
}

// TestSaveFails: a guest whose state cannot be written goes on, and what was
// saved before stays.
func TestSaveFails(t *testing.T) {
	l := newLab(t)
	m := boots(t, l, l.spec(t))
	path := filepath.Join(l.host.Dir, "saved")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	goesOn := func() {
		t.Helper()
		io.WriteString(m.Console(), "z")
		until(t, m, "z")
		if b, err := os.ReadFile(path); err != nil || string(b) != "old" {
			t.Errorf("the old state is %q, %v", b, err)
		}
		if _, err := os.Stat(path + ".part"); err == nil {
			t.Error("the unfinished file is still there")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := m.Save(ctx, path, func(int64, int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled save: %v", err)
	}
	goesOn()
	if err := m.Save(t.Context(), filepath.Join(l.host.Dir, "nowhere", "saved"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("into a folder that is not there: %v", err)
	}
	goesOn()
	// A disk that gets full in the middle of it.
	if err := os.Symlink("/dev/full", path+".part"); err != nil {
		t.Fatal(err)
	}
	if err := m.Save(t.Context(), path, nil); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("onto a full disk: %v", err)
	}
	goesOn()
	if err := m.Save(t.Context(), path, nil); err != nil {
		t.Fatalf("after all that failed: %v", err)
	}
}

// FuzzSaved: what the state of a saved guest says may be anything.
func FuzzSaved(f *testing.F) {
	b, err := json.Marshal(savedState{Machine: "pc-q35-7.2", Spec: hv.Spec{Version: 1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var s saved
		if json.Unmarshal(b, &s.head) == nil {
			_ = s.differs(hv.Spec{}, "/", false)
		}
	})
}
