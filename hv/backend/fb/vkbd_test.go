package fb

import (
	"encoding/binary"
	"image"
	"strconv"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/rfb"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// keyboard is a front end of vkbd.
type keyboard struct {
	*hvtest.Front
	page uint64
	port uint32
	cons uint32
}

func newKeyboard(f *hvtest.Front, absolute bool) *keyboard {
	f.Helper()
	k := &keyboard{Front: f, page: f.Alloc(), port: f.Port()}
	nodes := map[string]string{"page-ref": strconv.FormatUint(k.page, 10), "event-channel": strconv.Itoa(int(k.port))}
	if absolute {
		nodes["request-abs-pointer"] = "1"
	}
	f.Publish(vkbdFront, xenabi.XenbusStateInitialised, nodes)
	f.Await(vkbdBack+"/state", "4")
	return k
}

func (k *keyboard) word(off uint64) uint32 {
	var b [4]byte
	k.Read(k.page<<12+off, b[:])
	return binary.LittleEndian.Uint32(b[:])
}

// next takes one event, in words.
func (k *keyboard) next() string {
	k.Helper()
	k.Until("input", func() bool { return k.word(xenabi.XenfbInProd) != k.cons })
	var b [xenabi.XENKBD_IN_EVENT_SIZE]byte
	k.Read(k.page<<12+uint64(xenabi.XENKBD_IN_RING_OFFS+k.cons%xenabi.XENKBD_IN_RING_LEN*xenabi.XENKBD_IN_EVENT_SIZE), b[:])
	k.cons++
	k.Write(k.page<<12+xenabi.XenfbInCons, binary.LittleEndian.AppendUint32(nil, k.cons))
	k.Send(k.port)
	n := func(at int) string { return strconv.Itoa(int(int32(binary.LittleEndian.Uint32(b[at:])))) }
	switch b[0] {
	case xenabi.XENKBD_TYPE_KEY:
		return []string{"up ", "down "}[b[1]] + n(4)
	case xenabi.XENKBD_TYPE_POS:
		return "at " + n(4) + " " + n(8) + " wheel " + n(12)
	case xenabi.XENKBD_TYPE_MOTION:
		return "by " + n(4) + " " + n(8) + " wheel " + n(12)
	}
	return "type " + strconv.Itoa(int(b[0]))
}

func (k *keyboard) want(all ...string) {
	k.Helper()
	for _, want := range all {
		if got := k.next(); got != want {
			k.Errorf("the guest gets %q, want %q", got, want)
		}
	}
}

func TestKeysAndPointer(t *testing.T) {
	f, s, drivers := setUp(t)
	if err := s.SendKeys(t.Context(), []uint16{30}); err == nil || !strings.Contains(err.Error(), "xen-kbdfront") {
		t.Errorf("keys into nothing: %v", err)
	}
	s.input.key(30, true) // lost: there is nobody
	k := newKeyboard(f, true)
	if got := <-drivers; !got.Keyboard {
		t.Errorf("drivers %+v", got)
	}
	if got := f.ReadNode(vkbdBack + "/width"); got != strconv.Itoa(axis) {
		t.Errorf("positions end at %q", got)
	}
	v := view(t, s)
	for range 30 { // the ring goes round
		v.Key(0x1e, true)
		v.Key(0x1e, false)
		k.want("down 30", "up 30")
	}
	v.Pointer(image.Pt(0, 0), rfb.Left)
	k.want("down " + strconv.Itoa(btnLeft))
	v.Pointer(image.Pt(Width-1, Height-1), 0)
	k.want("at 32767 32767 wheel 0", "up "+strconv.Itoa(btnLeft))
	v.Wheel(0, 1)
	k.want("at 32767 32767 wheel -1")
	v.Wheel(0, -1)
	k.want("at 32767 32767 wheel 1")
	if err := s.SendKeys(t.Context(), []uint16{29, 56, 111}); err != nil {
		t.Fatal(err)
	}
	k.want("down 29", "down 56", "down 111", "up 111", "up 56", "up 29")
}

func TestRelativePointer(t *testing.T) {
	f, s, _ := setUp(t)
	k := newKeyboard(f, false)
	s.input.move(image.Pt(3, -4), rfb.Right)
	k.want("by 3 -4 wheel 0", "down "+strconv.Itoa(btnRight))
	s.input.move(image.Point{}, 0)
	k.want("up " + strconv.Itoa(btnRight))
}

// A guest that takes nothing gets what there was room for, and no key stays down.
func TestSlowGuest(t *testing.T) {
	f, s, _ := setUp(t)
	k := newKeyboard(f, true)
	for i := range 3000 {
		s.input.point(image.Pt(i, i), image.Pt(4000, 4000), 0)
		s.input.key(uint16(1+i%200), true)
		s.input.key(uint16(1+i%200), false)
	}
	const last = 250
	down := map[string]bool{}
	n := 0
	for got := ""; got != "down 250"; n++ {
		f.Send(k.port)
		s.input.key(last, true) // has no place at first
		switch got = k.next(); {
		case strings.HasPrefix(got, "down "):
			down[got[5:]] = true
		case strings.HasPrefix(got, "up "):
			delete(down, got[3:])
		}
	}
	delete(down, "250")
	if len(down) > 0 {
		t.Errorf("keys %v stay down", down)
	}
	if n < xenabi.XENKBD_IN_RING_LEN || n > 2*maxQueue+xenabi.XENKBD_IN_RING_LEN {
		t.Errorf("%d events", n)
	}
}

// A key that is held repeats itself as long as the guest takes what it gets.
func TestKeyRepeats(t *testing.T) {
	f, s, _ := setUp(t)
	k := newKeyboard(f, true)
	s.input.key(14, true)
	k.want("down 14", "down 14", "down 14", "down 14")
	s.input.key(14, false)
	for {
		if got := k.next(); got == "up 14" {
			break
		} else if got != "down 14" {
			t.Errorf("%q", got)
		}
	}
	if n := k.word(xenabi.XenfbInProd) - k.cons; n > 0 {
		t.Errorf("%d events after the key was let go", n)
	}
}

func TestHostileKeyboards(t *testing.T) {
	f, s, _ := setUp(t)
	k := newKeyboard(f, true)
	k.Write(k.page<<12+xenabi.XenfbInCons, []byte{52, 0, 0, 0})
	f.Send(k.port)
	f.Await(vkbdBack+"/state", "5")
	s.input.key(30, true) // goes nowhere
	f.Publish(vkbdFront, xenabi.XenbusStateInitialising, nil)
	f.Await(vkbdBack+"/state", "2")
	k = newKeyboard(f, true)
	s.input.key(30, true)
	k.want("down 30")
	s.input.key(30, false)
	f.Publish(vkbdFront, xenabi.XenbusStateClosed, nil)
	f.Await(vkbdBack+"/state", "6")
	for _, page := range []string{"x", "", "-1", "99999999999999999999", "1099511627776"} {
		f.Publish(vkbdFront, xenabi.XenbusStateInitialising, nil)
		f.Await(vkbdBack+"/state", "2")
		f.Publish(vkbdFront, xenabi.XenbusStateInitialised, map[string]string{"page-ref": page, "event-channel": strconv.Itoa(int(f.Port()))})
		f.Await(vkbdBack+"/state", "5")
	}
}
