package netd

import (
	"encoding/binary"
	"net/netip"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// TestPingThroughTheHost runs in a network namespace of its own, where ping
// sockets can be allowed without changing the machine.
func TestPingThroughTheHost(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		t.Skipf("needs the right to make a network namespace: %v", err)
	}
	if out, err := exec.Command("sh", "-c", "ip link set lo up && echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range").CombinedOutput(); err != nil {
		t.Skipf("needs a network namespace that can be configured: %v %s", err, out)
	}
	g := &guest{mac: testMAC(1)}
	src, dst := netip.MustParseAddr("192.168.127.2"), netip.MustParseAddr("127.0.0.1")
	request := g.ether(gatewayHW(), etherIPv4, ipPacket(src, dst, protoICMP, append(echoRequest(9), "payload"...)))
	reply := ping(request)
	if len(reply) != len(request) || [6]byte(reply[:6]) != [6]byte(g.mac) || [6]byte(reply[6:12]) != [6]byte(gatewayHW()) {
		t.Fatalf("reply % x", reply)
	}
	ip := reply[etherHeader:]
	if checksum(ip[:20]) != 0 || netip.AddrFrom4([4]byte(ip[12:16])) != dst || netip.AddrFrom4([4]byte(ip[16:20])) != src {
		t.Errorf("IP header % x", ip[:20])
	}
	msg := append(append([]byte(nil), ip[20:]...), 0) // an even number of bytes
	if msg[0] != 0 || binary.BigEndian.Uint16(msg[4:]) != 0x1234 || msg[7] != 9 || string(ip[28:]) != "payload" || checksum(msg) != 0 {
		t.Errorf("message % x", ip[20:])
	}
	// Nobody there: no invented answer. The namespace has no route to it.
	nowhere := g.ether(gatewayHW(), etherIPv4, ipPacket(src, netip.MustParseAddr("203.0.113.1"), protoICMP, echoRequest(9)))
	if reply := ping(nowhere); reply != nil {
		t.Errorf("an address without a route answers % x", reply)
	}
}
