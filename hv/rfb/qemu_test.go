package rfb

import (
	"bytes"
	"compress/gzip"
	"context"
	"image"
	"image/color"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// blockColour is one of the two colours of testdata/paint.S's block.
func blockColour(n int) color.RGBA {
	if n%2 == 0 {
		return color.RGBA{0x20, 0x40, 0xff, 255}
	}
	return color.RGBA{255, 255, 255, 255}
}

// startQEMU runs the painting guest and returns its screen's socket.
func startQEMU(t *testing.T) string {
	t.Helper()
	hvtest.Require(t, "qemu")
	dir, err := os.MkdirTemp("", "rfb") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(dir, "s")
	cmd := exec.Command("qemu-system-x86_64", "-nodefaults", "-M", "pc", "-accel", "tcg", "-m", "32",
		"-display", "none", "-device", "VGA,addr=02.0",
		"-drive", "if=floppy,format=raw,readonly=on,file=testdata/paint.bin",
		"-audiodev", "none,id=snd", "-vnc", "unix:"+sock+",audiodev=snd")
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("QEMU: %s", said.String())
		}
	})
	return sock
}

func dial(t *testing.T, sock string) net.Conn {
	t.Helper()
	for end := time.Now().Add(hang); ; {
		conn, err := net.Dial("unix", sock)
		if err == nil {
			return conn
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // there is no event for "QEMU listens"
	}
}

// tap keeps what is read through it, up to a bound.
type tap struct {
	net.Conn
	mu   sync.Mutex
	kept bytes.Buffer
}

func (c *tap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	if c.kept.Len() < 16<<20 {
		c.kept.Write(b[:n])
	}
	c.mu.Unlock()
	return n, err
}

func TestQEMU(t *testing.T) {
	conn := &tap{Conn: dial(t, startQEMU(t))}
	updates := make(chan struct{}, 1)
	c, err := Connect(context.Background(), conn, Options{Audio: true, Handler: Handler{
		Updated: func(image.Rectangle) {
			select {
			case updates <- struct{}{}:
			default:
			}
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	done := run(c)
	guard := time.After(hang)
	until := func(what string, ok func(*image.RGBA) bool) {
		t.Helper()
		for {
			c.Painted()
			if ok(c.Frame().CopyTo(nil, image.Rectangle{})) {
				return
			}
			select {
			case <-updates:
			case <-guard:
				t.Fatalf("waiting for %s at %v", what, c.Frame().Size())
			}
		}
	}
	block := func(n int) func(*image.RGBA) bool {
		return func(img *image.RGBA) bool {
			return img.Rect.Max == image.Pt(1280, 800) && img.RGBAAt(10, 10) == blockColour(n)
		}
	}
	until("the guest's first picture", block(0))
	if !c.CanKey() {
		t.Error("QEMU does not take scan codes")
	}
	press := func(xt uint32) { c.Key(xt, true); c.Key(xt, false) }
	for i := 1; i < 4; i++ {
		press(0x1e) // A
		until("the block to change", block(i))
	}
	conn.mu.Lock()
	recorded := bytes.Clone(conn.kept.Bytes()) // before the gradient, which does not compress
	conn.mu.Unlock()
	press(0x21) // F
	until("the whole screen", func(img *image.RGBA) bool { return img.RGBAAt(1279, 799) != color.RGBA{0, 0, 0, 255} })
	press(0x1e)
	until("the block after the whole screen", block(4))

	c.Close()
	if err := <-done; err != nil {
		t.Errorf("after Close: %v", err)
	}
	if *record {
		writeRecording(t, bytes.NewReader(recorded))
	}
}

func writeRecording(t *testing.T, r io.Reader) {
	file, err := os.Create(recordingFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, _ := gzip.NewWriterLevel(file, gzip.BestCompression)
	if _, err := io.Copy(z, r); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}
