package blk

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hxen-project/hxen/hv/xenabi"
)

// BenchmarkRead is the way of requests from the front end's event to its answer,
// with images that the host has in memory.
func BenchmarkRead(b *testing.B) {
	for _, c := range []struct{ pages, depth int }{{1, 1}, {1, 32}, {32, 8}} {
		b.Run(fmt.Sprintf("%dKiB/QD%d", c.pages*4, c.depth), func(b *testing.B) {
			r := newRig(b, Config{}, newImage(b, random(16<<20)))
			r.connect(0, false)
			segs := whole(r.pages(c.pages))
			reqs := make([]xenabi.BlkifRequest, c.depth)
			for i := range reqs {
				reqs[i] = xenabi.BlkifRequest{Operation: xenabi.BLKIF_OP_READ, NrSegments: uint8(min(c.pages, 11))}
				copy(reqs[i].Seg[:], segs)
			}
			g := rand.New(rand.NewPCG(1, 1))
			b.SetBytes(int64(min(c.pages, 11)) * 4096)
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; {
				n := min(c.depth, b.N-done)
				for i := range reqs[:n] {
					reqs[i].Sector = g.Uint64N(3000) * 8
					r.ring.Put(xenabi.Bytes(&reqs[i]))
				}
				r.push()
				for range n {
					if _, _, status := r.answer(); status != 0 {
						b.Fatal(status)
					}
				}
				done += n
			}
		})
	}
}
