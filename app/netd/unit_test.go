package netd

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"github.com/hxen-project/hxen/app/control"
)

func newRand(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func (g *guest) listenUDP(p uint16) *gonet.UDPConn {
	g.t.Helper()
	c, err := gonet.DialUDP(g.stack, &tcpip.FullAddress{NIC: linkID, Addr: tcpAddr(g.ip), Port: p}, nil, ipv4.ProtocolNumber)
	if err != nil {
		g.t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(hang))
	g.t.Cleanup(func() { c.Close() })
	return c
}

func TestLeasesAreForGood(t *testing.T) {
	subnet := netip.MustParsePrefix("10.0.0.0/29") // .1 is the gateway; .2 to .6 are free
	ports := func(ns ...int) (out []control.NetPort) {
		for _, n := range ns {
			out = append(out, port(n))
		}
		return out
	}
	var l leaseFile
	l.assign(subnet, ports(1, 2, 3, 4, 5))
	for n := range 5 {
		if got := l.find(port(n + 1).NIC).IP.String(); got != fmt.Sprintf("10.0.0.%d", n+2) {
			t.Fatalf("card %d has %s", n+1, got)
		}
		l.find(port(n + 1).NIC).Seen = time.Unix(int64(100-n), 0)
	}
	l.assign(subnet, ports(5, 6)) // full: the longest unseen of those away, card 4, gives way
	if l.find("nic-4") != nil || l.find("nic-6").IP.String() != "10.0.0.5" || l.find("nic-5").IP.String() != "10.0.0.6" {
		t.Fatalf("%+v", l.Leases)
	}
	l.assign(subnet, ports(1, 2, 3, 5, 6, 7))
	if c := l.find("nic-7"); c != nil && c.IP.IsValid() {
		t.Fatalf("a sixth card of five has %s", c.IP)
	}
	for _, n := range []int{1, 2, 3} {
		if got := l.find(port(n).NIC).IP.String(); got != fmt.Sprintf("10.0.0.%d", n+1) {
			t.Fatalf("card %d now has %s", n, got)
		}
	}
	// A file that somebody edited: addresses twice, the gateway's, another subnet's.
	l = leaseFile{Leases: []lease{{NIC: "nic-1", IP: netip.MustParseAddr("10.0.0.3")}, {NIC: "nic-2", IP: netip.MustParseAddr("10.0.0.3")},
		{NIC: "nic-3", IP: netip.MustParseAddr("10.0.0.1")}, {NIC: "nic-4", IP: netip.MustParseAddr("10.9.0.1")}}}
	l.assign(subnet, ports(1, 2, 3, 4))
	seen := map[netip.Addr]bool{}
	for _, c := range l.Leases {
		if seen[c.IP] || !usable(subnet, c.IP) {
			t.Fatalf("%+v", l.Leases)
		}
		seen[c.IP] = true
	}
}

func TestBrokenFilesAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.json")
	os.WriteFile(path, []byte("{oops"), 0o600)
	var v leaseFile
	found, err := loadJSON(path, &v)
	if found || err == nil || !strings.Contains(err.Error(), ".broken") {
		t.Fatalf("%v %v", found, err)
	}
	if b, err := os.ReadFile(path + ".broken"); err != nil || string(b) != "{oops" {
		t.Fatalf("%q %v", b, err)
	}
}

func TestHostLabel(t *testing.T) {
	for in, want := range map[string]string{
		"demo": "demo", "My  Windows 11!": "my-windows-11", "--x--": "x", "Ünïcode": "n-code", "…": "",
		strings.Repeat("a", 70): strings.Repeat("a", 63), "a.b": "a-b",
	} {
		if got := hostLabel(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 1000) + "\n")
	for range 3 * logLimit / len(line) {
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	for _, p := range []string{path, path + ".1"} {
		if st, err := os.Stat(p); err != nil || st.Size() > logLimit || st.Size() == 0 {
			t.Errorf("%s: %v %v", p, st, err)
		}
	}
}

func testFilter() filter {
	gw, _ := parseMAC(gatewayMAC)
	return filter{mac: [6]byte(testMAC(1)), gatewayMAC: gw, ip: netip.MustParseAddr("192.168.127.2"),
		gateway: netip.MustParseAddr("192.168.127.1"), subnet: netip.MustParsePrefix("192.168.127.0/24")}
}

func FuzzFilter(f *testing.F) {
	g := &guest{mac: testMAC(1)}
	me := netip.MustParseAddrPort("192.168.127.2:68")
	f.Add(g.ether(gatewayHW(), etherIPv4, udpPacket(me, netip.MustParseAddrPort("192.168.127.1:67"), make([]byte, 240))))
	f.Add(g.ether(gatewayHW(), etherIPv4, ipPacket(me.Addr(), netip.MustParseAddr("8.8.8.8"), protoICMP, echoRequest(1))))
	f.Add(g.ether(broadcastMAC[:], etherARP, []byte{0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0, 0, 1, 192, 168, 127, 2, 0, 0, 0, 0, 0, 0, 192, 168, 127, 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		fl := testFilter()
		switch v := fl.check(b); v {
		case pass, passDHCP, echo:
			if [6]byte(b[6:12]) != fl.mac {
				t.Fatalf("verdict %d for another's MAC", v)
			}
			src := b[26:30]
			if b[12] == 8 && b[13] == 6 {
				src = b[28:32]
			}
			if a := netip.AddrFrom4([4]byte(src)); a != fl.ip && !a.IsUnspecified() {
				t.Fatalf("verdict %d for source %s", v, a)
			}
		}
	})
}
