package proc

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
)

// PeerPID tells which process has the other end of a TCP connection within this
// computer, as the system knows it.
func PeerPID(conn net.Conn) (int, error) {
	here, ok := conn.LocalAddr().(*net.TCPAddr)
	there, ok2 := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return 0, fmt.Errorf("%s is no TCP connection", conn.RemoteAddr())
	}
	table, err := tcpTable()
	if err != nil {
		return 0, err
	}
	if pid, ok := findPeer(table, plain(there), plain(here)); ok {
		return pid, nil
	}
	return 0, fmt.Errorf("no process has the other end of %s: %w", conn.RemoteAddr(), fs.ErrNotExist)
}

func plain(a *net.TCPAddr) netip.AddrPort {
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// findPeer looks for the process whose connection goes from local to remote. A row of
// the table is MIB_TCPROW_OWNER_PID: six words, ports as they are on the wire.
func findPeer(table []byte, local, remote netip.AddrPort) (int, bool) {
	if len(table) < 4 {
		return 0, false
	}
	count, rows := binary.LittleEndian.Uint32(table), table[4:]
	const row = 24
	for ; count > 0 && len(rows) >= row; count, rows = count-1, rows[row:] {
		end := func(at int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(rows[at:])), binary.BigEndian.Uint16(rows[at+4:]))
		}
		if end(4) == local && end(12) == remote {
			return int(binary.LittleEndian.Uint32(rows[20:])), true
		}
	}
	return 0, false
}
