package console

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// front is the guest's end of a ring.
type front struct {
	t    *testing.T
	page guestmem.Page
	said chan struct{} // the guest's port was raised
}

func newPair(t *testing.T) (*Console, *front) {
	t.Helper()
	m := guestmem.New(guestmem.Config{})
	if err := m.Add(0, guestmem.Host(1)); err != nil {
		t.Fatal(err)
	}
	page, err := m.Page(0)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{t, page, make(chan struct{}, 1000)}
	return New(page, func() { f.said <- struct{}{} }), f
}

func (f *front) word(off int) uint32 {
	v, err := f.page.Load32(off)
	if err != nil {
		f.t.Error(err)
	}
	return v
}

func (f *front) set(off int, v uint32) {
	if err := f.page.Store32(off, v); err != nil {
		f.t.Error(err)
	}
}

// print writes as much as the ring has room for.
func (f *front) print(p []byte) int {
	prod, cons := f.word(xenabi.XenconsOutProd), f.word(xenabi.XenconsOutCons)
	n := 0
	for n < len(p) && prod-cons < outSize {
		if err := f.page.Write(xenabi.XenconsOut+int(prod%outSize), p[n:n+1]); err != nil {
			f.t.Error(err)
		}
		n++
		prod++
	}
	f.set(xenabi.XenconsOutProd, prod)
	return n
}

// scan reads what is there.
func (f *front) scan() (out []byte) {
	prod, cons := f.word(xenabi.XenconsInProd), f.word(xenabi.XenconsInCons)
	for ; cons != prod; cons++ {
		var b [1]byte
		if err := f.page.Read(xenabi.XenconsIn+int(cons%inSize), b[:]); err != nil {
			f.t.Error(err)
		}
		out = append(out, b[0])
	}
	f.set(xenabi.XenconsInCons, cons)
	return out
}

// pattern differs at any two places of a ring's size.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func TestOutput(t *testing.T) {
	c, f := newPair(t)
	for _, off := range []int{xenabi.XenconsOutProd, xenabi.XenconsOutCons} {
		f.set(off, 0xfffffe00) // the indices wrap soon
	}
	want := pattern(10 * outSize)
	go func() {
		for sent := 0; sent < len(want); {
			n := f.print(want[sent:])
			c.Kick()
			if sent += n; n == 0 {
				<-f.said // there is room again
			}
		}
		c.Close()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; want the %d that the guest wrote", len(got), err, len(want))
	}
}

func TestInput(t *testing.T) {
	c, f := newPair(t)
	for _, off := range []int{xenabi.XenconsInProd, xenabi.XenconsInCons} {
		f.set(off, 0xfffffe00)
	}
	want := pattern(5 * inSize)
	got := make(chan []byte)
	go func() {
		var b []byte
		for len(b) < len(want) {
			<-f.said
			b = append(b, f.scan()...)
			c.Kick()
		}
		got <- b
	}()
	if n, err := c.Write(want); n != len(want) || err != nil {
		t.Errorf("Write: %d, %v", n, err)
	}
	if b := <-got; !bytes.Equal(b, want) {
		t.Errorf("the guest read %d bytes; want the %d that were written", len(b), len(want))
	}
}

func TestPrintAndClose(t *testing.T) {
	c, f := newPair(t)
	c.Print([]byte("early "))
	f.print([]byte("late"))
	c.Close()
	f.print([]byte("too late"))
	c.Print([]byte("too late"))
	if got, err := io.ReadAll(c); err != nil || string(got) != "early late" {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Write after Close: %v", err)
	}
}

func TestPrintIsBounded(t *testing.T) {
	c, _ := newPair(t)
	for range 3 {
		c.Print(make([]byte, maxPrinted/2+1))
	}
	c.Close()
	if got, err := io.ReadAll(c); err != nil || len(got) != maxPrinted {
		t.Errorf("%d bytes were kept, %v; want %d", len(got), err, maxPrinted)
	}
}

// TestHostile has indices that no ring can have: nothing is read, nothing is
// written, and Close ends who waits.
func TestHostile(t *testing.T) {
	c, f := newPair(t)
	f.set(xenabi.XenconsOutProd, outSize+1)
	f.set(xenabi.XenconsInProd, inSize+1)
	wrote := make(chan error)
	go func() {
		_, err := c.Write([]byte("x"))
		wrote <- err
	}()
	read := make(chan error)
	go func() {
		b, err := io.ReadAll(c)
		if len(b) > 0 {
			err = errors.New("there was something to read")
		}
		read <- err
	}()
	c.Kick()
	c.Close()
	if err := <-wrote; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Write: %v", err)
	}
	if err := <-read; err != nil {
		t.Errorf("Read: %v", err)
	}
}
