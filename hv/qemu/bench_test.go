package qemu

import (
	"bufio"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv"
)

// BenchmarkStart compares the way from the request to the guest's first words
// with the bare command. The difference is what the engine costs.
func BenchmarkStart(b *testing.B) {
	ready := func(b *testing.B, r *bufio.Reader) {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				b.Fatal(err)
			}
			if strings.Contains(line, "READY") {
				return
			}
		}
	}
	b.Run("engine", func(b *testing.B) {
		l := newLab(b)
		for b.Loop() {
			m, err := New().Launch(context.Background(), l.spec(b), l.host)
			if err != nil {
				b.Fatal(err)
			}
			ready(b, bufio.NewReader(m.(hv.Consoler).Console()))
			b.StopTimer()
			_ = m.Close()
			b.StartTimer()
		}
	})
	b.Run("bare", func(b *testing.B) {
		l := newLab(b)
		s := l.spec(b)
		n := must(namesFor(s, l.host, tryUnix))
		c, err := probe(context.Background(), l.host, n)
		if err != nil {
			b.Fatal(err)
		}
		f, err := prepare(s, l.host, n)
		if err != nil {
			b.Fatal(err)
		}
		f.Accel, f.Machine, f.Sandbox, f.VGA = "tcg", c.Newest, c.Sandbox, "virtio-vga"
		args, err := Args(s, f)
		if err != nil {
			b.Fatal(err)
		}
		args = slices.DeleteFunc(args, func(a string) bool { return a == "-S" })
		for b.Loop() {
			p, err := openPlugs(&n)
			if err != nil {
				b.Fatal(err)
			}
			ch, err := startChild(l.host, hv.Command{Path: l.host.QEMU.Path, Args: args, Dir: l.host.Dir})
			if err != nil {
				b.Fatal(err)
			}
			conn, err := p.serial.Accept()
			if err != nil {
				b.Fatal(err)
			}
			ready(b, bufio.NewReader(conn))
			b.StopTimer()
			ch.kill()
			p.close()
			b.StartTimer()
		}
	})
}
