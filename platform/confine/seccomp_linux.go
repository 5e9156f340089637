package confine

import (
	"fmt"
	"runtime"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// calls are the system calls that stay: what the Go runtime lives on, and work
// with files and sockets that are there. What opens a way out is not among them:
// execve, socket, connect, kill, ptrace, mount, bpf, io_uring, userfaultfd and
// the rest. Calls of one system only are in seccomp_linux_amd64.go and so on.
var calls = []uint32{
	// memory, threads, time and signals of the runtime, and of a C library beside it
	unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_MREMAP, unix.SYS_BRK,
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_GETUID, unix.SYS_GETEUID,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY,
	unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE, unix.SYS_SETITIMER,
	unix.SYS_GETRANDOM, unix.SYS_GETRUSAGE, unix.SYS_GETRLIMIT, unix.SYS_UNAME,
	// waiting, and what is waited for
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_PIPE2,
	unix.SYS_PPOLL, unix.SYS_PSELECT6,
	unix.SYS_WAIT4, unix.SYS_WAITID, unix.SYS_PIDFD_SEND_SIGNAL, // pidfds of children only: none can be opened
	// files
	unix.SYS_OPENAT, unix.SYS_CLOSE, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV,
	unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_PREADV, unix.SYS_PWRITEV, unix.SYS_PREADV2, unix.SYS_PWRITEV2,
	unix.SYS_LSEEK, unix.SYS_FSTAT, unix.SYS_STATX, unix.SYS_FSTATFS, unix.SYS_STATFS, unix.SYS_READLINKAT, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2,
	unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC_FILE_RANGE, unix.SYS_FADVISE64,
	unix.SYS_COPY_FILE_RANGE, unix.SYS_FLOCK, unix.SYS_FCNTL, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_GETDENTS64, unix.SYS_GETCWD,
	unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_MKDIRAT, unix.SYS_FCHMOD, unix.SYS_FCHMODAT,
	// sockets that are there
	unix.SYS_ACCEPT4, unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMSG, unix.SYS_RECVMSG, unix.SYS_SHUTDOWN,
	unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT,
}

// Of struct seccomp_data (linux/seccomp.h) in bytes.
const (
	offCall = 0
	offArch = 4
	offArgs = 16 // six of 8 bytes
)

func arg(n int) bpf.LoadAbsolute { return bpf.LoadAbsolute{Off: uint32(offArgs + 8*n), Size: 4} }

// filter makes the program that the kernel runs before each call. Every
// piece for one call begins with the call's number in A and leaves it there.
func filter(p Policy, pid int) []bpf.Instruction {
	allow := bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	refuse := bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}
	absent := bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}
	out := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		refuse,
		bpf.LoadAbsolute{Off: offCall, Size: 4},
	}
	only := func(nr uint32, check ...bpf.Instruction) {
		out = append(out, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nr, SkipTrue: uint8(len(check))})
		out = append(out, check...)
	}
	// First what comes with each exit of a guest. Linux remembers of a call that is
	// allowed whatever its arguments, and looks no more.
	if p.Ioctl != 0 {
		only(unix.SYS_IOCTL, arg(1), bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xff00},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(p.Ioctl) << 8, SkipTrue: 1}, refuse, allow)
	}
	for _, nr := range append(calls, ownCalls...) {
		only(nr, allow)
	}
	// Memory that can be run is not made any more.
	for _, nr := range []uint32{unix.SYS_MMAP, unix.SYS_MPROTECT} {
		only(nr, arg(2), bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.PROT_EXEC, SkipFalse: 1}, refuse, allow)
	}
	// Threads, not processes. clone3 hides its flags in memory: Go and C libraries
	// go back to clone where it is not there.
	only(unix.SYS_CLONE, arg(0), bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.CLONE_THREAD, SkipTrue: 1}, refuse, allow)
	only(unix.SYS_CLONE3, absent)
	// Signals to its own threads: how the runtime and kicks interrupt them.
	only(unix.SYS_TGKILL, arg(0), bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(pid), SkipTrue: 1}, refuse, allow)
	// Names of memory areas, which newer runtimes give.
	only(unix.SYS_PRCTL, arg(0), bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PR_SET_VMA, SkipTrue: 1}, refuse, allow)
	return append(out, refuse)
}

// restrictCalls applies the filter to all threads at once.
func restrictCalls(p Policy) error {
	raw, err := bpf.Assemble(filter(p, unix.Getpid()))
	if err != nil {
		return err
	}
	program := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		program[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	// The filter's call takes no_new_privs from its own thread and gives it to the
	// others with the filter.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	return setFilter(program)
}
