package hvtest

import (
	"context"
	"encoding/binary"
	"io"
	"net"
)

// Chatter is an hv.Host's Dial: a network that takes everything and sends frames of
// all lengths.
func Chatter(context.Context, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go io.Copy(io.Discard, theirs)
	go func() {
		defer theirs.Close()
		for n := uint32(14); ; n = 14 + (n*31)%9000 {
			frame := append(binary.BigEndian.AppendUint32(nil, n), make([]byte, n)...)
			if _, err := theirs.Write(frame); err != nil {
				return
			}
		}
	}()
	return ours, nil
}
