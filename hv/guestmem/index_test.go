package guestmem

import (
	"bytes"
	"testing"
)

func FuzzIndex(f *testing.F) {
	f.Add([]byte("abcabcabd"), []byte("abcabd"))
	f.Add([]byte("aaaaaaab"), []byte("aab"))
	f.Add([]byte("PQRWVASARAQAPe"), []byte("APe"))
	f.Add([]byte("x"), []byte(""))
	f.Add(bytes.Repeat([]byte("ab"), 200), append(bytes.Repeat([]byte("ab"), 140), 'a'))
	f.Fuzz(func(t *testing.T, mem, pattern []byte) {
		if got, want := index(mem, pattern), bytes.Index(mem, pattern); got != want {
			t.Errorf("index(%q, %q) = %d, want %d", mem, pattern, got, want)
		}
	})
}

// BenchmarkIndex looks for what is not there in 16 MiB of what looks like code.
func BenchmarkIndex(b *testing.B) {
	mem := make([]byte, 16<<20)
	state := uint32(1)
	for i := range mem {
		state = state*1664525 + 1013904223
		mem[i] = byte(state>>24) & byte(state>>16) // small values are frequent
	}
	pattern := []byte{0x50, 0x51, 0x52, 0x57, 0x56, 0x41, 0x53, 0x41, 0x52, 0x41, 0x51, 0x41, 0x50}
	for _, f := range []struct {
		name string
		f    func(mem, pattern []byte) int
	}{{"rarest byte", index}, {"bytes.Index", bytes.Index}} {
		b.Run(f.name, func(b *testing.B) {
			b.SetBytes(int64(len(mem)))
			for b.Loop() {
				if f.f(mem, pattern) >= 0 {
					b.Fatal("found")
				}
			}
		})
	}
}
