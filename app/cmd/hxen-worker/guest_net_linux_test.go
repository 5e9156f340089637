package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
)

const netUUID = "0a0b0c0d-0000-4000-8000-000000000001"

// network is hxen-netd as a process of its own, with relays for cards.
type network struct {
	t       *testing.T
	files   paths.Network
	doors   doors
	process *exec.Cmd
}

// newNetwork starts a network for the cards.
func newNetwork(t *testing.T, nics ...hv.NIC) *network {
	t.Helper()
	run, err := os.MkdirTemp("", "run") // t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	dir := filepath.Join(t.TempDir(), netUUID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	n := &network{t: t, files: paths.NetworkDir(dir, run)}
	n.start()
	t.Cleanup(func() { n.kill() })
	c := control.NetConfig{UUID: netUUID, Name: "test", Subnet: "192.168.127.0/24"}
	for i, nic := range nics {
		c.Ports = append(c.Ports, control.NetPort{Guest: fmt.Sprint(i), Name: fmt.Sprintf("guest%d", i), NIC: nic.UUID, MAC: nic.MAC})
	}
	nc, err := localsock.Dial(t.Context(), n.files.Ctl())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := control.NewConn(nc, "test", "test")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Call(t.Context(), control.VerbSet, c, nil); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *network) start() {
	n.t.Helper()
	n.process = exec.Command(filepath.Join(os.Getenv("HXEN_LAB"), "bin", "hxen-netd"), "--dir", n.files.Dir, "--run", n.files.Run)
	out, err := n.process.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
	if said, err := io.ReadAll(bufio.NewReader(out)); err != nil || string(said) != "ready\n" {
		n.t.Fatalf("hxen-netd says %q (%v)", said, err)
	}
}

func (n *network) kill() {
	_ = n.process.Process.Kill()
	_ = n.process.Wait()
}

// connect gives a guest's card its relay, as the worker does, until leave.
func (n *network) connect(s hv.Spec, h *hv.Host) (leave func()) {
	n.t.Helper()
	h.Dial = n.doors.dial
	var relays []io.Closer
	for i, nic := range s.NICs {
		socket := filepath.Join(n.files.Run, fmt.Sprintf("%s-%d", s.UUID[:8], i))
		dial := func(ctx context.Context, path string) (net.Conn, error) { return localsock.Dial(ctx, path) }
		r, err := n.doors.relay(nic, socket, n.files.Frames(), dial, slog.New(slog.DiscardHandler))
		if err != nil {
			n.t.Fatal(err)
		}
		relays = append(relays, r)
		h.NICs = append(h.NICs, socket)
	}
	leave = func() {
		for _, r := range relays {
			r.Close()
		}
	}
	n.t.Cleanup(leave)
	return leave
}

// outside is an address of this computer's that is not its loopback's, which is
// closed to guests; the lab has it.
const outside = "198.51.100.1"

// webServer serves content at / and reads what is sent to it; the hashes of
// that come out of the channel.
func webServer(t *testing.T, content []byte) (url string, got chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", outside+":0")
	if err != nil {
		t.Fatal(err)
	}
	got = make(chan string, 10)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write(content)
			return
		}
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			got <- err.Error()
			return
		}
		got <- fmt.Sprintf("%x", h.Sum(nil))
	})}
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	return "http://" + ln.Addr().String() + "/", got
}

// TestGuestNetwork: a guest gets its address by DHCP and carries files in both
// directions, also after its network was killed and started again.
func TestGuestNetwork(t *testing.T) {
	s := guest(kernels(t)[0])
	s.VCPUs = 2
	s.NICs = []hv.NIC{
		{UUID: "01020304-0000-4000-8000-00000000000a", MAC: "52:54:00:00:00:01", Network: netUUID},
		{UUID: "01020304-0000-4000-8000-00000000000b", MAC: "52:54:00:00:00:02", Network: netUUID},
	}
	n := newNetwork(t, s.NICs...)
	h := testHost(t, s)
	n.connect(s, &h)
	size := 4<<20 + 123
	if testing.Short() {
		size = 1<<20 + 123
	}
	content := make([]byte, size)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(content)
	for i := range content {
		content[i] |= 1 // BusyBox's wget sends a file up to its first zero byte
	}
	url, got := webServer(t, content)

	l := boot(t, s, h)
	if got, want := l.Run("cat /sys/class/net/eth0/address /sys/class/net/eth1/address"), s.NICs[0].MAC+"\n"+s.NICs[1].MAC; got != want {
		t.Errorf("the cards are %q, want %q", got, want)
	}
	l.Run("udhcpc -i eth0 -s /sbin/udhcpc -n -q -t 20 2>&1")
	if ip := l.Run("ip -4 -o addr show dev eth0"); !strings.Contains(ip, " 192.168.127.") {
		t.Fatalf("the guest has the address %q", ip)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	exchange := func() {
		t.Helper()
		if got := l.Run("wget -q -O /tmp/file " + url + " && sha256sum </tmp/file"); got != sum+"  -" {
			t.Errorf("the guest got a file with sha256 %s, want %s", got, sum)
		}
		l.Run("wget -q -O /dev/null --post-file=/tmp/file " + url)
		if got := <-got; got != sum {
			t.Errorf("the guest sent a file with sha256 %s, want %s", got, sum)
		}
	}
	exchange()
	n.kill()
	n.start()
	l.Run("(for i in $(seq 100); do timeout 30 wget -q -O /dev/null " + url + " && exit; sleep 0.2; done; exit 1)")
	exchange()

	stats, err := l.Machine.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c := stats.NICs[s.NICs[0].UUID]; c.RxBytes < 3*uint64(len(content)) || c.TxBytes < 2*uint64(len(content)) || c.RxFrames == 0 || c.TxFrames == 0 {
		t.Errorf("the card's counters are %+v", c)
	}
	l.Run("udhcpc -i eth1 -s /sbin/udhcpc -n -q -t 20 2>&1")
	l.Say("poweroff -f\n")
	l.Ended(hv.ExitPoweroff)
}
