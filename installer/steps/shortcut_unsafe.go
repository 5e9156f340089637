//go:build windows

package steps

import (
	"fmt"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// What follows calls COM's IShellLinkW and IPersistFile by the places that their
// methods have: shobjidl_core.h and objidl.h.
const (
	unknownQuery, unknownRelease = 0, 2

	linkGetPath         = 3
	linkSetDescription  = 7
	linkSetDirectory    = 9
	linkSetIconLocation = 17
	linkSetPath         = 20
	linkMethods         = 21
	persistLoad         = 5
	persistSave         = 6
	inProcess           = 1 // CLSCTX_INPROC_SERVER
	rawPath             = 4 // SLGP_RAWPATH
	maxPath             = 1024
	toRead              = 0 // STGM_READ
)

var (
	classShellLink   = windows.GUID{Data1: 0x00021401, Data4: [8]byte{0xc0, 0, 0, 0, 0, 0, 0, 0x46}}
	ifaceShellLink   = windows.GUID{Data1: 0x000214f9, Data4: [8]byte{0xc0, 0, 0, 0, 0, 0, 0, 0x46}}
	ifacePersistFile = windows.GUID{Data1: 0x0000010b, Data4: [8]byte{0xc0, 0, 0, 0, 0, 0, 0, 0x46}}

	coCreateInstance = windows.NewLazySystemDLL("ole32.dll").NewProc("CoCreateInstance")
	sendTimeout      = windows.NewLazySystemDLL("user32.dll").NewProc("SendMessageTimeoutW")
	changeNotify     = windows.NewLazySystemDLL("shell32.dll").NewProc("SHChangeNotify")
)

// object is a COM object: a pointer to a table of methods.
type object struct{ methods *[linkMethods]uintptr }

// call calls a method and turns its HRESULT into an error.
//
//go:uintptrescapes
func (o *object) call(method int, args ...uintptr) error {
	r, _, _ := syscall.SyscallN(o.methods[method], append([]uintptr{uintptr(unsafe.Pointer(o))}, args...)...)
	if int32(r) < 0 {
		return syscall.Errno(uint32(r))
	}
	return nil
}

// shellLink hands a new shortcut and its file side to use, on a thread that COM
// knows.
func shellLink(use func(link, file *object) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// S_FALSE says that the thread is ready already, and counts.
	if err := windows.CoInitializeEx(0, windows.COINIT_APARTMENTTHREADED); err != nil && err != syscall.Errno(windows.S_FALSE) {
		return err
	}
	defer windows.CoUninitialize()
	var link, file *object
	r, _, _ := coCreateInstance.Call(uintptr(unsafe.Pointer(&classShellLink)), 0, inProcess, uintptr(unsafe.Pointer(&ifaceShellLink)), uintptr(unsafe.Pointer(&link)))
	if int32(r) < 0 {
		return syscall.Errno(uint32(r))
	}
	defer link.call(unknownRelease)
	if err := link.call(unknownQuery, uintptr(unsafe.Pointer(&ifacePersistFile)), uintptr(unsafe.Pointer(&file))); err != nil {
		return err
	}
	defer file.call(unknownRelease)
	return use(link, file)
}

// writeShortcut makes the file name a shortcut to a program.
func writeShortcut(name, target, what string) error {
	var words [4]*uint16
	for i, s := range []string{name, target, filepath.Dir(target), what} {
		var err error
		if words[i], err = windows.UTF16PtrFromString(s); err != nil {
			return fmt.Errorf("write the shortcut %s: %w", name, err)
		}
	}
	arg := func(i int) uintptr { return uintptr(unsafe.Pointer(words[i])) }
	err := shellLink(func(link, file *object) error {
		if err := link.call(linkSetPath, arg(1)); err != nil {
			return err
		}
		if err := link.call(linkSetDirectory, arg(2)); err != nil {
			return err
		}
		if err := link.call(linkSetDescription, arg(3)); err != nil {
			return err
		}
		if err := link.call(linkSetIconLocation, arg(1), 0); err != nil {
			return err
		}
		return file.call(persistSave, arg(0), 1)
	})
	runtime.KeepAlive(&words)
	if err != nil {
		return fmt.Errorf("write the shortcut %s: %w", name, err)
	}
	return nil
}

// readShortcut says where a shortcut leads.
func readShortcut(name string) (string, error) {
	word, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return "", err
	}
	var target [maxPath]uint16
	err = shellLink(func(link, file *object) error {
		if err := file.call(persistLoad, uintptr(unsafe.Pointer(word)), toRead); err != nil {
			return err
		}
		return link.call(linkGetPath, uintptr(unsafe.Pointer(&target)), maxPath, 0, rawPath)
	})
	runtime.KeepAlive(word)
	if err != nil {
		return "", fmt.Errorf("read the shortcut %s: %w", name, err)
	}
	return windows.UTF16ToString(target[:]), nil
}

// Messages of winuser.h and shlobj_core.h.
const (
	broadcast          = 0xffff
	settingChange      = 0x1a
	abortIfHung        = 2
	answerTime         = 5000 // milliseconds
	associationChanged = 0x08000000
)

// tellEnvironment has programs that start others, such as the desktop, read the
// environment again.
func tellEnvironment() {
	word, err := windows.UTF16PtrFromString("Environment")
	if err != nil {
		return
	}
	sendTimeout.Call(broadcast, settingChange, 0, uintptr(unsafe.Pointer(word)), abortIfHung, answerTime, 0)
}

// tellAssociations has the desktop read file types again.
func tellAssociations() { changeNotify.Call(associationChanged, 0, 0, 0) }
