// Package confine takes away from the calling process what it will not need any
// more, for good, so that whoever takes it over gains nothing: which files it may
// open, which system calls it may make, how much it may use.
//
//	Apply(Policy) (Report, error)
//
// Linux: no new privileges, Landlock, seccomp and resource limits, each as far as
// the kernel has it. macOS and Windows offer an ordinary program nothing of the
// kind for itself; Apply says so in its Report.
//
// The package knows nothing of guests: who calls it says what is still needed.
package confine

import "errors"

// Policy is what the process may still do after Apply. Sockets, pipes and files
// that are open stay usable; new sockets, programs, privileges, and everything
// that is not on the list, are refused with "operation not permitted".
type Policy struct {
	// Read are the files and folders (with all below them) that it may still open
	// for reading. What is not there is left out.
	Read []string
	// Write are those that it may also write, and in which it may make, rename and
	// remove files. A file must be there; a folder that is not is left out.
	Write []string
	// Ioctl is the type (bits 15:8 of the request number, Linux's _IOC_TYPE) of the
	// ioctls that it may make; 0: none.
	Ioctl uint8
	// Files bounds how many files it may have open; 0: as many as now.
	Files uint64
}

// Report is what Apply could do on this system.
type Report struct {
	// Walls are the parts that stand now, in the system's words with their version
	// where they have one: "seccomp", "landlock 4". Empty: none.
	Walls []string
	// Missing says in a sentence what this system does not have, and what brings
	// it; empty if nothing is missing.
	Missing string
}

// ErrTooLate says that a process can be confined only once by this package.
var ErrTooLate = errors.New("this process is confined already")

// Apply confines the whole process, all its threads at once. On an error some
// walls may stand: the process should end then.
func Apply(p Policy) (Report, error) { return apply(p) }
