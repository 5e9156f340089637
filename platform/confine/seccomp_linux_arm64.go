package confine

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// ownCalls are those that only this processor's system has.
var ownCalls = []uint32{unix.SYS_FSTATAT}
