package proc

import (
	"bufio"
	"net"
	"os"
	"testing"
)

// TestPeerPID: the process at the other end of a connection, this one and another.
func TestPeerPID(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mine, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if pid, err := PeerPID(accepted); err != nil || pid != os.Getpid() {
		t.Errorf("my own connection is of process %d, not %d: %v", pid, os.Getpid(), err)
	}

	child, err := Start(self("dial", l.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if said, err := bufio.NewReader(other).ReadString('\n'); said != "here\n" {
		t.Errorf("%q, %v", said, err)
	}
	if pid, err := PeerPID(other); err != nil || pid != child.PID() {
		t.Errorf("a child's connection is of process %d, not %d: %v", pid, child.PID(), err)
	}
	other.Close()
	if code, err := child.Wait(); code != 0 || err != nil {
		t.Error(code, err)
	}
}
