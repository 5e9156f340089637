package native

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// OpenKernel opens the guest kernel at path as an ELF file that can be mapped.
// A compressed kernel is unpacked once into dir, under a name made of its hash,
// and found there afterwards, without hashing it again while it stays as it is. The
// caller closes the file. progress, which may be nil, is told the bytes unpacked and
// their number.
func OpenKernel(ctx context.Context, path, dir string, progress func(done, total int64)) (*os.File, *Kernel, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open the kernel: %w", err)
	}
	k, f, err := openKernelFile(ctx, src, dir, progress)
	if f != src {
		src.Close()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("load the kernel %s: %w", path, err)
	}
	return f, k, nil
}

func openKernelFile(ctx context.Context, src *os.File, dir string, progress func(done, total int64)) (*Kernel, *os.File, error) {
	info, err := src.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("it is not a plain file")
	}
	k, p, err := look(src, info.Size())
	switch {
	case err != nil:
		return nil, nil, err
	case k != nil:
		return k, src, nil
	}
	note, err := noteOf(src, info, dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read it: %w", err)
	}
	if b, err := os.ReadFile(note); err == nil {
		sum, err := hex.DecodeString(string(b))
		if err == nil && len(sum) == sha256.Size {
			if k, f, err := openELF(filepath.Join(dir, hex.EncodeToString(sum)+".elf")); err == nil {
				return k, f, nil
			}
		}
	}
	k, f, err := unpacked(ctx, src, info.Size(), p, dir, progress)
	if err != nil {
		return nil, nil, err
	}
	// One that was written just now may be written again without another date. Without
	// the note the next start takes longer.
	if time.Since(info.ModTime()) > noteAge {
		_ = os.WriteFile(note, []byte(strings.TrimSuffix(filepath.Base(f.Name()), ".elf")), 0o600)
	}
	return k, f, nil
}

const (
	noteAge  = 10 * time.Second
	notePart = 16 << 10
)

// noteOf names the file in dir that says under which hash the kernel at a path was
// unpacked: to hash it again takes longer than to start a clone. The kernel is as it
// was if path, size, date, and its beginning and end are: there are its version and its
// checksum (x86/boot.rst).
func noteOf(src *os.File, info os.FileInfo, dir string) (string, error) {
	path, err := filepath.Abs(src.Name())
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%s %d %d ", path, info.Size(), info.ModTime().UnixNano())
	for _, off := range []int64{0, max(info.Size()-notePart, 0)} {
		if _, err := io.Copy(sum, io.NewSectionReader(src, off, notePart)); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, hex.EncodeToString(sum.Sum(nil))+".sum"), nil
}

// openKernel opens the kernel in src, of size bytes. Without a file it is an ELF
// file as it is, in src.
func openKernel(ctx context.Context, src io.ReaderAt, size int64, dir string, progress func(done, total int64)) (*Kernel, *os.File, error) {
	k, p, err := look(src, size)
	if k != nil || err != nil {
		return k, nil, err
	}
	return unpacked(ctx, src, size, p, dir, progress)
}

// look tells what a kernel is: an ELF file as it is, or else the payload that holds one.
func look(src io.ReaderAt, size int64) (*Kernel, payload, error) {
	p, err := findPayload(src, size)
	if errors.Is(err, errIsELF) {
		k, err := ParseELF(src, size)
		return k, payload{}, err
	}
	return nil, p, err
}

// unpacked finds the kernel of src's payload p in dir, or unpacks it to there.
func unpacked(ctx context.Context, src io.ReaderAt, size int64, p payload, dir string, progress func(done, total int64)) (*Kernel, *os.File, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(src, 0, size)); err != nil {
		return nil, nil, fmt.Errorf("read it: %w", err)
	}
	kept := filepath.Join(dir, hex.EncodeToString(sum.Sum(nil))+".elf")
	if k, f, err := openELF(kept); err == nil {
		return k, f, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("unpack it: %w", err)
	}
	unpacking := unpackTo(ctx, kept, src, p, progress)
	// Windows does not replace what another guest has unpacked meanwhile and has open.
	k, f, err := openELF(kept)
	if err != nil && unpacking != nil {
		err = unpacking
	}
	return k, f, err
}

func openELF(path string) (*Kernel, *os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	k, err := ParseELF(f, info.Size())
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return k, f, nil
}

// unpackTo makes the file at path appear whole or not at all: two guests may
// unpack the same kernel at once, and the power may fail.
func unpackTo(ctx context.Context, path string, src io.ReaderAt, p payload, progress func(done, total int64)) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".unpack-*")
	if err != nil {
		return fmt.Errorf("unpack it: %w", err)
	}
	defer func() {
		tmp.Close()
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	if err := Unpack(ctx, tmp, src, p, progress); err != nil {
		return err
	}
	if _, err := ParseELF(tmp, p.size); err == nil { // what it is instead is told by who opens it
		if err := trimZeros(tmp); err != nil {
			return fmt.Errorf("unpack it: %w", err)
		}
	}
	if err := tmp.Sync(); err != nil {
		return fmt.Errorf("unpack it: %w", err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("unpack it: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("keep it unpacked: %w", err)
	}
	return nil
}
