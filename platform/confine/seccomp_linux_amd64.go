package confine

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// ownCalls are those that only this processor's system has.
var ownCalls = []uint32{
	unix.SYS_ARCH_PRCTL, unix.SYS_NEWFSTATAT, unix.SYS_POLL, unix.SYS_EPOLL_WAIT, unix.SYS_ACCESS, unix.SYS_READLINK,
}
