package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/app/worker"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
)

const netUUID = "0a0b0c0d-0000-4000-8000-000000000001"

// asProgram in the environment has the test's program be hxen-netd: there may be no
// compiler where it runs.
const asProgram = "HXEN_TEST_AS_NETD"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// network is hxen-netd as a process of its own.
type network struct {
	t       testing.TB
	program string
	files   paths.Network
	process *exec.Cmd
}

func newNetwork(t testing.TB) *network {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), netUUID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	n := &network{t: t, files: paths.NetworkDir(dir, hvtest.RunDir(t)), program: self}
	n.start()
	t.Cleanup(n.kill)
	return n
}

func (n *network) start() {
	n.t.Helper()
	n.process = exec.Command(n.program, "--dir", n.files.Dir, "--run", n.files.Run)
	n.process.Env, n.process.Stderr = append(os.Environ(), asProgram+"=1"), os.Stderr
	out, err := n.process.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
	said, err := io.ReadAll(bufio.NewReader(out))
	if err != nil || string(said) != "ready\n" {
		n.t.Fatalf("hxen-netd says %q (%v)", said, err)
	}
}

// kill is kill -9.
func (n *network) kill() {
	n.process.Process.Kill()
	n.process.Wait()
}

func (n *network) call(verb string, params, result any) {
	n.t.Helper()
	nc, err := localsock.Dial(n.t.Context(), n.files.Ctl())
	if err != nil {
		n.t.Fatal(err)
	}
	c, err := control.NewConn(nc, "test", "test")
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Call(n.t.Context(), verb, params, result); err != nil {
		n.t.Fatal(err)
	}
}

func (n *network) set(ports ...control.NetPort) {
	n.t.Helper()
	n.call(control.VerbSet, control.NetConfig{UUID: netUUID, Name: "test", Subnet: "192.168.127.0/24", Ports: ports}, nil)
}

func (n *network) leases() (list []control.Lease) {
	n.t.Helper()
	n.call(control.VerbLeases, nil, &list)
	return list
}

func card(i int, forwards ...hv.Forward) control.NetPort {
	return control.NetPort{Guest: fmt.Sprint(i), Name: fmt.Sprintf("guest%d", i), NIC: fmt.Sprintf("nic-%d", i), MAC: fmt.Sprintf("52:54:00:00:00:%02x", i), Forwards: forwards}
}

// socket is where card i's relay listens.
func (n *network) socket(i int) string {
	return paths.Guest{Run: n.files.Run, ID: fmt.Sprintf("guest%d", i)}.Net(0)
}

// relay starts card i's relay and returns what QEMU connects to.
func (n *network) relay(i int) (r *worker.Relay, netdev string) {
	n.t.Helper()
	path := n.socket(i)
	ln, err := localsock.Listen(path)
	if err != nil {
		n.t.Fatal(err)
	}
	p := card(i)
	dial := func(ctx context.Context) (net.Conn, error) { return localsock.Dial(ctx, n.files.Frames()) }
	r = worker.NewRelay(ln, dial, control.FramesHello{Protocol: control.Protocol, NIC: p.NIC, MAC: p.MAC}, slog.New(slog.DiscardHandler))
	n.t.Cleanup(func() { r.Close() })
	return r, "stream,id=n0,server=off,addr.type=unix,addr.path=" + path
}

// hostAddr is an address of this machine that is not its loopback.
func hostAddr(t testing.TB) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but its loopback, which guests may not reach")
	return ""
}

// serve sends text to whoever connects to addr.
func serve(t testing.TB, addr, text string) *net.TCPAddr {
	t.Helper()
	ln, err := net.Listen("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				io.WriteString(c, text)
				c.Close()
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr)
}

func freePort(t testing.TB) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return uint16(ln.Addr().(*net.TCPAddr).Port)
}

// get fetches a page through a forward, as often as it takes.
func get(t testing.TB, port uint16) string {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var last error
	for began := time.Now(); time.Since(began) < hang; {
		resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err == nil {
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil {
				return string(b)
			}
			last = err
			continue
		}
		last = err
	}
	t.Fatalf("the forward is not reached: %v", last)
	return ""
}

// TestCardOutlivesTheNetwork is the way of frames without a guest: who is connected
// to the relay is answered by the gateway, also after the network's process was
// killed and started again.
func TestCardOutlivesTheNetwork(t *testing.T) {
	n := newNetwork(t)
	n.set(card(1))
	n.relay(1)
	c, err := localsock.Dial(t.Context(), n.socket(1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mac, _ := net.ParseMAC(card(1).MAC)
	who := append(bytes.Repeat([]byte{0xff}, 6), mac...)
	who = append(append(who, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1), mac...) // ARP, a request
	who = append(who, 192, 168, 127, 2, 0, 0, 0, 0, 0, 0, 192, 168, 127, 1)
	who = append(binary.BigEndian.AppendUint32(nil, uint32(len(who))), who...)
	answers := make(chan []byte, 1000)
	go func() {
		defer close(answers)
		for rd := bufio.NewReader(c); ; {
			var head [4]byte
			if _, err := io.ReadFull(rd, head[:]); err != nil {
				return
			}
			b := make([]byte, binary.BigEndian.Uint32(head[:]))
			if _, err := io.ReadFull(rd, b); err != nil {
				return
			}
			answers <- b
		}
	}()
	ask := func() {
		t.Helper()
		for guard := time.After(hang); ; { // what is sent while there is no network is lost
			if _, err := c.Write(who); err != nil {
				t.Fatal(err)
			}
			select {
			case b, ok := <-answers:
				if !ok {
					t.Fatal("the relay hung up")
				}
				if len(b) >= 42 && bytes.Equal(b[:6], mac) && b[21] == 2 && bytes.Equal(b[28:32], []byte{192, 168, 127, 1}) {
					return
				}
			case <-time.After(100 * time.Millisecond):
			case <-guard:
				t.Fatal("the gateway does not answer")
			}
		}
	}
	ask()
	for range 2 {
		n.kill()
		n.start()
		for deadline := time.Now().Add(hang); !n.leases()[0].Connected; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the relay does not dial again")
			}
		}
		for len(answers) > 0 { // of before
			<-answers
		}
		ask()
		if l := n.leases(); len(l) != 1 || l[0].IP != "192.168.127.2" {
			t.Errorf("after a restart: %+v", l)
		}
	}
}

// TestGuestsOnTheNetwork is the whole way with real guests: QEMU's card, relay,
// hxen-netd, the host.
func TestGuestsOnTheNetwork(t *testing.T) {
	kernel, initrd := guestFiles(t)
	host := hostAddr(t)
	n := newNetwork(t)
	forward := freePort(t)
	n.set(card(1), card(2, hv.Forward{From: forward, To: 80}))
	relay1, netdev1 := n.relay(1)
	_, netdev2 := n.relay(2)
	one := boot(t, kernel, initrd, netdev1, card(1).MAC)
	two := boot(t, kernel, initrd, netdev2, card(2).MAC)

	one.run("ifconfig eth0", "192.168.127.2", "255.255.255.0")
	two.run("ifconfig eth0", "192.168.127.3")
	one.run("ping -c 2 -W 5 192.168.127.1", "2 packets received")
	one.run("ping -c 2 -W 5 192.168.127.3", "2 packets received")
	one.run("ping -c 1 -W 5 guest2", "1 packets received")
	two.run("nslookup guest1.hxen.internal 192.168.127.1", "192.168.127.2")
	page := serve(t, host+":0", "a page of the host")
	read := fmt.Sprintf("nc -w 20 %s %d </dev/null", host, page.Port)
	one.run(read, "a page of the host")
	closed := serve(t, "127.0.0.1:0", "secret")
	for _, at := range []string{"192.168.127.1", "192.168.127.254", "0.0.0.0"} {
		if out, ok := one.try(fmt.Sprintf("timeout 5 nc -w 3 %s %d </dev/null", at, closed.Port)); ok || strings.Contains(out, "secret") {
			t.Errorf("the host's loopback is reached as %s: %s", at, out)
		}
	}
	if got := get(t, forward); !strings.Contains(got, card(2).MAC) {
		t.Errorf("through the forward: %q", got)
	}

	// A second address of the guest's own choice goes nowhere, nor does another MAC.
	one.run("ifconfig eth0:1 192.168.127.99 netmask 255.255.255.0")
	if out, ok := one.try("ping -c 2 -W 2 -I 192.168.127.99 192.168.127.3"); ok || !strings.Contains(out, " 0 packets received") {
		t.Errorf("a made-up address is answered:\n%s", out)
	}
	one.run("ifconfig eth0:1 down")
	one.run("ping -c 1 -W 5 192.168.127.3", "1 packets received")

	// kill -9 under traffic: the guests notice lost packets at most.
	fmt.Fprintln(one.in, "(while :; do dd if=/dev/zero bs=64k count=64 2>/dev/null | timeout 20 nc 192.168.127.3 80; done) >/dev/null 2>&1 &")
	before := n.leases()
	n.kill()
	n.start()
	began := time.Now()
	if got := get(t, forward); !strings.Contains(got, card(2).MAC) {
		t.Errorf("through the forward after a restart: %q", got)
	}
	t.Logf("the forward is reached %v after the restart", time.Since(began).Round(time.Millisecond))
	one.run("ping -c 2 -W 5 192.168.127.3", "2 packets received")
	one.run(read, "a page of the host")
	for i, l := range n.leases() {
		if l.IP != before[i].IP || !l.Connected {
			t.Errorf("after a restart: %+v, before: %+v", l, before[i])
		}
	}
	if s := relay1.Stats(); s.TxFrames == 0 || s.RxFrames == 0 || s.TxBytes < s.TxFrames*42 {
		t.Errorf("stats %+v", s)
	}
}

// BenchmarkThroughput sends 16 MiB from a guest to the host and back, over the
// relay and hxen-netd, and over QEMU's own user network.
func BenchmarkThroughput(b *testing.B) {
	kernel, initrd := guestFiles(b)
	host := hostAddr(b)
	const size = 16 << 20
	sink, err := net.Listen("tcp4", host+":0")
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	source := serve(b, host+":0", strings.Repeat("x", size))
	measure := func(b *testing.B, g *guest) {
		var up, down time.Duration
		for b.Loop() {
			fmt.Fprintf(g.in, "dd if=/dev/zero bs=64k count=%d 2>/dev/null | nc %s %d\n", size>>16, host, sink.Addr().(*net.TCPAddr).Port)
			c, err := sink.Accept()
			if err != nil {
				b.Fatal(err)
			}
			began := time.Now()
			if n, err := io.CopyN(io.Discard, c, size); err != nil {
				b.Fatalf("%d bytes: %v", n, err)
			}
			up += time.Since(began)
			c.Close()
			g.run("true")
			began = time.Now()
			g.run(fmt.Sprintf("nc %s %d </dev/null >/dev/null", host, source.Port))
			down += time.Since(began)
		}
		b.ReportMetric(float64(b.N)*size/1e6/up.Seconds(), "up-MB/s")
		b.ReportMetric(float64(b.N)*size/1e6/down.Seconds(), "down-MB/s")
	}
	b.Run("netd", func(b *testing.B) {
		n := newNetwork(b)
		n.set(card(1))
		_, netdev := n.relay(1)
		measure(b, boot(b, kernel, initrd, netdev, card(1).MAC))
	})
	b.Run("qemu-user", func(b *testing.B) {
		measure(b, boot(b, kernel, initrd, "user,id=n0", card(1).MAC))
	})
}
