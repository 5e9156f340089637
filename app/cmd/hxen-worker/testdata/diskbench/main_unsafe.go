// Command diskbench is the first process of a guest whose disk is measured: past
// the guest's cache, with Linux' asynchronous I/O, so that one thread keeps many
// requests under way. It prints a line for each figure.
package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// iocb is struct iocb, linux/aio_abi.h, on little-endian machines.
type iocb struct {
	data           uint64
	key, rwFlags   uint32
	opcode         uint16
	prio           int16
	fd             uint32
	buf, n         uint64
	off            int64
	reserved       uint64
	flags, resulte uint32
}

// event is struct io_event.
type event struct {
	data, obj uint64
	res, res2 int64
}

const (
	pread, pwrite = 0, 1 // IOCB_CMD_PREAD, IOCB_CMD_PWRITE
	page          = 4096
)

func main() {
	for _, d := range []string{"/proc", "/dev"} {
		fs := map[string]string{"/proc": "proc", "/dev": "devtmpfs"}[d]
		_ = syscall.Mount(fs, d, fs, 0, "")
	}
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err == nil {
		os.Stdout = console
	}
	drivers, _ := os.ReadFile("/modules/order")
	cmdline, _ := os.ReadFile("/proc/cmdline")
	for _, m := range strings.Fields(string(drivers)) {
		args := []string{"insmod", "/modules/" + m + ".ko"}
		for _, o := range strings.Fields(string(cmdline)) { // as modprobe does
			if o, ok := strings.CutPrefix(o, strings.ReplaceAll(m, "-", "_")+"."); ok {
				args = append(args, o)
			}
		}
		_ = exec.Command("/bin/busybox", args...).Run() // some of them find nothing
	}
	if err := measure(); err != nil {
		fmt.Printf("@@F error %v\n", err)
	}
	fmt.Println("@@F end")
	_ = exec.Command("/bin/busybox", "poweroff", "-f").Run()
	time.Sleep(time.Hour)
}

func measure() error {
	var f *os.File
	for range 500 {
		for _, name := range []string{"/dev/xvda", "/dev/vda"} {
			if o, err := os.OpenFile(name, os.O_RDWR|syscall.O_DIRECT, 0); err == nil {
				f = o
			}
		}
		if f != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if f == nil {
		return fmt.Errorf("there is no disk")
	}
	size, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	for pass := range 3 {
		for _, c := range []struct {
			name             string
			op               uint16
			n, depth, amount int
			random           bool
		}{
			{"read-4k-qd1", pread, page, 1, 400, true},
			{"write-4k-qd1", pwrite, page, 1, 400, true},
			{"read-4k-qd32", pread, page, 32, 2000, true},
			{"write-4k-qd32", pwrite, page, 32, 2000, true},
			{"read-1m-seq", pread, 1 << 20, 2, 64, false},
			{"write-1m-seq", pwrite, 1 << 20, 2, 64, false},
		} {
			took, err := run(f, size, c.op, c.n, c.depth, c.amount, c.random)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			fmt.Printf("@@F %d %s %.1f IOPS %.1f MB/s\n", pass, c.name, float64(c.amount)/took.Seconds(), float64(c.amount)*float64(c.n)/took.Seconds()/1e6)
		}
	}
	irqs, _ := os.ReadFile("/proc/interrupts")
	for line := range bytes.Lines(irqs) {
		if bytes.Contains(line, []byte("HYP")) || bytes.Contains(line, []byte("virtio")) || bytes.Contains(line, []byte("blkif")) {
			fmt.Printf("@@I %s", line)
		}
	}
	return nil
}

// run keeps depth requests of n bytes under way until amount are done.
func run(f *os.File, size int64, op uint16, n, depth, amount int, random bool) (time.Duration, error) {
	mem, err := syscall.Mmap(-1, 0, n*depth, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_POPULATE)
	if err != nil {
		return 0, err
	}
	defer syscall.Munmap(mem)
	var ctx uintptr
	if _, _, e := syscall.Syscall(syscall.SYS_IO_SETUP, uintptr(depth), uintptr(unsafe.Pointer(&ctx)), 0); e != 0 {
		return 0, e
	}
	defer syscall.Syscall(syscall.SYS_IO_DESTROY, ctx, 0, 0)
	cbs := make([]iocb, depth)
	begun, done := 0, 0
	submit := func(slots []int) error {
		ptrs := make([]*iocb, 0, depth)
		for _, i := range slots {
			at := int64(begun) * int64(n) % (size - int64(n) + 1)
			if random {
				at = rand.Int64N(size/int64(n)) * int64(n)
			}
			begun++
			cbs[i] = iocb{data: uint64(i), opcode: op, fd: uint32(f.Fd()), buf: uint64(uintptr(unsafe.Pointer(&mem[i*n]))), n: uint64(n), off: at &^ 511}
			ptrs = append(ptrs, &cbs[i])
		}
		if _, _, e := syscall.Syscall(syscall.SYS_IO_SUBMIT, ctx, uintptr(len(ptrs)), uintptr(unsafe.Pointer(&ptrs[0]))); e != 0 {
			return e
		}
		return nil
	}
	start := time.Now()
	var slots []int
	for i := range min(depth, amount) {
		slots = append(slots, i)
	}
	if err := submit(slots); err != nil {
		return 0, err
	}
	events := make([]event, depth)
	for done < amount {
		k, _, e := syscall.Syscall6(syscall.SYS_IO_GETEVENTS, ctx, 1, uintptr(depth), uintptr(unsafe.Pointer(&events[0])), 0, 0)
		if e != 0 {
			return 0, e
		}
		slots = slots[:0]
		for _, ev := range events[:k] {
			if ev.res != int64(n) {
				return 0, fmt.Errorf("a request ended with %d", ev.res)
			}
			done++
			if begun+len(slots) < amount {
				slots = append(slots, int(ev.data))
			}
		}
		if len(slots) > 0 {
			if err := submit(slots); err != nil {
				return 0, err
			}
		}
	}
	return time.Since(start), nil
}
