//go:build windows

package confine

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// PROCESS_MITIGATION_POLICY and the bits of its structures, winnt.h.
const (
	ProcessDynamicCodePolicy           = 2
	ProcessExtensionPointDisablePolicy = 6
	ProcessImageLoadPolicy             = 10
	ProcessChildProcessPolicy          = 13

	prohibitDynamicCode       = 1 << 0
	disableExtensionPoints    = 1 << 0
	noRemoteImages            = 1 << 0
	noLowMandatoryLabelImages = 1 << 1
	preferSystem32Images      = 1 << 2
	noChildProcessCreation    = 1 << 0
)

var setMitigation = windows.NewLazySystemDLL("kernel32.dll").NewProc("SetProcessMitigationPolicy")

// mitigate sets one policy, all of which are structures of one number.
func mitigate(policy uintptr, flags uint32) error {
	if err := setMitigation.Find(); err != nil {
		return err
	}
	ok, _, err := setMitigation.Call(policy, uintptr(unsafe.Pointer(&flags)), unsafe.Sizeof(flags))
	if ok == 0 {
		return fmt.Errorf("SetProcessMitigationPolicy: %w", err)
	}
	return nil
}

// dropPrivileges removes all privileges from the process's token: none can be
// enabled again.
func dropPrivileges() error {
	var token windows.Token
	if err := windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_QUERY|windows.TOKEN_ADJUST_PRIVILEGES, &token); err != nil {
		return fmt.Errorf("OpenProcessToken: %w", err)
	}
	defer token.Close()
	var n uint32
	_ = windows.GetTokenInformation(token, windows.TokenPrivileges, nil, 0, &n) // fails, and tells the size
	if n == 0 {
		return nil
	}
	b := make([]uint64, (n+7)/8)
	if err := windows.GetTokenInformation(token, windows.TokenPrivileges, (*byte)(unsafe.Pointer(&b[0])), n, &n); err != nil {
		return fmt.Errorf("GetTokenInformation: %w", err)
	}
	p := (*windows.Tokenprivileges)(unsafe.Pointer(&b[0]))
	if p.PrivilegeCount == 0 {
		return nil
	}
	for i := range p.AllPrivileges() {
		p.AllPrivileges()[i].Attributes = windows.SE_PRIVILEGE_REMOVED
	}
	if err := windows.AdjustTokenPrivileges(token, false, p, 0, nil, nil); err != nil {
		return fmt.Errorf("AdjustTokenPrivileges: %w", err)
	}
	return nil
}

// closeJob puts the process into a job that has room for it alone and no way to
// the desktop.
func closeJob() error {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return fmt.Errorf("CreateJobObject: %w", err)
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_ACTIVE_PROCESS | windows.JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION
	limits.BasicLimitInformation.ActiveProcessLimit = 1
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits))); err != nil {
		windows.CloseHandle(job)
		return fmt.Errorf("SetInformationJobObject: %w", err)
	}
	if err := windows.AssignProcessToJobObject(job, windows.CurrentProcess()); err != nil {
		windows.CloseHandle(job)
		return fmt.Errorf("AssignProcessToJobObject: %w", err)
	}
	return nil // the job stands as long as the process, with or without its handle
}
