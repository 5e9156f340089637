package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"

	"github.com/landlock-lsm/go-landlock/landlock"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

var applied atomic.Bool

func apply(p Policy) (Report, error) {
	if !applied.CompareAndSwap(false, true) {
		return Report{}, ErrTooLate
	}
	var r Report
	if err := limits(p); err != nil {
		return r, err
	}
	version, err := restrictFiles(p)
	if err != nil {
		return r, fmt.Errorf("give up files: %w", err)
	}
	if version > 0 {
		r.Walls = append(r.Walls, fmt.Sprintf("landlock %d", version))
	} else {
		r.Missing = "this Linux has no Landlock (5.13 and later have, where \"landlock\" is in the kernel's lsm= list): the worker can open all files of its user"
	}
	if err := restrictCalls(p); err != nil {
		return r, fmt.Errorf("give up system calls: %w", err)
	}
	r.Walls = append(r.Walls, "seccomp")
	return r, nil
}

// limits keeps a guest's memory out of core files, and bounds open files.
func limits(p Policy) error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("set the limit of core files: %w", err)
	}
	if p.Files == 0 {
		return nil
	}
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	n := min(p.Files, now.Max)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}); err != nil {
		return fmt.Errorf("set the limit of open files to %d: %w", n, err)
	}
	return nil
}

// restrictFiles applies Landlock and returns its version, 0 where there is none.
// Also where seccomp would do: no TCP, no abstract sockets. Signals are not
// scoped: the children that were started before lie outside of the scope, and
// must be ended some day.
func restrictFiles(p Policy) (version int, err error) {
	version, err = llsys.LandlockGetABIVersion()
	if err != nil || version == 0 {
		return 0, nil
	}
	config, err := landlock.NewConfig(allFiles, allNet, abstractSockets)
	if err != nil {
		return 0, err
	}
	var rules []landlock.Rule
	for _, list := range []struct {
		paths        []string
		file, folder landlock.AccessFSSet
	}{
		{p.Read, readFile, readFile | readDir},
		{p.Write, readFile | writeFile, readFile | readDir | writeFile | changeDir},
	} {
		for _, path := range list.paths {
			st, err := os.Stat(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return 0, err
			}
			access := list.file
			if st.IsDir() {
				access = list.folder
			}
			rules = append(rules, landlock.PathAccess(access, path))
		}
	}
	return version, config.BestEffort().Restrict(rules...)
}

// Landlock's rights, of its third version (Linux 6.2; older ones know fewer, and
// are asked for no more): linux/landlock.h, LANDLOCK_ACCESS_FS_* and so on.
const (
	allFiles        = landlock.AccessFSSet(1<<15 - 1)
	allNet          = landlock.AccessNetSet(llsys.AccessNetBindTCP | llsys.AccessNetConnectTCP)
	abstractSockets = landlock.ScopedSet(llsys.ScopeAbstractUnixSocket)

	readFile  = landlock.AccessFSSet(llsys.AccessFSReadFile)
	readDir   = landlock.AccessFSSet(llsys.AccessFSReadDir)
	writeFile = landlock.AccessFSSet(llsys.AccessFSWriteFile | llsys.AccessFSTruncate)
	changeDir = landlock.AccessFSSet(llsys.AccessFSMakeReg | llsys.AccessFSRemoveFile | llsys.AccessFSMakeDir | llsys.AccessFSRemoveDir)
)
