// Linux' system calls out of a Windows program.
#include "standin.h"
#include <stdio.h>
#include <asm/unistd_64.h>

static INT64 call(INT64 n, UINT64 a, UINT64 b, UINT64 c, UINT64 d, UINT64 e, UINT64 f)
{
	register UINT64 r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	INT64 result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return result;
}

INT64 linux_ioctl(int fd, UINT64 request, UINT64 arg) { return call(__NR_ioctl, fd, request, arg, 0, 0, 0); }

int linux_open(const char *path)
{
	return (int)call(__NR_open, (UINT64)(ULONG_PTR)path, 02000002 /* O_CLOEXEC, O_RDWR */, 0, 0, 0, 0);
}

void linux_close(int fd) { call(__NR_close, fd, 0, 0, 0, 0, 0); }

void *linux_map(int fd, UINT64 size)
{
	INT64 at = call(__NR_mmap, 0, size, 3 /* PROT_READ, PROT_WRITE */, 1 /* MAP_SHARED */, fd, 0);
	return at < 0 && at > -4096 ? NULL : (void *)(ULONG_PTR)at;
}

void linux_unmap(void *at, UINT64 size) { call(__NR_munmap, (UINT64)(ULONG_PTR)at, size, 0, 0, 0, 0); }

LONG linux_thread(void) { return (LONG)call(__NR_gettid, 0, 0, 0, 0, 0, 0); }

// linux_nudge has a thread leave KVM. The signal is only ever let in there, where it
// makes KVM_RUN return and stays pending: it has no handler, and none of wine's
// threads sees it.
void linux_nudge(LONG thread)
{
	call(__NR_tgkill, call(__NR_getpid, 0, 0, 0, 0, 0, 0), thread, NUDGE, 0, 0, 0);
}

// linux_block_nudges keeps them from this thread for good. It returns what else is blocked.
UINT64 linux_block_nudges(void)
{
	UINT64 nudge = 1ULL << (NUDGE - 1), old = 0;
	call(__NR_rt_sigprocmask, 0 /* SIG_BLOCK */, (UINT64)(ULONG_PTR)&nudge, (UINT64)(ULONG_PTR)&old, 8, 0, 0);
	return old & ~nudge;
}

void linux_take_nudge(void)
{
	UINT64 nudge = 1ULL << (NUDGE - 1), none[2] = {0, 0};
	call(__NR_rt_sigtimedwait, (UINT64)(ULONG_PTR)&nudge, 0, (UINT64)(ULONG_PTR)none, 8, 0, 0);
}

// complain tells on the standard error what the stand-in could not do.
HRESULT complain(const char *what, INT64 error)
{
	char line[160];
	int n = _snprintf(line, sizeof line - 1, "winhvplatform stand-in: %s: %I64d\n", what, error);
	call(__NR_write, 2, (UINT64)(ULONG_PTR)line, n < 0 ? sizeof line - 1 : n, 0, 0, 0);
	return E_FAIL;
}
