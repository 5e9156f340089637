package net

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/xenabi"
)

const (
	frontDir = "/local/domain/1/device/vif/0"
	backDir  = "/local/domain/0/backend/vif/1/0"
	nicUUID  = "01020304-0000-4000-8000-00000000000a"
)

// bench is a guest with a card, and the network at its other end.
type bench struct {
	*hvtest.Front
	card   *Card
	device *backend.Device
	socket net.Listener
	wire   net.Conn // the network's end
	ours   net.Conn // the card's end

	tx, rx         *hvtest.FrontRing
	txPort, rxPort uint32
	pages          map[uint16]uint64 // of the receive ring, by id
	nextID         uint16
}

func setUp(t testing.TB) *bench {
	t.Helper()
	b := &bench{Front: hvtest.NewFront(t), pages: map[uint16]uint64{}}
	b.socket = hvtest.Listen(t)
	addr := b.socket.Addr()
	b.card = New(Config{
		NIC: hv.NIC{UUID: nicUUID, MAC: "52:54:00:00:00:01"}, Log: b.Log,
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, addr.Network(), addr.String())
		},
	})
	t.Cleanup(func() { b.card.Close() })
	var err error
	if b.device, err = b.card.Attach(&backend.Guest{Domid: 1, Domain: b.Domain, Store: b.Client, Log: b.Log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.device.Close)
	b.accept()
	return b
}

// accept takes the card's next connection.
func (b *bench) accept() {
	b.Helper()
	var err error
	if b.wire, err = b.socket.Accept(); err != nil {
		b.Fatal(err)
	}
	wire := b.wire
	b.Cleanup(func() { wire.Close() })
	wire.SetDeadline(time.Now().Add(hvtest.Guard))
	// What is sent before the card knows of its connection is dropped.
	for deadline := time.Now().Add(hvtest.Guard); ; time.Sleep(time.Millisecond) {
		b.card.mu.Lock()
		now := b.card.conn
		b.card.mu.Unlock()
		if now != nil && now != b.ours {
			b.ours = now
			return
		}
		if time.Now().After(deadline) {
			b.Fatal("the card does not take its connection")
		}
	}
}

// connect has the front end publish new rings.
func (b *bench) connect(split bool, nodes map[string]string) {
	b.Helper()
	b.tx, b.rx = b.NewRing(1, slotSize), b.NewRing(1, rxEntry)
	b.txPort, b.pages = b.Port(), map[uint16]uint64{}
	all := map[string]string{
		"tx-ring-ref": strconv.Itoa(int(b.tx.Refs[0])), "rx-ring-ref": strconv.Itoa(int(b.rx.Refs[0])),
		"request-rx-copy": "1", "feature-sg": "1",
	}
	if split {
		b.rxPort = b.Port()
		all["event-channel-tx"], all["event-channel-rx"] = strconv.Itoa(int(b.txPort)), strconv.Itoa(int(b.rxPort))
	} else {
		b.rxPort = b.txPort
		all["event-channel"] = strconv.Itoa(int(b.txPort))
	}
	for k, v := range nodes {
		all[k] = v
	}
	b.Publish(frontDir, xenabi.XenbusStateConnected, all)
}

// transmit sends a packet in pieces.
func (b *bench) transmit(flags uint16, extra []slot, pieces ...[]byte) {
	b.Helper()
	size := 0
	for _, p := range pieces {
		size += len(p)
	}
	for i, p := range pieces {
		gfn := b.Alloc()
		b.Write(gfn<<12+8, p)
		f, n := flags, len(p)
		if i == 0 {
			n = size
		}
		if i < len(pieces)-1 {
			f |= xenabi.NETTXF_more_data
		}
		if i == 0 && len(extra) > 0 {
			f |= xenabi.NETTXF_extra_info
		}
		s := request(b.Grant(gfn, true), 8, f, uint16(100+i), uint16(n))
		b.tx.Put(s[:])
		if i == 0 {
			for _, e := range extra {
				b.tx.Put(e[:])
			}
		}
	}
	if b.tx.Push() {
		b.Send(b.txPort)
	}
}

// answers takes n answers of the transmit ring.
func (b *bench) answers(n int) (status []int16) {
	b.Helper()
	var a [slotSize]byte
	for range n {
		b.Until("an answer", func() bool { return b.tx.Take(a[:]) })
		status = append(status, int16(binary.LittleEndian.Uint16(a[2:])))
	}
	return status
}

// frame reads a frame off the wire.
func (b *bench) frame() []byte {
	b.Helper()
	var head [frameHeader]byte
	if _, err := io.ReadFull(b.wire, head[:]); err != nil {
		b.Fatal(err)
	}
	f := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(b.wire, f); err != nil {
		b.Fatal(err)
	}
	return f
}

// give puts n pages into the receive ring.
func (b *bench) give(n int) {
	b.Helper()
	for range n {
		gfn := b.Alloc()
		b.pages[b.nextID] = gfn
		var r [rxEntry]byte
		binary.LittleEndian.PutUint16(r[0:], b.nextID)
		binary.LittleEndian.PutUint32(r[4:], b.Grant(gfn, false))
		b.rx.Put(r[:])
		b.nextID++
	}
	if b.rx.Push() {
		b.Send(b.rxPort)
	}
}

// receive takes one frame out of the receive ring.
func (b *bench) receive() []byte {
	b.Helper()
	var frame []byte
	for {
		var r [rxEntry]byte
		b.Until("a frame", func() bool { return b.rx.Take(r[:]) })
		id, flags, status := binary.LittleEndian.Uint16(r[0:]), binary.LittleEndian.Uint16(r[4:]), int16(binary.LittleEndian.Uint16(r[6:]))
		if status < 0 {
			b.Fatalf("a page came back with %d", status)
		}
		part := make([]byte, status)
		b.Read(b.pages[id]<<12+uint64(binary.LittleEndian.Uint16(r[2:])), part)
		frame = append(frame, part...)
		if flags&xenabi.NETRXF_more_data == 0 {
			return frame
		}
	}
}

// say has the network send frames, without waiting for them to be taken.
func (b *bench) say(frames ...[]byte) {
	var all []byte
	for _, f := range frames {
		all = append(appendLength(all, len(f)), f...)
	}
	wire := b.wire
	go wire.Write(all)
}

// plain is a frame that needs no work, with a number in it.
func plain(n, size int) []byte {
	f := append(random(12), 8, 6)
	f = binary.BigEndian.AppendUint32(f, uint32(n))
	return append(f, random(size)[:max(0, size-len(f))]...)
}

func TestTransmit(t *testing.T) {
	for _, split := range []bool{false, true} {
		b := setUp(t)
		b.connect(split, nil)
		b.Await(backDir+"/state", "4")
		f := plain(1, 100)
		b.transmit(0, nil, f)
		if got := b.frame(); !bytes.Equal(got, f) {
			t.Fatalf("the network got % x", got)
		}
		b.answers(1)

		payload := random(9000)
		p := guestPacket(false, false, protoTCP, payload)
		b.transmit(xenabi.NETTXF_csum_blank, []slot{gso(xenabi.XEN_NETIF_GSO_TYPE_TCPV4, 0, 1448)}, p[:100], p[100:3000], p[3000:7000], p[7000:])
		var got []byte
		for len(got) < len(payload) {
			f := b.frame()
			l := verify(t, f)
			got = append(got, f[l.payload:l.end]...)
		}
		if !bytes.Equal(got, payload) {
			t.Error("the payload changed")
		}
		if s := b.answers(5); s[1] != xenabi.NETIF_RSP_NULL || s[0]|s[2]|s[3]|s[4] != xenabi.NETIF_RSP_OKAY {
			t.Errorf("the slots were answered with %d", s)
		}
		s := hv.Stats{NICs: map[string]hv.NICStats{}}
		b.card.Count(&s)
		if n := s.NICs[nicUUID]; n.TxFrames != 8 || n.TxBytes != uint64(len(f)+len(payload)+7*(len(p)-len(payload))) {
			t.Errorf("the counters say %+v", n)
		}
	}
}

// TestReceive: a guest that is slow gets every frame, in their order.
func TestReceive(t *testing.T) {
	for _, split := range []bool{false, true} {
		b := setUp(t)
		b.connect(split, nil)
		b.Await(backDir+"/state", "4")
		var frames [][]byte
		for i := range 1000 {
			frames = append(frames, plain(i, []int{60, 1514, 4096, 4097, 9014}[i%5]))
		}
		b.say(frames...)
		for i, want := range frames {
			if i%3 == 0 {
				b.give((len(want) + pageSize - 1) / pageSize) // too few at first, then one at a time
			}
			if i%3 == 2 && b.rx.Prod-b.rx.Cons < 100 {
				b.give(4)
			}
			for b.rx.Prod-b.rx.Cons < 3 {
				b.give(1)
			}
			if got := b.receive(); !bytes.Equal(got, want) {
				t.Fatalf("frame %d of %d bytes came as %d bytes", i, len(want), len(got))
			}
		}
	}
}

// TestWithoutScatter: a front end that takes no pieces gets what fits.
func TestWithoutScatter(t *testing.T) {
	b := setUp(t)
	b.connect(true, map[string]string{"feature-sg": "0"})
	b.Await(backDir+"/state", "4")
	b.give(3)
	b.say(plain(0, 4097), plain(1, 4096), nil)
	if got := b.receive(); !bytes.Equal(got, plain(1, 4096)) {
		t.Errorf("the guest got a frame of %d bytes", len(got))
	}
}

// TestNetworkRestart: the card survives its network.
func TestNetworkRestart(t *testing.T) {
	b := setUp(t)
	b.connect(false, nil)
	b.Await(backDir+"/state", "4")
	b.give(10)
	for i := range 3 {
		b.transmit(0, nil, plain(i, 60))
		b.frame()
		b.say(plain(i, 1514))
		b.receive()
		b.wire.Close()
		b.accept()
	}
	b.transmit(0, nil, plain(9, 60))
	if got := b.frame(); !bytes.Equal(got, plain(9, 60)) {
		t.Errorf("after the restarts the network got % x", got)
	}
}

// TestReconnect: a driver that is loaded again, and what is on its way meanwhile.
func TestReconnect(t *testing.T) {
	b := setUp(t)
	for i := range 3 {
		b.say(plain(0, 1514)) // into a card that nobody uses, or waits for pages
		b.connect(true, nil)
		b.Await(backDir+"/state", "4")
		b.transmit(0, nil, plain(i, 60))
		if got := b.frame(); !bytes.Equal(got, plain(i, 60)) {
			t.Errorf("the network got % x", got)
		}
		b.Publish(frontDir, xenabi.XenbusStateClosing, nil)
		b.Await(backDir+"/state", "5")
		b.Publish(frontDir, xenabi.XenbusStateClosed, nil)
		b.Await(backDir+"/state", "6")
		b.Publish(frontDir, xenabi.XenbusStateInitialising, nil)
		b.Await(backDir+"/state", "2")
	}
}

// TestHold: a held card leaves the guest's memory alone, and goes on afterwards.
func TestHold(t *testing.T) {
	b := setUp(t)
	b.connect(true, nil)
	b.Await(backDir+"/state", "4")
	b.say(plain(0, 1514), plain(1, 1514)) // waits for pages
	release, err := b.device.Hold()
	if err != nil {
		t.Fatal(err)
	}
	b.give(4)
	b.transmit(0, nil, plain(2, 60))
	time.Sleep(20 * time.Millisecond)
	if tx, rx := b.tx.Get(xenabi.SringRspProd), b.rx.Get(xenabi.SringRspProd); tx != 0 || rx != 0 {
		t.Errorf("a held card answered %d and %d requests", tx, rx)
	}
	release()
	for i := range 2 {
		if got := b.receive(); !bytes.Equal(got, plain(i, 1514)) {
			t.Errorf("the guest got a frame of %d bytes", len(got))
		}
	}
	if got := b.frame(); !bytes.Equal(got, plain(2, 60)) {
		t.Errorf("the network got % x", got)
	}
}

// TestStuckNetwork: a network that takes nothing slows its guest down, and does
// not keep it from closing its card.
func TestStuckNetwork(t *testing.T) {
	b := setUp(t)
	b.connect(true, nil)
	b.Await(backDir+"/state", "4")
	big := plain(0, 4000)
	for b.tx.Prod-b.tx.Get(xenabi.SringRspProd) < b.tx.Size-1 { // until the ring is full
		b.transmit(0, nil, big)
		time.Sleep(100 * time.Microsecond)
	}
	b.Publish(frontDir, xenabi.XenbusStateClosed, nil)
	b.Await(backDir+"/state", "6")
}

// TestHostileFront: who breaks the rules loses the card, not more.
func TestHostileFront(t *testing.T) {
	for name, attack := range map[string]func(*bench){
		"flip":       func(b *bench) { b.connect(false, map[string]string{"request-rx-copy": "0"}) },
		"no channel": func(b *bench) { b.connect(false, map[string]string{"event-channel": "none"}) },
		"no ring":    func(b *bench) { b.connect(true, map[string]string{"rx-ring-ref": "3999"}) },
		"endless packet": func(b *bench) {
			b.connect(false, nil)
			for range 100 {
				s := request(0, 0, xenabi.NETTXF_more_data, 0, 100)
				b.tx.Put(s[:])
			}
			b.tx.Push()
			b.Send(b.txPort)
		},
		"producer": func(b *bench) {
			b.connect(true, nil)
			b.Await(backDir+"/state", "4")
			b.rx.Set(xenabi.SringReqProd, 1<<30)
			b.say(plain(0, 60))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := setUp(t)
			attack(b)
			b.Await(backDir+"/state", "5")
			b.Publish(frontDir, xenabi.XenbusStateClosed, nil)
			b.Await(backDir+"/state", "6")
			b.Publish(frontDir, xenabi.XenbusStateInitialising, nil)
			b.Await(backDir+"/state", "2")
			b.connect(true, nil)
			b.Await(backDir+"/state", "4")
			b.transmit(0, nil, plain(7, 60))
			if got := b.frame(); !bytes.Equal(got, plain(7, 60)) {
				t.Errorf("the network got % x", got)
			}
		})
	}
}

// TestBadPackets: a packet that cannot be read is answered as that, and the next
// one goes out.
func TestBadPackets(t *testing.T) {
	b := setUp(t)
	b.connect(false, nil)
	b.Await(backDir+"/state", "4")
	s := request(3000, 0, 0, 1, 100) // no such grant
	b.tx.Put(s[:])
	b.transmit(xenabi.NETTXF_csum_blank, nil, plain(0, 60)) // a checksum over nothing known
	b.transmit(0, nil, []byte("short"))
	b.transmit(0, nil, plain(3, 60))
	if got := b.frame(); !bytes.Equal(got, plain(3, 60)) {
		t.Errorf("the network got % x", got)
	}
	for i, s := range b.answers(4) {
		if want := i == 3; (s == xenabi.NETIF_RSP_OKAY) != want {
			t.Errorf("packet %d was answered with %d", i, s)
		}
	}
	b.give(1)
	b.SetGrant(b.rx.Refs[0]+1000, 0)
	b.say(plain(4, 60))
	if got := b.receive(); !bytes.Equal(got, plain(4, 60)) {
		t.Errorf("the guest got % x", got)
	}
}

// FuzzFront has the rings hold anything: the card may be lost, nothing else.
func FuzzFront(f *testing.F) {
	tx := request(9, 0, xenabi.NETTXF_csum_blank|xenabi.NETTXF_extra_info|xenabi.NETTXF_more_data, 1, 3000)
	f.Add(uint32(3), append(tx[:], make([]byte, 24)...), uint32(2), make([]byte, 16), make([]byte, 64))
	f.Add(uint32(1), tx[:], uint32(1<<31), []byte{}, guestPacket(false, false, protoTCP, random(500)))
	f.Fuzz(func(t *testing.T, txProd uint32, txSlots []byte, rxProd uint32, rxSlots, data []byte) {
		b := setUp(t)
		b.tx, b.rx = b.NewRing(1, slotSize), b.NewRing(1, rxEntry)
		for range 20 { // some of the grants that slots may name
			gfn := b.Alloc()
			b.Write(gfn<<12, data[:min(len(data), pageSize)])
			b.Grant(gfn, gfn%3 == 0)
		}
		b.Write(b.tx.GFNs[0]<<12+xenabi.SringEntries, txSlots[:min(len(txSlots), pageSize-xenabi.SringEntries)])
		b.Write(b.rx.GFNs[0]<<12+xenabi.SringEntries, rxSlots[:min(len(rxSlots), pageSize-xenabi.SringEntries)])
		b.tx.Set(xenabi.SringReqProd, txProd)
		b.rx.Set(xenabi.SringReqProd, rxProd)
		port := b.Port()
		b.Publish(frontDir, xenabi.XenbusStateConnected, map[string]string{
			"tx-ring-ref": strconv.Itoa(int(b.tx.Refs[0])), "rx-ring-ref": strconv.Itoa(int(b.rx.Refs[0])),
			"request-rx-copy": "1", "feature-sg": "1", "event-channel": strconv.Itoa(int(port)),
		})
		go io.Copy(io.Discard, b.wire)
		var frames []byte
		for i := range 5 {
			p := plain(i, 3000*i+60)
			frames = append(appendLength(frames, len(p)), p...)
		}
		b.wire.Write(frames)
		b.Send(port)
		b.Publish(frontDir, xenabi.XenbusStateClosed, nil)
		b.Await(backDir+"/state", "6")
	})
}
