package accel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// hang guards a test against waiting for ever.
const hang = 5 * time.Minute

// fakeVar makes this test binary a child that behaves in a chosen way.
const fakeVar = "HXEN_ACCEL_TEST"

// ownTimesOnly: the system answers for every process with the caller's own use of the
// processor.
var ownTimesOnly bool

func TestMain(m *testing.M) {
	switch os.Getenv(fakeVar) {
	case "":
		ProbeChild()
		os.Exit(m.Run())
	case "works":
		fmt.Println("creating a machine")
		fmt.Println(worked + "by a test")
	case "fails":
		fmt.Println("creating a machine")
		fmt.Println("64-bit code: it answered 0x1 instead of 0x2")
		os.Exit(exitFailed)
	case "busy":
		os.Exit(exitBusy)
	case "hangs":
		fmt.Println("starting 64-bit code")
		time.Sleep(time.Hour)
	case "spins":
		fmt.Println("starting 64-bit code")
		for n := 0; ; n++ {
			runtime.KeepAlive(n)
		}
	case "dies":
		fmt.Println("starting 64-bit code")
		p, _ := os.FindProcess(os.Getpid())
		_ = p.Kill()
		time.Sleep(time.Hour)
	case "forgot":
		fmt.Println("usage: program verb")
	}
}

func TestWatch(t *testing.T) {
	for _, c := range []struct {
		child string
		limit time.Duration
		is    error
		says  string
	}{
		{"works", hang, nil, ""},
		{"fails", hang, nil, "64-bit code: it answered 0x1 instead of 0x2"},
		{"busy", hang, errBusy, ""},
		{"dies", hang, nil, "after starting 64-bit code"},
		{"forgot", hang, errNoVerdict, "usage: program verb"},
		{"missing", hang, errNoVerdict, ""},
	} {
		t.Run(c.child, func(t *testing.T) {
			t.Setenv(fakeVar, c.child)
			cmd := exec.Command(os.Args[0])
			if c.child == "missing" {
				cmd = exec.Command("/nonexistent/hxen")
			}
			how, err := watch(t.Context(), c.limit, cmd)
			switch {
			case c.child == "works":
				if err != nil || how != "by a test" {
					t.Errorf("%q, %v", how, err)
				}
			case err == nil:
				t.Error("no error")
			case c.is != nil && !errors.Is(err, c.is):
				t.Errorf("%v, want %v", err, c.is)
			case c.is == nil && (errors.Is(err, errNoVerdict) || errors.Is(err, errBusy)):
				t.Errorf("%v is no verdict", err)
			case !strings.Contains(err.Error(), c.says):
				t.Errorf("%v, want %q in it", err, c.says)
			}
		})
	}
}

// TestWatchHang: what hung is named. On a busy machine the child may need longer
// than the limit to get there, and a good part of a short one to start.
func TestWatchHang(t *testing.T) {
	t.Setenv(fakeVar, "hangs")
	for limit := time.Second; ; limit *= 4 {
		_, err := watch(t.Context(), limit, exec.Command(os.Args[0]))
		if errors.Is(err, errStarved) && strings.Contains(err.Error(), fmt.Sprintf("hung for %v after starting 64-bit code", limit)) {
			break
		}
		if err == nil || limit > hang {
			t.Fatalf("it hangs and uses no processor: %v", err)
		}
	}
	if ownTimesOnly {
		return // nobody can tell what it uses
	}
	t.Setenv(fakeVar, "spins")
	for limit := time.Second; ; limit *= 4 {
		if _, err := watch(t.Context(), limit, exec.Command(os.Args[0])); err != nil && !errors.Is(err, errStarved) {
			return
		}
		if limit > hang {
			t.Fatal("what used the processor up counts as starved")
		}
	}
}

func TestWatchIsCancelled(t *testing.T) {
	t.Setenv(fakeVar, "hangs")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := watch(ctx, hang, exec.Command(os.Args[0])); !errors.Is(err, context.Canceled) || !errors.Is(err, errNoVerdict) {
		t.Errorf("%v", err)
	}
}

func TestForgottenProbeChildDoesNotRecurse(t *testing.T) {
	t.Setenv(childVar, "1")
	if _, err := runChild(t.Context(), hang); !errors.Is(err, errNoVerdict) {
		t.Errorf("%v", err)
	}
}

// What this very computer says. HXEN_REQUIRE=accel is for computers that are
// known to have a working accelerator.
func TestProbeHere(t *testing.T) {
	rs := Probe(t.Context(), Options{})
	for _, r := range rs {
		t.Logf("%+v", r)
		if !r.Usable && r.Reason == "" || !r.Native.Usable && r.Native.Reason == "" {
			t.Errorf("%s: no reason", r.Name)
		}
	}
	if len(rs) != 2 || rs[1] != software {
		t.Errorf("the last resort is missing: %+v", rs)
	}
	if slices.Contains(strings.Split(os.Getenv("HXEN_REQUIRE"), ","), "accel") && !rs[0].Usable {
		t.Errorf("HXEN_REQUIRE names accel, but %+v", rs[0])
	}
}

func TestMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "probes.json")
	if _, ok := recall(file, "k"); ok {
		t.Error("recalled from nothing")
	}
	want := noGuests("kvm", "KVM", "it hung")
	remember(file, "k", want)
	if r, ok := recall(file, "k"); !ok || r != want {
		t.Errorf("recalled %+v, %v", r, ok)
	}
	if _, ok := recall(file, "another boot"); ok {
		t.Error("recalled for another key")
	}
	for _, junk := range []string{"", "{", `{"key":"k"}`, `{"key":"k","result":7}`} {
		if err := os.WriteFile(file, []byte(junk), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, ok := recall(file, "k"); ok {
			t.Errorf("recalled %+v from %q", r, junk)
		}
	}
	remember("", "k", want)
	remember(filepath.Join(file, "below", "a", "file"), "k", want)
}

// What QEMU cannot use the native engine cannot either, and the other way round
// there is more to ask for.
func TestForNative(t *testing.T) {
	good := Result{Name: "kvm", Usable: true, Native: Native{How: "somehow"}}
	if n := forNative(good, ""); !n.Usable || n.How != "somehow" || n.Reason != "" {
		t.Errorf("a good one: %+v", n)
	}
	if n := forNative(good, "the clock is wrong"); n.Usable || n.Reason != "the clock is wrong" || n.Cure == "" {
		t.Errorf("a wrong clock: %+v", n)
	}
	bad := noGuests("kvm", "KVM", "it hung")
	if n := forNative(bad, "the clock is wrong"); n.Usable || n.Reason != bad.Reason || n.Cure != bad.Cure {
		t.Errorf("no guests: %+v", n)
	}
}

// Open says in words why it cannot.
func TestOpen(t *testing.T) {
	h, err := Open()
	if err != nil {
		t.Skipf("nothing to open: %v", err)
	}
	if h.Name() == "" {
		t.Error("it has no name")
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}
