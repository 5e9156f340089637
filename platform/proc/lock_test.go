package proc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// lockPath is in a folder that is removed piece by piece: wine's system lacks
// what t.TempDir uses.
func lockPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hxen-lock")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "lock")
	t.Cleanup(func() { os.Remove(path); os.Remove(dir) })
	return path
}

func held(t *testing.T, path string, want bool) {
	t.Helper()
	got, err := Held(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("Held is %v, want %v", got, want)
	}
}

func TestLock(t *testing.T) {
	path := lockPath(t)
	held(t, path, false) // no file, no holder
	l, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	held(t, path, true)
	if _, err := TryLock(path); !errors.Is(err, ErrLocked) {
		t.Fatalf("second TryLock: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	held(t, path, false)
	if _, err := TryLock(filepath.Join(path, "none", "lock")); err == nil || errors.Is(err, ErrLocked) {
		t.Fatalf("a lock below a file: %v", err)
	}
}

func TestLockedFileCanBeRead(t *testing.T) {
	path := lockPath(t)
	if err := os.WriteFile(path, []byte("42\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if b, err := os.ReadFile(path); err != nil || string(b) != "42\n" {
		t.Fatalf("%q, %v", b, err)
	}
}

// A look at the lock must never cost somebody the lock.
func TestLookingDoesNotRefuseTheLock(t *testing.T) {
	path := lockPath(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := Held(path); err != nil {
					t.Errorf("Held: %v", err)
					return
				}
			}
		})
	}
	for i := range 500 {
		l, err := TryLock(path)
		if err != nil {
			t.Errorf("round %d: %v", i, err)
			break
		}
		l.Close()
	}
	stop()
	wg.Wait()
}

func TestLockRaceOfProcesses(t *testing.T) {
	path := lockPath(t)
	const n = 8
	kids := make([]talk, n)
	var wg sync.WaitGroup
	for i := range kids {
		wg.Go(func() { kids[i] = startChild(t, self("lock", path)) })
	}
	wg.Wait()
	won := 0
	for _, k := range kids {
		switch s := k.line(t); s {
		case "ready":
			won++
		case "refused true":
		default:
			t.Errorf("a child says %q", s)
		}
	}
	if won != 1 {
		t.Fatalf("%d of %d processes hold the lock", won, n)
	}
	for _, k := range kids {
		k.in.Close()
	}
	if err := WaitFree(t.Context(), path); err != nil {
		t.Fatal(err)
	}
}

func TestDeathFreesTheLock(t *testing.T) {
	path := lockPath(t)
	k := startChild(t, self("lock", path))
	k.line(t)
	held(t, path, true)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WaitFree(ctx, path); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled WaitFree: %v", err)
	}
	if err := k.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := WaitFree(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	held(t, path, false)
}
