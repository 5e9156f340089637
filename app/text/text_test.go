package text

import "testing"

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 512: "512 B", 1 << 20: "1 MiB", 3 << 29: "1.5 GiB", 1 << 50: "1024 TiB"} {
		if got := Size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
