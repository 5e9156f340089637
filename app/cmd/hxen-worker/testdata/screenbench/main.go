// Command screenbench is the first process of a guest whose screen is measured: it
// paints the whole of /dev/fb0 sixty times a second, each pixel anew, and says how
// often it came to that.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

func main() {
	for dir, fs := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs"} {
		_ = syscall.Mount(fs, dir, fs, 0, "")
	}
	if console, err := os.OpenFile("/dev/console", os.O_RDWR, 0); err == nil {
		os.Stdout = console
	}
	if err := paint(); err != nil {
		fmt.Printf("@@F error %v\n", err)
	}
	_ = exec.Command("/bin/busybox", "poweroff", "-f").Run()
	time.Sleep(time.Hour)
}

// about reads what the kernel says of its screen.
func about(what string, to ...any) error {
	b, err := os.ReadFile("/sys/class/graphics/fb0/" + what)
	if err == nil {
		_, err = fmt.Sscanf(string(b), strings.Repeat("%d,", len(to)-1)+"%d", to...)
	}
	return err
}

func paint() error {
	var f *os.File
	var err error
	for range 500 { // a driver may come late
		if f, err = os.OpenFile("/dev/fb0", os.O_RDWR, 0); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	var width, height, stride int
	if err := about("virtual_size", &width, &height); err != nil {
		return err
	}
	if err := about("stride", &stride); err != nil {
		return err
	}
	var pictures [3][]byte
	for i := range pictures {
		pictures[i] = make([]byte, stride*height)
		for j := range pictures[i] {
			pictures[i][j] = byte(j>>2)*7 + byte(j>>12)*13 + byte(i*85) // differs from the others' everywhere
		}
	}
	name, _ := os.ReadFile("/sys/class/graphics/fb0/name")
	fmt.Printf("@@I paints %dx%d, a line of %d bytes, on %s\n", width, height, stride, strings.TrimSpace(string(name)))
	const every = time.Second / 60
	next, since := time.Now(), time.Now()
	for n := 1; ; n++ {
		if _, err := f.WriteAt(pictures[n%len(pictures)], 0); err != nil {
			return err
		}
		if n%300 == 0 {
			fmt.Printf("@@I painted %.1f a second\n", 300/time.Since(since).Seconds())
			since = time.Now()
		}
		next = next.Add(every)
		if late := time.Since(next); late > 0 {
			next = time.Now()
		} else {
			time.Sleep(-late)
		}
	}
}
