package localsock

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// xucredVersion is XUCRED_VERSION of sys/ucred.h; another version has other fields.
const xucredVersion = 0

// peer asks with LOCAL_PEERCRED and LOCAL_PEERPID: unix(4), sys/un.h.
func peer(c net.Conn) (PeerInfo, error) {
	p := PeerInfo{UID: -1, PID: -1}
	err := control(c, func(fd int) error {
		cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		if err != nil {
			return err
		}
		if cred.Version != xucredVersion {
			return fmt.Errorf("LOCAL_PEERCRED answers version %d", cred.Version)
		}
		p.UID = int(cred.Uid)
		if pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID); err == nil {
			p.PID = pid
		}
		return nil
	})
	return p, err
}
