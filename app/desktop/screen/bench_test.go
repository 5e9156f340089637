package screen

import (
	"encoding/binary"
	"fmt"
	"image"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkViewers puts our window and TigerVNC's viewer side by side: the same
// guest, X server and relay, one after the other. It prints one table.
//
//	go test -run '^$' -bench Viewers -benchtime 1x ./app/desktop/screen
func BenchmarkViewers(b *testing.B) {
	if _, err := exec.LookPath("xtigervncviewer"); err != nil {
		b.Skip("needs xtigervncviewer (package tigervnc-viewer)")
	}
	for b.Loop() {
		r := newReal(b, painter(b)...)
		time.Sleep(3 * time.Second) // the guest boots
		var rows []figures
		for _, v := range []viewer{
			{"HXEN", nil},
			{"TigerVNC", []string{"-PreferredEncoding", "Tight"}},
			{"TigerVNC Raw", []string{"-AutoSelect=0", "-PreferredEncoding", "Raw"}},
		} {
			rows = append(rows, r.measure(v))
		}
		fmt.Print(table(rows))
		b.ReportMetric(rows[0].full.fps, "fps")
		b.ReportMetric(rows[0].full.cpu, "ms/update")
		b.ReportMetric(ms(percentile(rows[0].later, 50)), "ms-p50")
	}
}

type viewer struct {
	name string
	args []string // nil: our window
}

// workload is what a viewer did with one workload.
type workload struct {
	fps  float64
	cpu  float64 // ms of the viewer per update
	xcpu float64 // ms of the X server per update
}

type figures struct {
	name             string
	full, small      workload
	atOnce, later    []time.Duration // from key to pixel; the guest answers at once, after 10 ms
	still, minimised float64         // CPU, percent of one core
}

const benchFor = 6 * time.Second

// measure runs one viewer through everything.
func (r *real) measure(v viewer) figures {
	f := figures{name: v.name}
	relay := newRelay(r, v.name)
	pid := r.show(v, relay.path)
	at := r.block()
	defer r.quit(v, pid)

	f.full = r.workload("f", pid, relay)
	f.small = r.workload("s", pid, relay)
	f.atOnce = r.latency("a", at)
	f.later = r.latency("d", at)
	time.Sleep(time.Second)
	f.still = r.percent(pid)

	id := r.run("xdotool", "search", "--onlyvisible", "--name", r.title(v))
	r.sendkey("s")
	r.run("xdotool", "windowminimize", "--sync", id)
	time.Sleep(time.Second)
	f.minimised = r.percent(pid)
	r.sendkey("a")
	return f
}

func (r *real) title(v viewer) string {
	if v.args == nil {
		return "screentest"
	}
	return "TigerVNC"
}

// show opens the viewer on the relay and returns its process.
func (r *real) show(v viewer, sock string) int {
	if v.args == nil {
		direct := r.sock
		r.sock = sock
		r.open("1")
		r.sock = direct
		r.run("xdotool", "mousemove", "--sync", "900", "600", "click", "1")
		return r.window.Process.Pid
	}
	args := append([]string{sock, "-SecurityTypes", "None", "-RemoteResize=0", "-Shared"}, v.args...)
	for tries := 3; ; tries-- { // it was once seen to connect and show no window
		cmd := r.start("xtigervncviewer", args...)
		err := r.display.ActivateWithin(r, r.title(v), hang/3)
		if err == nil {
			r.run("xdotool", "mousemove", "--sync", "900", "600", "click", "1")
			return cmd.Process.Pid
		}
		cmd.Process.Kill()
		if tries == 1 {
			r.Fatal(err)
		}
		r.Log(err)
	}
}

func (r *real) quit(v viewer, pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		p.Kill()
	}
	r.eventually("the viewer's end", func() bool {
		cmd := exec.Command("xdotool", "search", "--name", r.title(v))
		cmd.Env = append(os.Environ(), "DISPLAY="+r.display.Name)
		return cmd.Run() != nil
	})
}

// sendkey presses a key in the guest by QEMU's monitor, past all viewers.
func (r *real) sendkey(key string) {
	c, err := net.Dial("unix", r.monitor)
	if err != nil {
		r.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "sendkey %s\n", key)
	c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	io.Copy(io.Discard, c)
}

func (r *real) workload(key string, pid int, relay *relay) workload {
	r.sendkey(key)
	time.Sleep(time.Second)
	n, cpu, x, start := relay.updates.Load(), r.cpu(pid), r.cpu(r.display.Server), time.Now()
	time.Sleep(benchFor)
	updates := float64(relay.updates.Load() - n)
	w := workload{
		fps:  updates / time.Since(start).Seconds(),
		cpu:  ms(r.cpu(pid)-cpu) / updates,
		xcpu: ms(r.cpu(r.display.Server)-x) / updates,
	}
	r.sendkey("a")
	time.Sleep(time.Second)
	return w
}

func (r *real) percent(pid int) float64 {
	cpu := r.cpu(pid)
	time.Sleep(benchFor)
	return 100 * float64(r.cpu(pid)-cpu) / float64(benchFor)
}

// latency presses a key as a user would and waits for the glass to change.
func (r *real) latency(key string, at image.Point) []time.Duration {
	cmd := exec.Command("xdotool", "-")
	cmd.Env = append(os.Environ(), "DISPLAY="+r.display.Name)
	in, err := cmd.StdinPipe()
	if err != nil {
		r.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	defer func() { in.Close(); cmd.Wait() }()
	glass := r.display.Glass(r)
	var all []time.Duration
	for i := range 45 {
		time.Sleep(time.Duration(300+i*37%200) * time.Millisecond)
		before, start := glass.At(at), time.Now()
		fmt.Fprintln(in, "keydown", key)
		for glass.At(at) == before {
			if time.Since(start) > hang {
				r.Fatal("the glass never changes")
			}
			time.Sleep(200 * time.Microsecond)
		}
		if i >= 5 { // the first ones warm up
			all = append(all, time.Since(start))
		}
		// People hold a key for about a tenth of a second; the release makes
		// QEMU look at the screen again, so a quick one would help all viewers.
		time.Sleep(time.Until(start.Add(100 * time.Millisecond)))
		fmt.Fprintln(in, "keyup", key)
	}
	slices.Sort(all)
	return all
}

// block finds where the guest's block is on the glass.
func (r *real) block() image.Point {
	glass := r.display.Glass(r)
	var at image.Point
	r.eventually("the block on the glass", func() bool {
		for y := 10; y < 400; y += 20 {
			for x := 10; x < 400; x += 20 {
				if p := glass.At(image.Pt(x, y)) & 0xffffff; p == 0x2040ff {
					at = image.Pt(x, y)
					return true
				}
			}
		}
		r.sendkey("a") // perhaps it is white
		time.Sleep(300 * time.Millisecond)
		return false
	})
	return at
}

// relay stands between viewer and QEMU and counts the viewer's update requests,
// one for each update it has taken.
type relay struct {
	path    string
	updates atomic.Int64
}

func newRelay(r *real, name string) *relay {
	relay := &relay{path: filepath.Join(r.dir, strings.ReplaceAll(name, " ", "")+".sock")}
	l, err := net.Listen("unix", relay.path)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { l.Close() })
	server := r.sock // show changes it
	go func() {
		for {
			viewer, err := l.Accept()
			if err != nil {
				return
			}
			qemu, err := net.Dial("unix", server)
			if err != nil {
				viewer.Close()
				return
			}
			go func() { io.Copy(viewer, qemu); viewer.Close() }()
			go func() { relay.count(viewer, qemu); qemu.Close() }()
		}
	}()
	return relay
}

// count copies the viewer's messages to QEMU one by one.
func (relay *relay) count(viewer io.Reader, qemu io.Writer) {
	r := &copier{io.TeeReader(viewer, qemu)}
	r.take(12 + 1 + 1) // version, security type, shared
	for {
		switch kind := r.take(1); {
		case kind == nil:
			return
		case kind[0] == 0:
			r.take(19)
		case kind[0] == 2:
			r.take(4 * int(binary.BigEndian.Uint16(r.take(3)[1:])))
		case kind[0] == 3:
			r.take(9)
			relay.updates.Add(1)
		case kind[0] == 4:
			r.take(7)
		case kind[0] == 5:
			r.take(5)
		case kind[0] == 6:
			n := int32(binary.BigEndian.Uint32(r.take(7)[3:]))
			r.take(int(max(n, -n)))
		case kind[0] == 251:
			r.take(16 * int(r.take(7)[5]))
		case kind[0] == 255:
			if sub := r.take(1); sub == nil || sub[0] == 0 {
				r.take(10)
			} else if op := r.take(2); op[1] == 2 {
				r.take(6)
			}
		default:
			io.Copy(io.Discard, r) // unknown: go on without counting
			return
		}
	}
}

type copier struct{ io.Reader }

func (c *copier) take(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil && n == 1 {
		return nil
	}
	return b // zeros after the end, which the next kind tells
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

func table(rows []figures) string {
	var s strings.Builder
	fmt.Fprintf(&s, "\nGuest's screen 1280x800, software GL; CPU is of the viewer (+ of the X server)\n")
	fmt.Fprintf(&s, "| viewer | full screen | CPU per update | 64x64 | CPU per update | key to pixel p50 / p95, guest answers at once | after 10 ms | CPU, still | CPU, minimised |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, f := range rows {
		fmt.Fprintf(&s, "| %s | %.1f/s | %.1f+%.1f ms | %.1f/s | %.1f+%.1f ms | %.0f / %.0f ms | %.0f / %.0f ms | %.1f %% | %.1f %% |\n",
			f.name, f.full.fps, f.full.cpu, f.full.xcpu, f.small.fps, f.small.cpu, f.small.xcpu,
			ms(percentile(f.atOnce, 50)), ms(percentile(f.atOnce, 95)),
			ms(percentile(f.later, 50)), ms(percentile(f.later, 95)), f.still, f.minimised)
	}
	return s.String()
}
