package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestFiguresSetup measures the single file: its size, and how long the wizard's
// first page takes to stand on the screen. "make bench" runs it.
func TestFiguresSetup(t *testing.T) {
	if os.Getenv("HXEN_BENCH") == "" {
		t.Skip("make bench measures the figures")
	}
	setup := newer(t)
	file, err := os.Stat(setup)
	if err != nil {
		t.Fatal(err)
	}
	display := hvtest.NewDisplay(t, "1280x800")
	glass := display.Glass(t)
	wait := func(what string, ok func() bool) {
		for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	var took []time.Duration
	home := t.TempDir()
	for range 4 { // the first is cold
		cmd := exec.Command(setup)
		cmd.Env = append(display.Env(), "HOME="+home, "LIBGL_ALWAYS_SOFTWARE=1")
		began := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait("the wizard painted nothing", glass.Painted)
		took = append(took, time.Since(began))
		_ = exec.Command("pkill", "-KILL", "-P", fmt.Sprint(cmd.Process.Pid)).Run() // the window, a program of its own
		_ = cmd.Wait()
		wait("the wizard stays", func() bool { return !glass.Painted() })
	}
	warm := took[1:]
	slices.Sort(warm)
	fmt.Printf("| single file | < 80 MiB | %d MiB |\n", file.Size()>>20)
	fmt.Printf("| setup: the wizard's first page, warm (median of 3) | < 1 s | %d ms |\n", warm[1].Milliseconds())
}
