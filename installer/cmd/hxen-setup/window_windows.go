package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"

	"github.com/hxen-project/hxen/installer/steps"
)

// unpack puts the wizard's program into a folder of its own, which done removes.
func unpack(s *steps.Setup) (program string, done func(), err error) {
	dir, err := os.MkdirTemp("", "hxen-setup-")
	if err != nil {
		return "", nil, fmt.Errorf("unpack the window: %w", err)
	}
	done = func() { os.RemoveAll(dir) }
	program = filepath.Join(dir, "hxen-setup-window.exe")
	f, err := os.OpenFile(program, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err == nil {
		err = copyWizard(s, f)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		done()
		return "", nil, fmt.Errorf("unpack the window: %w", err)
	}
	return program, done, nil
}

var kernel32 = windows.NewLazySystemDLL("kernel32.dll")

// parent is ATTACH_PARENT_PROCESS, consoleapi.h.
const parent = 1<<32 - 1

// streams reports whether somebody has given this program an output: as it is one
// with windows, Windows opens no console for it.
func streams() bool {
	h, err := windows.GetStdHandle(windows.STD_OUTPUT_HANDLE)
	return err == nil && h != 0 && h != windows.InvalidHandle
}

// given says that the caller redirected our streams.
var given bool

// attachConsole has what is printed appear in the console that this program was
// started from, if it was.
func attachConsole() {
	if given = streams(); given {
		return
	}
	if ok, _, _ := kernel32.NewProc("AttachConsole").Call(parent); ok != 0 {
		useConsole()
	}
}

// ownConsole opens one in which questions can be asked: in the caller's the shell
// asks as well.
func ownConsole() {
	if given {
		return
	}
	_, _, _ = kernel32.NewProc("FreeConsole").Call()
	if ok, _, _ := kernel32.NewProc("AllocConsole").Call(); ok != 0 {
		useConsole()
	}
}

func useConsole() {
	if out, err := os.OpenFile("CONOUT$", os.O_RDWR, 0); err == nil {
		os.Stdout, os.Stderr = out, out
	}
	if in, err := os.OpenFile("CONIN$", os.O_RDWR, 0); err == nil {
		os.Stdin = in
	}
}
