package diskfile

import (
	"errors"
	"os"
)

func readV(f *os.File, bufs [][]byte, off int64) error  { return each(f.ReadAt, bufs, off) }
func writeV(f *os.File, bufs [][]byte, off int64) error { return each(f.WriteAt, bufs, off) }

// flush: Sync is FlushFileBuffers.
func flush(f *os.File) error { return f.Sync() }

func discard(*os.File, int64, int64) error { return errors.ErrUnsupported }

// lock: none that programs agree on.
func lock(*os.File, bool) error { return nil }
