package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	image "github.com/hxen-project/hxen/hv/disk"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// writes is a guest's other work: it writes to its disk past its cache, and looks
// whether it is there.
const writes = `w=0; while :; do w=$((w+1)); s=$((w%8*16)); dd if=/dev/urandom of=/tmp/data bs=4k count=16 2>/dev/null; ` +
	`dd if=/tmp/data of=/dev/xvda bs=4k seek=$s oflag=direct 2>/dev/null; ` +
	`dd if=/dev/xvda bs=4k skip=$s count=16 iflag=direct 2>/dev/null | cmp -s - /tmp/data || echo $w >>/tmp/bad; ` +
	`echo $w >/tmp/wrote.new; mv /tmp/wrote.new /tmp/wrote; done &`

// TestGuestClones makes a template of a guest that computes, writes and sends, and
// has clones of it go on, all at once: each as another guest, with nothing lost.
// TestClones has more of them.
func TestGuestClones(t *testing.T) {
	longOnly(t) // minutes
	clones(t, 5, 5)
}

func TestClones(t *testing.T) { clones(t, 100, 2) }

// busy is a guest that computes, writes to its disk and sends all the time, and what
// it is beside.
type busy struct {
	*hvtest.Live
	spec     hv.Spec
	host     hv.Host // without cards
	dir      string
	net      *network
	leave    func()
	url, sum string      // of the web server's content
	got      chan string // hashes of what it was sent
}

// busyGuest boots one, on a network that has its card, and others.
func busyGuest(t *testing.T, others ...hv.NIC) *busy {
	s := guest(kernels(t)[0])
	s.Memory = 128 * hv.MiB
	s.NICs = []hv.NIC{{UUID: "01020304-0000-4000-8000-00000000000a", MAC: "52:54:00:00:00:01", Network: netUUID}}
	dir := t.TempDir()
	s.Disks = []hv.Disk{disk0(dir, "template")}
	diskImage(t, dir, "template", 1<<20)
	content := make([]byte, 256<<10)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(content)
	for i := range content {
		content[i] |= 1 // see TestGuestNetwork
	}
	b := &busy{spec: s, host: testHost(t, s), dir: dir, net: newNetwork(t, append(others, s.NICs...)...), sum: fmt.Sprintf("%x", sha256.Sum256(content))}
	b.host.OpenDisk = openDisk
	b.url, b.got = webServer(t, content)

	h := b.host
	b.leave = b.net.connect(s, &h)
	b.Live = boot(t, s, h)
	b.Run("udhcpc -i eth0 -s /sbin/udhcpc -n -q -t 20 2>&1")
	b.Run(chain)
	b.Run(writes)
	return b
}

// clones has n clones go on, atOnce of them at a time.
func clones(t *testing.T, n, atOnce int) {
	var nics []hv.NIC
	for i := range n {
		nics = append(nics, hv.NIC{
			UUID: fmt.Sprintf("01020304-0000-4000-8000-0000000010%02x", i),
			MAC:  fmt.Sprintf("52:54:00:00:01:%02x", i), Network: netUUID,
		})
	}
	b := busyGuest(t, nics...)
	b.Run("(while :; do timeout 5 wget -q -O /dev/null " + b.url + "; sleep 0.2; done) 2>/dev/null &")
	b.Run("while [ ! -f /tmp/at ] || [ ! -f /tmp/wrote ]; do sleep 0.1; done")
	b.Run("renice -n -5 -p $$") // what is asked of it comes before its work
	s, file := b.spec, template(t, b.Live, b.dir)

	began := time.Now()
	for at := 0; at < n; at += atOnce {
		var live []*hvtest.Live
		for i := range min(atOnce, n-at) {
			c := *s.Clone()
			c.UUID, c.Name = cloneID(at+i), fmt.Sprintf("clone%d", at+i)
			c.NICs = []hv.NIC{nics[at+i]}
			c.Disks = []hv.Disk{disk0(b.dir, fmt.Sprintf("clone%d", i))}
			_ = os.Remove(c.Disks[0].Path)
			if err := image.CopyRaw(t.Context(), s.Disks[0].Path, c.Disks[0].Path, nil); err != nil {
				t.Fatal(err)
			}
			h := b.host
			h.Restore = file
			b.net.connect(c, &h)
			live = append(live, launched(t, c, h))
		}
		for i, l := range live {
			checkClone(t, l, nics[at+i].MAC, cloneID(at+i))
			if got := l.Run("wget -q -O /tmp/file " + b.url + " && sha256sum </tmp/file"); got != b.sum+"  -" {
				t.Errorf("clone %d got a file with sha256 %s, want %s", at+i, got, b.sum)
			}
			l.Run("wget -q -O /dev/null --post-file=/tmp/file " + b.url)
			if got := <-b.got; got != b.sum {
				t.Errorf("clone %d sent a file with sha256 %s, want %s", at+i, got, b.sum)
			}
		}
		for _, l := range live {
			l.End()
		}
		t.Logf("%d clones after %v", at+len(live), time.Since(began).Round(time.Second))
	}
}

// cloneID is the uuid of a clone, whose start names its sockets.
func cloneID(i int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000001", 0x1000+i) }

// disk0 is a guest's only disk.
func disk0(dir, name string) hv.Disk { return disk(0, filepath.Join(dir, name)) }

// template saves a guest and returns the file that clones go on from.
func template(t *testing.T, l *hvtest.Live, dir string) string {
	t.Helper()
	file := filepath.Join(dir, "memory")
	began := time.Now()
	l.Do("save", func(ctx context.Context) error { return l.Machine.(hv.Saver).Save(ctx, file, nil) })
	l.Ended(hv.ExitSaved)
	t.Logf("saved in %v", time.Since(began).Round(time.Millisecond))
	return file
}

// checkClone looks at a clone's identity and work, and connects it to its network.
func checkClone(t *testing.T, l *hvtest.Live, mac, uuid string) {
	t.Helper()
	var n int
	var hash string
	if at := l.Run("cat /tmp/at"); !parse(at, &n, &hash) || hash != chainSum(n) {
		t.Errorf("the clone's sums are at %q", at)
	}
	if got := l.Run("cat /sys/hypervisor/uuid"); got != uuid {
		t.Errorf("the clone is %s, want %s", got, uuid)
	}
	began := time.Now()
	l.Run("until ip link show eth0 | grep -q " + mac + "; do sleep 1; done") // seldom: it comes before what it waits for
	card := time.Since(began)
	l.Run("udhcpc -i eth0 -s /sbin/udhcpc -n -q -t 20 2>&1")
	t.Logf("the clone's card after %v, its address after %v", card.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	l.Run(fmt.Sprintf("while read i h </tmp/at; [ $i -le %d ]; do sleep 0.1; done", n))
	wrote := l.Run("cat /tmp/wrote")
	l.Run("while [ $(cat /tmp/wrote) -le " + wrote + " ]; do sleep 0.1; done")
	if bad := l.Run("cat /tmp/bad 2>/dev/null || :"); bad != "" {
		t.Errorf("the clone's disk was not as written in rounds %q", bad)
	}
}

// TestGuestIdleClones tells what clones of a guest that does nothing take: time, and
// memory that they do not share.
func TestGuestIdleClones(t *testing.T) {
	longOnly(t) // minutes
	n := 20
	if testing.Short() {
		n = 3
	}
	s := guest(kernels(t)[0])
	s.Memory = 512 * hv.MiB
	h := userHost(t, s)
	began := time.Now()
	l := boot(t, s, h)
	cold := time.Since(began)
	l.Run("dd if=/dev/urandom of=/tmp/much bs=1M count=64 2>/dev/null")
	h.Restore = template(t, l, t.TempDir())
	before := anonymous(t)
	var all []*hvtest.Live
	var took time.Duration
	for i := range n {
		c := *s.Clone()
		c.UUID, c.Name = cloneID(i), fmt.Sprintf("clone%d", i)
		began := time.Now()
		l := launched(t, c, h)
		l.Run("true")
		took += time.Since(began)
		all = append(all, l)
	}
	time.Sleep(5 * time.Second)
	each := (anonymous(t) - before) / int64(n)
	took /= time.Duration(n)
	t.Logf("%d clones of 512 MiB: each running after %v, %.3f of a cold boot of %v; %.1f MiB of memory of its own each",
		n, took.Round(time.Millisecond), took.Seconds()/cold.Seconds(), cold.Round(time.Millisecond), float64(each)/(1<<20))
	if each > 64<<20 { // not the figure: that they share at all
		t.Errorf("each clone has %d MiB of its own", each>>20)
	}
	for _, l := range all {
		l.End()
	}
}

// anonymous is how many bytes of memory this process has that no file gives.
func anonymous(t *testing.T) int64 {
	t.Helper()
	f, err := os.Open("/proc/self/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "Anonymous:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("the kernel tells of no anonymous memory")
	return 0
}
