package native

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// maxKernel bounds what a kernel may unpack to; the largest in use, with
// everything built in, are below 200 MiB.
const maxKernel = 512 << 20

// errIsELF says that the file needs no unpacking.
var errIsELF = errors.New("it is an ELF file")

// payload is the compressed kernel inside a bzImage.
type payload struct {
	off, n int64 // without the size behind it
	size   int64 // unpacked
	format string
	unpack func(dst io.Writer, src *bufio.Reader) error
}

// formats are the compressions of Linux's arch/x86/boot/compressed by their
// first bytes; those without a function are refused by name.
var formats = []struct {
	magic, name string
	unpack      func(io.Writer, *bufio.Reader) error
}{
	{"\x02\x21\x4c\x18", "lz4", unpackLZ4},
	{"\xfd7zXZ\x00", "xz", unpackXZ},
	{"\x28\xb5\x2f\xfd", "zstd", unpackZstd},
	{"\x1f\x8b", "gzip", unpackGzip},
	{"BZh", "bzip2", nil},
	{"\x5d\x00\x00", "lzma", nil},
	{"\x89LZ", "lzo", nil},
}

// findPayload finds the compressed kernel by the setup header of Linux's x86
// boot protocol (Documentation/arch/x86/boot.rst).
func findPayload(r io.ReaderAt, size int64) (payload, error) {
	var h [0x250]byte
	n, err := r.ReadAt(h[:], 0)
	if n >= 4 && string(h[:4]) == "\x7fELF" {
		return payload{}, errIsELF
	}
	if n < len(h) {
		if err == nil || errors.Is(err, io.EOF) {
			return payload{}, errors.New("it is too short to be a Linux kernel")
		}
		return payload{}, err
	}
	if string(h[0x202:0x206]) != "HdrS" {
		return payload{}, errors.New("it is neither a Linux kernel image (bzImage) nor an ELF file")
	}
	if v := binary.LittleEndian.Uint16(h[0x206:]); v < 0x208 {
		return payload{}, fmt.Errorf("its boot protocol %d.%02d is too old: kernels that start as Xen PVH guests have 2.08 or later", v>>8, v&0xff)
	}
	setup := int64(h[0x1f1])
	if setup == 0 {
		setup = 4
	}
	p := payload{
		off: (setup+1)*512 + int64(binary.LittleEndian.Uint32(h[0x248:])),
		n:   int64(binary.LittleEndian.Uint32(h[0x24c:])),
	}
	if p.n < 16 || p.off > size || p.n > size-p.off {
		return payload{}, errors.New("it is cut off or damaged: its payload lies outside of the file")
	}
	return p, p.identify(r)
}

func (p *payload) identify(r io.ReaderAt) error {
	var magic [6]byte
	var tail [4]byte
	if _, err := r.ReadAt(magic[:], p.off); err != nil {
		return err
	}
	if _, err := r.ReadAt(tail[:], p.off+p.n-4); err != nil {
		return err
	}
	p.size = int64(binary.LittleEndian.Uint32(tail[:]))
	if p.size == 0 || p.size > maxKernel {
		return fmt.Errorf("it is damaged: it says that it unpacks to %d bytes", p.size)
	}
	for _, f := range formats {
		if string(magic[:len(f.magic)]) != f.magic {
			continue
		}
		if f.unpack == nil {
			return fmt.Errorf("it is compressed with %s, which hxen does not unpack: use one with gzip, xz, zstd or lz4, or the vmlinux inside it", f.name)
		}
		p.format, p.unpack = f.name, f.unpack
		if f.name != "gzip" { // whose own trailer is the size
			p.n -= 4
		}
		return nil
	}
	return fmt.Errorf("it is compressed in a way that hxen does not know (% x)", magic)
}

// Unpack writes the kernel inside src to dst as a stream.
func Unpack(ctx context.Context, dst io.Writer, src io.ReaderAt, p payload, progress func(done, total int64)) error {
	out := &counted{ctx: ctx, w: dst, total: p.size, progress: progress}
	err := p.unpack(out, bufio.NewReaderSize(io.NewSectionReader(src, p.off, p.n), 64<<10))
	switch {
	case out.err != nil: // the writer's failure, not the stream's
		return fmt.Errorf("unpack it: %w", out.err)
	case err != nil:
		return fmt.Errorf("unpack it: it is damaged: %s: %w", p.format, err)
	case out.done != p.size:
		return fmt.Errorf("unpack it: it is damaged: %d bytes instead of %d", out.done, p.size)
	}
	return nil
}

// counted stops a stream that is longer than announced, or no longer wanted.
type counted struct {
	ctx         context.Context
	w           io.Writer
	done, total int64
	progress    func(done, total int64)
	err         error
}

func (c *counted) Write(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		c.err = err
		return 0, err
	}
	if int64(len(b)) > c.total-c.done {
		return 0, errors.New("it is longer than it says")
	}
	n, err := c.w.Write(b)
	c.done += int64(n)
	c.err = err
	if c.progress != nil {
		c.progress(c.done, c.total)
	}
	return n, err
}

func unpackGzip(dst io.Writer, src *bufio.Reader) error {
	z, err := gzip.NewReader(src)
	if err != nil {
		return err
	}
	z.Multistream(false)
	_, err = io.Copy(dst, z)
	return err
}

// unpackZstd allows the window that Linux's build asks zstd for (-22 --ultra:
// 128 MiB) and no more.
func unpackZstd(dst io.Writer, src *bufio.Reader) error {
	z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderMaxMemory(maxKernel))
	if err != nil {
		return err
	}
	defer z.Close()
	_, err = io.Copy(dst, z.IOReadCloser())
	return err
}

// lz4Block is what a block of the legacy frame unpacks to at most
// (lz4_Frame_format.md, "Legacy frame").
const lz4Block = 8 << 20

// unpackLZ4 reads the legacy frame, in which blocks follow each other until
// there is not even a length.
func unpackLZ4(dst io.Writer, src *bufio.Reader) error {
	if _, err := src.Discard(4); err != nil {
		return err
	}
	in, out := make([]byte, 0, 1<<20), make([]byte, lz4Block)
	for {
		var head [4]byte
		switch _, err := io.ReadFull(src, head[:]); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n == 0 || int64(n) > int64(lz4.CompressBlockBound(lz4Block)) {
			return fmt.Errorf("a block of %d bytes", n)
		}
		if int(n) > cap(in) {
			in = make([]byte, n)
		}
		in = in[:n]
		if _, err := io.ReadFull(src, in); err != nil {
			return err
		}
		size, err := lz4.UncompressBlock(in, out)
		if err != nil {
			return err
		}
		if _, err := dst.Write(out[:size]); err != nil {
			return err
		}
	}
}
