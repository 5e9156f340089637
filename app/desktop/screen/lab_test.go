package screen

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestLabScreen has our window and TigerVNC's viewer, one after the other, look at a
// Debian guest on Xen's vfb in the lab: its text console and a program on its frame
// buffer, with typing, the pointer, and a change of size.
func TestLabScreen(t *testing.T) {
	if os.Getenv("HXEN_LONG") == "" {
		t.Skip("make test-e2e runs it; hv/hvtest's TestLab has what needs no viewer of others")
	}
	hvtest.Require(t, "display")
	hvtest.RequireLab(t)
	if _, err := exec.LookPath("xtigervncviewer"); err != nil {
		hvtest.RequireThat(t, "display", "xtigervncviewer is not installed (tigervnc-viewer)")
	}
	dir, err := os.MkdirTemp("", "scr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &real{TB: t, dir: dir, sock: filepath.Join(dir, "vnc"), lines: make(chan string, 100), events: make(chan string, 1000)}
	r.display = hvtest.NewDisplay(t, "1440x960")
	ended := r.serveLab(t)
	for _, v := range []viewer{{name: "window"}, {name: "TigerVNC", args: []string{"-geometry", "1300x860"}}} {
		pid := r.show(v, r.sock)
		r.lookAtGuest(v.name)
		if v.args != nil {
			r.types("poweroff -f")
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		r.quit(v, pid)
	}
}

// serveLab starts the lab with its guest, and has r.sock lead to the guest's screen. It
// returns when there is one, and tells when the lab has ended.
func (r *real) serveLab(t *testing.T) (ended <-chan error) {
	const pkg = "linux-image-amd64"
	initrd, more := filepath.Join(r.dir, "initrd"), t.TempDir()
	hvtest.Mkdirs(t, more, "bin")
	r.run("gcc", "-O1", "-static", "-s", "-o", filepath.Join(more, "bin", "paint"), "../../../hv/hvtest/testdata/paint.c")
	worker := hvtest.TestBinary(t, "app/cmd/hxen-worker")
	// Linux unpacks one archive after the other.
	var archives bytes.Buffer
	for _, name := range []string{hvtest.GuestInitrd(t, pkg, "evdev"), hvtest.PackInitrd(t, more)} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		archives.Write(b)
	}
	if err := os.WriteFile(initrd, archives.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	done := make(chan error, 1)
	go func() {
		console, err := hvtest.Lab{Kernel: "linux-image-cloud-amd64", Port: port, Timeout: 20 * time.Minute,
			Files: map[string]string{"kernels/amd64/vmlinuz": hvtest.KernelFile(t, pkg), "kernels/amd64/initrd": initrd, "test": worker},
			// The kernel is unpacked beside it.
			Script: "export HXEN_REQUIRE=accel HXEN_LAB=/tmp/lab; mkdir /tmp/lab; cp -r /lab/kernels /tmp/lab\n/lab/test -test.v -test.run '^TestViewed$' || echo '@@ failed'\n",
		}.Run(t)
		if err == nil && strings.Contains(console, "@@ failed") {
			err = errors.New("the guest's test failed")
		}
		if err != nil {
			err = fmt.Errorf("%w; the lab said:\n%s", err, console)
		}
		done <- err
	}()
	address := fmt.Sprintf("127.0.0.1:%d", port)
	for hello := make([]byte, 12); ; time.Sleep(time.Second) {
		select {
		case err := <-done:
			t.Fatalf("the guest's screen never came: %v", err)
		default:
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = io.ReadFull(c, hello)
		c.Close()
		if err == nil {
			break
		}
	}
	passOn(t, r.sock, address)
	return done
}

// passOn has the Unix socket at path lead to a TCP address.
func passOn(t *testing.T, path, address string) {
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", address)
			if err != nil {
				c.Close()
				continue
			}
			hvtest.Join(c, s)
		}
	}()
}

// types types a line at the guest's shell.
func (r *real) types(line string) {
	r.run("xdotool", "type", "--delay", "50", line)
	r.run("xdotool", "key", "Return")
}

// lookAtGuest works on the guest's screen, and leaves it as it was.
func (r *real) lookAtGuest(name string) {
	r.Helper()
	ground, magenta, green := color.RGBA{0x28, 0x3c, 0x50, 255}, color.RGBA{0xfa, 0x0a, 0xf0, 255}, color.RGBA{0x0a, 0xe6, 0x1e, 255}
	r.types("ls /; cat /sys/hypervisor/type; paint")
	var square image.Rectangle
	r.eventually("the program's square", func() bool { square = r.find(magenta); return square.Dx() == squareSide && full(square) })
	r.keep("guest-" + name + "-program")
	to := square.Min.Add(image.Pt(232, 182)) // the guest's 600+232, 300+182
	r.run("xdotool", "mousemove", "--sync", strconv.Itoa(to.X), strconv.Itoa(to.Y), "click", "1")
	r.eventually("the square at the pointer", func() bool {
		at := r.find(green)
		off := at.Min.Add(at.Max).Div(2).Sub(to)
		return at.Dx() == squareSide && full(at) && max(off.X, -off.X, off.Y, -off.Y) <= 1
	})
	r.keep("guest-" + name + "-click")
	r.run("xdotool", "key", "r")
	r.eventually("a smaller screen", func() bool { return full(r.find(magenta)) && r.find(green).Empty() })
	r.keep("guest-" + name + "-small")
	r.run("xdotool", "key", "q", "ctrl+u") // the shell has heard r and q, too
	r.eventually("the text console", func() bool { return r.find(ground).Empty() && !r.find(color.RGBA{0xaa, 0xaa, 0xaa, 255}).Empty() })
	r.keep("guest-" + name + "-console")
}
