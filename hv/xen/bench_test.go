package xen

import (
	"testing"

	"github.com/hxen-project/hxen/hv/xenabi"
)

// BenchmarkSend is what a guest pays for kicking a back end, beside the exit.
func BenchmarkSend(b *testing.B) {
	l := newLab(b, 1, true)
	l.mapShared()
	port := l.alloc()
	if _, err := l.Connect(port, nil, func() {}); err != nil {
		b.Fatal(err)
	}
	_ = l.mem.Write(buf, xenabi.Bytes(&xenabi.EvtchnPort{Port: port}))
	c := &Call{}
	b.ReportAllocs()
	for b.Loop() {
		*c = Call{Nr: xenabi.HYPERVISOR_event_channel_op, Args: [6]uint64{xenabi.EVTCHNOP_send, buf}, Long: true, Paging: noPaging, after: c.after}
		l.Hypercall(c)
	}
}
