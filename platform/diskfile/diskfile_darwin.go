package diskfile

import (
	"errors"
	"os"
)

func readV(f *os.File, bufs [][]byte, off int64) error  { return each(f.ReadAt, bufs, off) }
func writeV(f *os.File, bufs [][]byte, off int64) error { return each(f.WriteAt, bufs, off) }

// flush: Sync is F_FULLFSYNC here.
func flush(f *os.File) error { return f.Sync() }

func discard(*os.File, int64, int64) error { return errors.ErrUnsupported }

// lock: QEMU has no locks on this system that another program could honour.
func lock(*os.File, bool) error { return nil }
