package rfb

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"image"
	"io"
	"os"
	"testing"
)

// FuzzServer feeds whole server streams, handshake and all.
func FuzzServer(f *testing.F) {
	recorded := recording(f)
	f.Add(recorded[:min(len(recorded), 4096)])
	hello := appendParts([]byte(version38), byte(1), byte(1), u32(0), u16(16), u16(8), make([]byte, 16), u32(0))
	seed := func(parts ...any) { f.Add(appendParts(bytes.Clone(hello), parts...)) }
	update := func(rects ...[]any) {
		parts := []any{msgUpdate, byte(0), u16(len(rects))}
		for _, r := range rects {
			parts = append(parts, r...)
		}
		seed(parts...)
	}
	update(append(rect(2, 2, 3, 3, encRaw), solid(9, 1, 2, 3)), append(rect(4, 4, 3, 3, encCopyRect), u16(2), u16(2)))
	update(rect(0, 0, 32, 20, encDesktopSize), extSize(0, 0, 9, 9), rect(1, 0, 0, 0, encPointerMode))
	update(append(rect(0, 0, 2, 2, encCursor), solid(4, 1, 1, 1), []byte{1, 2}), append(rect(0, 0, 1, 1, encAlphaCursor), encRaw, u32(5)))
	update(append(rect(0, 0, 0, 0, encLED), byte(1)), rect(0, 0, 0, 0, encAudio), rect(0, 0, 0, 0, encExtKey))
	seed(msgQEMU, qemuAudio, u16(audioData), u32(4), u32(0), msgBell)
	text := deflateText("hello")
	seed(msgServerCutText, []byte{0, 0, 0}, int32(-(4 + len(text))), u32(clipProvide|clipText), text)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newClient(&script{bytes.NewReader(b)}, Options{Audio: true})
		c.maxArea = 1 << 16
		if c.handshake() != nil {
			return
		}
		for c.message() == nil {
			img := c.Frame().CopyTo(nil, image.Rectangle{})
			if img.Stride != 4*img.Rect.Dx() {
				t.Fatal("a picture with gaps")
			}
			c.out.buf = c.out.buf[:0]
		}
		for i := 3; i < len(c.frame.pix); i += 4 {
			if c.frame.pix[i] != 255 {
				t.Fatalf("pixel %d is transparent", i/4)
			}
		}
	})
}

func FuzzInflate(f *testing.F) {
	f.Add(deflateText("hello"))
	f.Add(deflateText(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := inflateText(b); err == nil && len(s) > 3*maxClipText {
			t.Fatalf("%d bytes", len(s))
		}
	})
}

var record = flag.Bool("record", false, "record testdata/qemu.rfb.gz anew from the QEMU that is installed")

const recordingFile = "testdata/qemu.rfb.gz"

// recording is what a real QEMU said while its guest painted: see TestQEMU.
func recording(t testing.TB) []byte {
	t.Helper()
	file, err := os.Open(recordingFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The recording decodes to the picture that the guest had painted.
func TestRecordingOfQEMU(t *testing.T) {
	c, err := Connect(context.Background(), &script{bytes.NewReader(recording(t))}, Options{Audio: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(); err == nil {
		t.Error("the recording has no end")
	}
	img := c.Frame().CopyTo(nil, image.Rectangle{})
	if got := img.Rect.Max; got.X != 1280 || got.Y != 800 {
		t.Fatalf("the picture is %v", got)
	}
	if got := img.RGBAAt(10, 10); got != blockColour(0) && got != blockColour(1) {
		t.Errorf("the block is %v", got)
	}
	if !c.CanKey() || !c.features.audio || !c.resize.able || !c.clip.extended {
		t.Errorf("features %+v, resize %+v, clipboard %+v", c.features, c.resize, c.clip)
	}
}

func BenchmarkFullScreen(b *testing.B) {
	const w, h = 1280, 800
	msg := appendParts(nil, msgUpdate, byte(0), u16(1), u16(0), u16(0), u16(w), u16(h), encRaw)
	msg = append(msg, bytes.Repeat([]byte{1, 2, 3, 0}, w*h)...)
	loop := &repeat{msg: msg}
	c := newClient(loop, Options{})
	c.frame.resize(w, h)
	shown := make([]byte, w*h*bytesPerPixel)
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		if err := c.message(); err != nil {
			b.Fatal(err)
		}
		c.out.buf = c.out.buf[:0]
		c.Painted()
		c.frame.Look(func(bgra []byte, _ image.Point) { copy(shown, bgra) })
	}
}

// repeat says the same message for ever.
type repeat struct {
	msg []byte
	at  int
}

func (r *repeat) Read(b []byte) (int, error) {
	n := copy(b, r.msg[r.at:])
	r.at = (r.at + n) % len(r.msg)
	return n, nil
}
func (*repeat) Write(b []byte) (int, error) { return len(b), nil }
func (*repeat) Close() error                { return nil }

func BenchmarkSwizzle(b *testing.B) {
	src, dst := make([]byte, 1280*800*4), make([]byte, 1280*800*4)
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		swizzle(dst, src)
	}
}
