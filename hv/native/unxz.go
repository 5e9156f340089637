package native

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// Linux packs x86 kernels with xz's x86 filter in front of LZMA2, which the xz
// package refuses. Its LZMA2 decoder does the work here; the container and the
// filter are in this file and bcj.go (xz-file-format.txt).

const (
	xzFilterX86   = 0x04
	xzFilterLZMA2 = 0x21
	maxXZDict     = 128 << 20
)

var errXZ = errors.New("the container is not valid")

// tally counts what is read, for the padding behind a block.
type tally struct {
	*bufio.Reader
	n int64
}

func (t *tally) Read(b []byte) (int, error) {
	n, err := t.Reader.Read(b)
	t.n += int64(n)
	return n, err
}

func (t *tally) ReadByte() (byte, error) {
	b, err := t.Reader.ReadByte()
	if err == nil {
		t.n++
	}
	return b, err
}

func unpackXZ(dst io.Writer, src *bufio.Reader) error {
	var head [12]byte
	if _, err := io.ReadFull(src, head[:]); err != nil {
		return err
	}
	if head[6] != 0 || head[7] > 15 || crc32.ChecksumIEEE(head[6:8]) != binary.LittleEndian.Uint32(head[8:]) {
		return errXZ
	}
	for {
		more, err := unpackXZBlock(dst, src, head[7])
		if err != nil || !more {
			return err // the index behind the last block says nothing that the checks have not
		}
	}
}

// newXZCheck is the integrity check of a stream, by its type.
func newXZCheck(typ byte) (sum hash.Hash, order func([]byte) []byte, err error) {
	reversed := func(b []byte) []byte {
		for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
		return b
	}
	same := func(b []byte) []byte { return b }
	switch typ {
	case 1:
		return crc32.NewIEEE(), reversed, nil
	case 4:
		return crc64.New(crc64.MakeTable(crc64.ECMA)), reversed, nil
	case 10:
		return sha256.New(), same, nil
	}
	return nil, nil, fmt.Errorf("a check of type %d, which no kernel has", typ)
}

// unpackXZBlock unpacks one block; more is false at the index.
func unpackXZBlock(dst io.Writer, src *bufio.Reader, check byte) (more bool, err error) {
	size, err := src.ReadByte()
	if err != nil || size == 0 {
		return false, err
	}
	head := make([]byte, (int(size)+1)*4)
	head[0] = size
	if _, err := io.ReadFull(src, head[1:]); err != nil {
		return false, err
	}
	body := head[:len(head)-4]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(head[len(body):]) {
		return false, errXZ
	}
	dict, x86, err := xzFilters(body)
	if err != nil {
		return false, err
	}
	sum, order, err := newXZCheck(check)
	if err != nil {
		return false, err
	}
	in := &tally{Reader: src}
	z, err := lzma.Reader2Config{DictCap: dict}.NewReader2(in)
	if err != nil {
		return false, err
	}
	out := io.MultiWriter(dst, sum)
	if x86 {
		f := &x86Filter{w: out}
		if _, err = io.Copy(f, z); err == nil {
			err = f.flush()
		}
	} else {
		_, err = io.Copy(out, z)
	}
	if err != nil {
		return false, err
	}
	tail := make([]byte, int(-in.n&3)+sum.Size())
	if _, err := io.ReadFull(src, tail); err != nil {
		return false, err
	}
	if !bytes.Equal(order(sum.Sum(nil)), tail[len(tail)-sum.Size():]) {
		return false, errors.New("the checksum is wrong")
	}
	return true, nil
}

// xzFilters reads a block header's chain: LZMA2, or x86 before it.
func xzFilters(body []byte) (dict int, x86 bool, err error) {
	flags, b := body[1], body[2:]
	if flags&0x3c != 0 {
		return 0, false, errXZ
	}
	ok := true
	vli := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			ok, b = false, nil
			return 0
		}
		b = b[n:]
		return v
	}
	for _, present := range []byte{0x40, 0x80} { // the sizes, which the checks cover
		if flags&present != 0 {
			vli()
		}
	}
	for i, last := 0, int(flags&3); i <= last; i++ {
		id, n := vli(), vli()
		if !ok || n > uint64(len(b)) {
			return 0, false, errXZ
		}
		props := b[:n]
		b = b[n:]
		switch {
		case id == xzFilterX86 && len(props) == 0 && i == 0 && last == 1:
			x86 = true
		case id == xzFilterLZMA2 && len(props) == 1 && i == last:
			dict, err = xzDict(props[0])
		default:
			return 0, false, fmt.Errorf("filter %#x, which x86 kernels do not use", id)
		}
	}
	return dict, x86, err
}

// xzDict decodes LZMA2's dictionary size.
func xzDict(b byte) (int, error) {
	if b > 40 {
		return 0, errXZ
	}
	n := uint64(2|b&1) << (b/2 + 11)
	if n > maxXZDict {
		return 0, fmt.Errorf("a dictionary of %d MiB", n>>20)
	}
	return int(n), nil
}
