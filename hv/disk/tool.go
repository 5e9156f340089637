package disk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
)

// Tool makes and copies images with qemu-img.
type Tool struct {
	Img   string                               // qemu-img's path
	Start func(hv.Command) (hv.Process, error) // starts it; the process dies with the caller
	Limit time.Duration                        // how long one run may take; 0: an hour
}

const (
	createLimit = 30 * time.Second
	copyLimit   = time.Hour
)

// Create makes a blank, sparse qcow2 image of size bytes at path, which must not
// exist. On failure nothing is left behind.
func (t Tool) Create(ctx context.Context, path string, size int64) error {
	if size <= 0 || size > qcow2MaxSize || size%sector != 0 {
		return fmt.Errorf("make disk: a size of %d bytes cannot be: whole sectors of %d bytes are needed", size, sector)
	}
	return t.make(ctx, createLimit, path, func(part string) []string {
		return []string{"create", "-q", "-f", hv.QCOW2, "--", part, strconv.FormatInt(size, 10)}
	}, nil)
}

// CreateRaw makes a blank, sparse raw image of size bytes at path, which must not
// exist. It needs no tool.
func CreateRaw(path string, size int64) error {
	if size <= 0 || size%sector != 0 {
		return fmt.Errorf("make disk: a size of %d bytes cannot be: whole sectors of %d bytes are needed", size, sector)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	err = f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		os.Remove(path)
		return fmt.Errorf("make disk: %w", err)
	}
	return nil
}

// Overlay makes a qcow2 image at path, which must not exist, that holds what will
// differ from base. base is named as the image itself will look for it: relative
// to its folder. It must never change.
func (t Tool) Overlay(ctx context.Context, path, base, format string) error {
	if format != hv.Raw && format != hv.QCOW2 || filepath.IsAbs(base) || !strings.HasPrefix(base, "../") {
		return fmt.Errorf("make disk: %s (%s) cannot be built on", base, format)
	}
	return t.make(ctx, createLimit, path, func(part string) []string {
		return []string{"create", "-q", "-f", hv.QCOW2, "-F", format, "-b", base, "--", part}
	}, nil)
}

// CopyRaw copies a raw image to dst, which must not exist, without the room for
// what is zero. progress, which may be nil, gets 0 to 1. On failure or cancel
// nothing is left behind.
func CopyRaw(ctx context.Context, src, dst string, progress func(float64)) (err error) {
	from, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	defer func() {
		if cerr := to.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			_ = os.Remove(dst)
			err = fmt.Errorf("copy disk %s to %s: %w", src, dst, err)
		}
	}()
	size, err := from.Seek(0, io.SeekEnd) // a block device has no size in Stat
	if err == nil {
		err = to.Truncate(size)
	}
	buf, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); err == nil && at < size; at += int64(len(buf)) {
		piece := buf[:min(int64(len(buf)), size-at)]
		if err = ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if _, err = from.ReadAt(piece, at); err != nil {
			return err
		}
		if !bytes.Equal(piece, zero[:len(piece)]) {
			_, err = to.WriteAt(piece, at)
		}
		if progress != nil {
			progress(float64(at+int64(len(piece))) / float64(size))
		}
	}
	if err == nil {
		err = to.Sync()
	}
	return err
}

// Copy writes a whole qcow2 copy of src, which has the format that Inspect
// decided, to dst, which must not exist. progress gets 0 to 1. On failure or
// cancel nothing is left behind.
func (t Tool) Copy(ctx context.Context, src, format, dst string, progress func(float64)) error {
	from, err := source(src, format)
	if err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	limit := t.Limit
	if limit == 0 {
		limit = copyLimit
	}
	return t.make(ctx, limit, dst, func(part string) []string {
		return []string{"convert", "-p", "-O", hv.QCOW2, "--", from, part}
	}, progress)
}

// source names an image so that qemu-img can neither mistake the name for an
// option, a protocol or a list of settings, nor probe the format, nor follow a
// backing file that somebody wrote into the image after it was inspected: QEMU's
// json: pseudo-protocol, which carries what -f would say.
func source(path, format string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if !utf8.ValidString(abs) {
		return "", fmt.Errorf("the name %q is not valid UTF-8; rename the file", abs)
	}
	node := map[string]any{"driver": format, "file": map[string]any{"driver": "file", "filename": abs}}
	switch format {
	case hv.QCOW2:
		node["backing"] = nil
	case hv.Raw:
	default:
		return "", fmt.Errorf("%s: a %s image cannot be copied; it must be raw or qcow2", abs, format)
	}
	b, err := json.Marshal(node)
	return "json:" + string(b), err
}

// make has qemu-img write a file beside dst and gives it its name at the end.
func (t Tool) make(ctx context.Context, limit time.Duration, dst string, args func(part string) []string, progress func(float64)) error {
	// An absolute name begins with neither '-' nor a protocol (block.c,
	// path_has_protocol: a ':' counts only before the first '/').
	dst, err := filepath.Abs(dst)
	if err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	if t.Img == "" {
		return fmt.Errorf("make disk %s: qemu-img is missing; install QEMU's tools (Debian, Ubuntu: apt install qemu-utils): %w", dst, hv.ErrUnavailable)
	}
	if _, err := os.Lstat(dst); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make disk: %s is there already", dst)
	}
	part := dst + ".part"
	defer os.Remove(part) // what failed; after the rename there is nothing to remove
	if err := t.run(ctx, limit, args(part), progress); err != nil {
		return fmt.Errorf("make disk %s: %w", dst, err)
	}
	if err := settle(part, dst); err != nil {
		return fmt.Errorf("make disk %s: %w", dst, err)
	}
	return nil
}

// settle makes sure that part is on the disk (qemu-img convert does not: its
// default cache mode is unsafe) before it gets its name.
func settle(part, dst string) error {
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return savefile.Rename(part, dst)
}

// run runs qemu-img to its end, or kills it when ctx ends or limit has passed.
func (t Tool) run(ctx context.Context, limit time.Duration, args []string, progress func(float64)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("qemu-img did not end within %v", limit))
	defer cancel()
	stderr := &tail{}
	p, err := t.Start(hv.Command{Path: t.Img, Args: args, Env: append(os.Environ(), "LC_ALL=C"),
		Stdout: &percent{report: progress}, Stderr: stderr})
	if err != nil {
		return fmt.Errorf("start qemu-img: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Kill() }) // its end is what Wait tells
	code, err := p.Wait()
	if !stop() && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if code == 0 && err == nil {
		return nil
	}
	if text := stderr.sentence(); text != "" {
		return errors.New(text)
	}
	return fmt.Errorf("qemu-img ended with code %d: %w", code, err)
}

// tail keeps the last bytes of what a program says.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 2048
	t.b = append(t.b, p...)
	if n := len(t.b) - keep; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

// sentence is the last line, without the program's name.
func (t *tail) sentence() string {
	lines := strings.Split(strings.TrimSpace(string(t.b)), "\n")
	return printable(strings.TrimPrefix(lines[len(lines)-1], "qemu-img: "))
}

// percent reads "(12.34/100%)" from qemu-img -p.
type percent struct {
	report func(float64)
	rest   []byte
}

func (p *percent) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for {
		open := bytes.IndexByte(p.rest, '(')
		if open < 0 {
			p.rest = p.rest[:0]
			break
		}
		end := bytes.IndexByte(p.rest[open:], ')')
		if end < 0 {
			if len(p.rest) > 64 {
				p.rest = p.rest[:0] // no progress line is that long
			}
			break
		}
		done, _, _ := strings.Cut(string(p.rest[open+1:open+end]), "/")
		if v, err := strconv.ParseFloat(done, 64); err == nil && p.report != nil && v >= 0 && v <= 100 {
			p.report(v / 100)
		}
		p.rest = append(p.rest[:0], p.rest[open+end+1:]...)
	}
	return len(b), nil
}
