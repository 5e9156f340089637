// Command slack runs a program with the timer slack that the service gives workers.
package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(4*time.Millisecond), 0, 0, 0)
	fmt.Println(syscall.Exec(os.Args[1], os.Args[1:], os.Environ()))
	os.Exit(1)
}
