//go:build !linux

package diskfile

import "io"

// each moves one buffer after the other.
func each(move func([]byte, int64) (int, error), bufs [][]byte, off int64) error {
	for _, b := range bufs {
		n, err := move(b, off)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}
