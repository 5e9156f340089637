package localsock

import (
	"net"

	"golang.org/x/sys/unix"
)

// peer asks with SO_PEERCRED: unix(7).
func peer(c net.Conn) (PeerInfo, error) {
	p := PeerInfo{UID: -1, PID: -1}
	err := control(c, func(fd int) error {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return err
		}
		p.UID, p.PID = int(cred.Uid), int(cred.Pid)
		return nil
	})
	return p, err
}
