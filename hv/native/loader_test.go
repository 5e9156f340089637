package native

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/hxen-project/hxen/hv/guestmem"
)

const entry = 0x100010

// note is one ELF note.
func note(name string, typ uint32, desc []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, typ)
	for _, s := range [][]byte{[]byte(name), desc} {
		b = append(b, s...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}

// tinyELF is a kernel with a segment at 1 MiB and one with nothing in the file.
func tinyELF(bits int, notes, code []byte) []byte {
	var b bytes.Buffer
	put := func(v ...any) {
		for _, x := range v {
			_ = binary.Write(&b, binary.LittleEndian, x)
		}
	}
	b.WriteString("\x7fELF")
	notesAt, codeAt := uint64(256), uint64(256+len(notes))
	if bits == 64 {
		put([12]byte{2, 1, 1}, uint16(2), uint16(62), uint32(1), uint64(0), uint64(64), uint64(0), uint32(0), uint16(64), uint16(56), uint16(3), [6]byte{})
		put(uint32(4), uint32(0), notesAt, uint64(0), uint64(0), uint64(len(notes)), uint64(len(notes)), uint64(4))
		put(uint32(1), uint32(5), codeAt, uint64(1)<<63, uint64(0x100000), uint64(len(code)), uint64(len(code)+4096), uint64(1))
		put(uint32(1), uint32(6), uint64(0), uint64(0), uint64(0x1000000), uint64(0), uint64(8192), uint64(1))
	} else {
		put([12]byte{1, 1, 1}, uint16(2), uint16(3), uint32(1), uint32(0), uint32(52), uint32(0), uint32(0), uint16(52), uint16(32), uint16(3), [6]byte{})
		put(uint32(4), uint32(notesAt), uint32(0), uint32(0), uint32(len(notes)), uint32(len(notes)), uint32(0), uint32(4))
		put(uint32(1), uint32(codeAt), uint32(0), uint32(0x100000), uint32(len(code)), uint32(len(code)+4096), uint32(5), uint32(1))
		put(uint32(1), uint32(0), uint32(0), uint32(0x1000000), uint32(0), uint32(8192), uint32(6), uint32(1))
	}
	for b.Len() < 256 {
		b.WriteByte(0)
	}
	b.Write(notes)
	b.Write(code)
	return b.Bytes()
}

func entry4() []byte { return binary.LittleEndian.AppendUint32(nil, entry) }
func entry8() []byte { return binary.LittleEndian.AppendUint64(nil, entry) }

// branchy is data full of what the x86 filter may take for branches. Its
// seed is fixed: testdata/branchy.xz is made of it, by
//
//	xz --check=crc32 --x86 --lzma2=dict=1MiB
func branchy() []byte {
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 160<<10)
	for i := range b {
		b[i] = "\xe8\xe9\x00\xff\x90\x01\xe8\x00"[r.IntN(8)]
	}
	return b
}

func bzImage(stream []byte, size int) []byte {
	b := make([]byte, 5*512+64)
	b[0x1f1] = 4
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	binary.LittleEndian.PutUint32(b[0x248:], 64)
	if !bytes.HasPrefix(stream, []byte("\x1f\x8b")) {
		stream = binary.LittleEndian.AppendUint32(slices.Clone(stream), uint32(size))
	}
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(len(stream)))
	return append(append(b, stream...), "what follows"...)
}

// packed is data in every format but xz.
func packed(t testing.TB, data []byte) map[string][]byte {
	t.Helper()
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, _ = w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil, zstd.WithWindowSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	l := []byte("\x02\x21\x4c\x18")
	block := make([]byte, lz4.CompressBlockBound(lz4Block))
	for rest := data; len(rest) > 0; {
		n, err := lz4.CompressBlock(rest[:min(len(rest), lz4Block)], block, nil)
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
		l = append(binary.LittleEndian.AppendUint32(l, uint32(n)), block[:n]...)
		rest = rest[min(len(rest), lz4Block):]
	}
	return map[string][]byte{"gzip": gz.Bytes(), "zstd": z.EncodeAll(data, nil), "lz4": l}
}

func write(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKernelNote: a kernel that stays as it is is hashed once, and one in its place is
// seen.
func TestKernelNote(t *testing.T) {
	note18 := note("Xen\x00", 18, entry8())
	first, other := tinyELF(64, note18, bytes.Repeat([]byte("code "), 20_000)), tinyELF(64, note18, bytes.Repeat([]byte("more "), 20_000))
	path, dir := write(t, bzImage(packed(t, first)["gzip"], len(first))), t.TempDir()
	open := func(want []byte) (name string) {
		t.Helper()
		f, _, err := OpenKernel(t.Context(), path, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got, _ := io.ReadAll(f); !bytes.Equal(got, want) {
			t.Errorf("it holds %.40q", got)
		}
		return f.Name()
	}
	notes := func(want int) string {
		t.Helper()
		all, _ := filepath.Glob(filepath.Join(dir, "*.sum"))
		if len(all) != want {
			t.Fatalf("notes: %q", all)
		}
		return strings.Join(all, "")
	}
	open(first)
	notes(0) // it is too young
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	kept := open(first)
	// That it is used shows where it leads elsewhere.
	elsewhere := strings.Repeat("0a", 32)
	mark := notes(1)
	if err := os.WriteFile(filepath.Join(dir, elsewhere+".elf"), other, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sum  string
		want []byte
	}{{elsewhere, other}, {strings.Repeat("0b", 32), first}, {"../../etc/passwd", first}, {"", first}} { // the last one's is made anew
		if err := os.WriteFile(mark, []byte(c.sum), 0o600); err != nil {
			t.Fatal(err)
		}
		open(c.want)
	}
	if open(first) != kept {
		t.Error("it was kept under another name")
	}
	if err := os.WriteFile(path, bzImage(packed(t, other)["gzip"], len(other)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	open(other)
	notes(2)
}

func TestFormats(t *testing.T) {
	// More than one block of lz4, and notes of others before ours.
	notes := slices.Concat(note("Xen\x00", 6, []byte("linux\x00")), note("GNU\x00", 18, entry8()), note("Xen\x00", 18, entry8()))
	image := tinyELF(64, notes, bytes.Repeat([]byte("code and data "), 700_000))
	for format, stream := range packed(t, image) {
		path, dir := write(t, bzImage(stream, len(image))), t.TempDir()
		for range 2 { // unpacked, then found
			var done, total int64
			f, k, err := OpenKernel(t.Context(), path, dir, func(d, n int64) { done, total = d, n })
			if err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			got, _ := io.ReadAll(f)
			f.Close()
			if !bytes.Equal(got, image) || k.Entry != entry || k.Bits != 64 || k.Top != 0x1002000 {
				t.Errorf("%s: %+v, %d bytes", format, k, len(got))
			}
			if done != total {
				t.Errorf("%s: %d of %d told", format, done, total)
			}
		}
		if files, _ := os.ReadDir(dir); len(files) != 1 {
			t.Errorf("%s: %d files kept", format, len(files))
		}
	}
	path := write(t, tinyELF(32, note("Xen\x00", 18, entry4()), make([]byte, 64)))
	f, k, err := OpenKernel(t.Context(), path, "/nowhere", nil)
	if err != nil || k.Bits != 32 || k.Entry != entry || f.Name() != path {
		t.Fatalf("%+v, %v", k, err)
	}
	f.Close()
}

func TestXZ(t *testing.T) {
	stream, err := os.ReadFile("testdata/branchy.xz")
	if err != nil {
		t.Fatal(err)
	}
	want := branchy()
	image := bzImage(stream, len(want))
	p, err := findPayload(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Unpack(t.Context(), &out, bytes.NewReader(image), p, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Error("the filter is not undone")
	}
	for i := p.off + 12; i < p.off+p.n; i += 9973 { // any bit that flips is found
		bad := bytes.Clone(image)
		bad[i] ^= 4
		if i >= p.off+p.n-24-8 {
			break // the index and the footer, which are not looked at
		}
		if err := Unpack(t.Context(), io.Discard, bytes.NewReader(bad), p, nil); err == nil {
			t.Errorf("damage at %d of %d was not noticed", i-p.off, p.n)
		}
	}
}

// TestUnpackedTwice: a guest that unpacks a kernel while another one does, and has it
// open before, starts as well.
func TestUnpackedTwice(t *testing.T) {
	dir := t.TempDir()
	image := tinyELF(64, note("Xen\x00", 18, entry8()), []byte("code"))
	path := write(t, bzImage(packed(t, image)["gzip"], len(image)))
	var other *os.File
	f, _, err := OpenKernel(t.Context(), path, dir, func(_, _ int64) {
		if other == nil {
			var err error
			if other, _, err = OpenKernel(t.Context(), path, dir, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
	if err != nil || other == nil {
		t.Fatalf("%v, %v", other, err)
	}
	for _, f := range []*os.File{f, other} {
		if b, err := io.ReadAll(f); err != nil || !bytes.Equal(b, image) {
			t.Errorf("%d bytes of %d: %v", len(b), len(image), err)
		}
		f.Close()
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("left: %q", left)
	}
}

func TestLoad(t *testing.T) {
	code := bytes.Repeat([]byte{1, 2, 3}, 100_000)
	image := tinyELF(64, note("Xen\x00", 18, entry8()), code)
	k, err := ParseELF(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	ram := guestmem.Host(8 << 20 >> 12)
	mem := guestmem.New(guestmem.Config{})
	if err := mem.Add(0, ram); err != nil {
		t.Fatal(err)
	}
	if err := mem.Add(16<<20, guestmem.Host(2)); err != nil {
		t.Fatal(err)
	}
	if err := k.Load(bytes.NewReader(image), mem); err != nil {
		t.Fatal(err)
	}
	end := 0x100000 + len(code)
	if !bytes.Equal(ram[0x100000:end], code) || bytes.Count(ram, []byte{0}) != len(ram)-len(code) {
		t.Error("the segment is not where it belongs")
	}
	small := guestmem.New(guestmem.Config{})
	_ = small.Add(0, guestmem.Host(256))
	if err := k.Load(bytes.NewReader(image), small); err == nil || !strings.Contains(err.Error(), "more than the guest has") {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	good := tinyELF(64, note("Xen\x00", 18, entry8()), make([]byte, 100))
	edit := func(b []byte, off int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[off:], v)
		return b
	}
	stream := packed(t, good)
	for name, c := range map[string]struct {
		file []byte
		says string
	}{
		"empty":                {nil, "too short"},
		"a text":               {bytes.Repeat([]byte("text "), 1000), "neither"},
		"no note":              {tinyELF(64, note("Xen\x00", 6, entry8()), make([]byte, 100)), "CONFIG_PVH"},
		"a foreign note":       {tinyELF(64, note("GNU\x00", 18, entry8()), make([]byte, 100)), "CONFIG_PVH"},
		"an odd note":          {tinyELF(64, note("Xen\x00", 18, []byte{1, 2, 3}), make([]byte, 100)), "CONFIG_PVH"},
		"an entry outside":     {tinyELF(64, note("Xen\x00", 18, make([]byte, 8)), make([]byte, 100)), "entry"},
		"arm":                  {edit(good, 18, 183), "x86-64"},
		"cut off":              {good[:300], "cut off"},
		"too many headers":     {edit(good, 56, 0xff, 0xff), "program headers"},
		"overlapping segments": {edit(good, 64+112+24, 0, 0, 0x10, 0), "two segments"},
		"above 4 GiB":          {edit(good, 64+112+24+4, 1), "segment"},
		"an old protocol":      {edit(bzImage(stream["gzip"], 1), 0x206, 7, 2), "too old"},
		"a payload outside":    {edit(bzImage(stream["gzip"], 1), 0x24f, 0x7f), "payload"},
		"lzma":                 {bzImage([]byte("\x5d\x00\x00and so on...."), 100), "lzma"},
		"nothing known":        {bzImage([]byte("what is this? ...."), 100), "does not know"},
		"a huge size":          {bzImage(stream["zstd"], 1<<31), "unpacks to"},
		"a size too small":     {bzImage(stream["zstd"], len(good)-1), "longer"},
		"a size too large":     {bzImage(stream["lz4"], len(good)+1), "instead of"},
		"a cut stream":         {bzImage(stream["zstd"][:60], len(good)), "zstd"},
	} {
		dir := t.TempDir()
		f, _, err := OpenKernel(t.Context(), write(t, c.file), dir, nil)
		if err == nil {
			f.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if files, _ := os.ReadDir(dir); len(files) != 0 {
			t.Errorf("%s left %s behind", name, files[0].Name())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := OpenKernel(ctx, write(t, bzImage(stream["zstd"], len(good))), t.TempDir(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	if _, _, err := OpenKernel(t.Context(), filepath.Join(t.TempDir(), "none"), t.TempDir(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestRealKernels unpacks the kernels in the folder that HXEN_KERNELS names,
// each by our code and by the system's own program.
func TestRealKernels(t *testing.T) {
	dir := os.Getenv("HXEN_KERNELS")
	kernels, _ := filepath.Glob(filepath.Join(dir, "vmlinuz*"))
	if dir == "" || len(kernels) == 0 {
		t.Skip("needs Linux kernels: HXEN_KERNELS names no folder with vmlinuz files")
	}
	tools := map[string][]string{"gzip": {"gzip", "-dc"}, "xz": {"xz", "-dc"}, "zstd": {"zstd", "-dc", "--long=31"}, "lz4": {"lz4", "-dc"}}
	for _, path := range kernels {
		f, k, err := OpenKernel(t.Context(), path, t.TempDir(), nil)
		if err != nil {
			t.Error(err)
			continue
		}
		ours := sha256.New()
		_, _ = io.Copy(ours, f)
		f.Close()
		src, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		info, _ := src.Stat()
		p, err := findPayload(src, info.Size())
		if err != nil {
			t.Fatal(err)
		}
		tool := tools[p.format]
		theirs := sha256.New()
		cmd := exec.Command(tool[0], tool[1:]...)
		cmd.Stdin, cmd.Stdout = io.NewSectionReader(src, p.off, p.n), theirs
		if err := cmd.Run(); err != nil {
			t.Errorf("%s: %s: %v", path, p.format, err)
		}
		if !bytes.Equal(ours.Sum(nil), theirs.Sum(nil)) {
			t.Errorf("%s: %s says otherwise", path, tool[0])
		}
		t.Logf("%s: %s, %d bytes, entry %#x, top %#x", filepath.Base(path), p.format, p.size, k.Entry, k.Top)
	}
}

// TestTrimZeros: what is kept of a kernel is read without the zeros at its end, and
// the guest finds the same in its memory.
func TestTrimZeros(t *testing.T) {
	code := slices.Concat([]byte("code"), make([]byte, 100_000), []byte("data"), make([]byte, 300_000))
	for bits, desc := range map[int][]byte{32: entry4(), 64: entry8()} {
		image := tinyELF(bits, note("Xen\x00", 18, desc), code)
		f, k, err := OpenKernel(t.Context(), write(t, bzImage(packed(t, image)["gzip"], len(image))), t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if s := k.Segments[0]; s.FileSize != 100_008 || s.MemSize != uint64(len(code)+4096) || k.Segments[1].FileSize != 0 {
			t.Errorf("%d bits: %+v", bits, k.Segments)
		}
		ram := guestmem.Host(17 << 20 >> 12)
		mem := guestmem.New(guestmem.Config{})
		if err := errors.Join(mem.Add(0, ram), k.Load(f, mem)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ram[0x100000:0x100000+len(code)], code) {
			t.Errorf("%d bits: the guest finds something else", bits)
		}
	}
}

// memFile is a file in memory.
type memFile []byte

func (m memFile) ReadAt(p []byte, off int64) (int, error)  { return bytes.NewReader(m).ReadAt(p, off) }
func (m memFile) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// FuzzKernel opens whatever a user may take for a kernel.
func FuzzKernel(f *testing.F) {
	tiny := tinyELF(64, note("Xen\x00", 18, entry8()), []byte("code"))
	f.Add(tiny)
	f.Add(tinyELF(32, note("Xen\x00", 18, entry4()), []byte("code")))
	for _, s := range packed(f, bytes.Repeat(tiny, 3)) {
		f.Add(bzImage(s, 3*len(tiny)))
	}
	if s, err := os.ReadFile("testdata/tiny.xz"); err == nil {
		f.Add(bzImage(s, 1000))
	}
	ram := guestmem.Host(17 << 20 >> 12)
	f.Fuzz(func(t *testing.T, file []byte) {
		r := bytes.NewReader(file)
		if p, err := findPayload(r, r.Size()); err == nil {
			p.size = min(p.size, 1<<20)
			_ = Unpack(t.Context(), io.Discard, r, p, nil)
		}
		if k, err := ParseELF(r, r.Size()); err == nil {
			if !k.inside(k.Entry) || k.Top > 1<<32 {
				t.Fatalf("%+v", k)
			}
			if k.Top <= uint64(len(ram)) {
				mem := guestmem.New(guestmem.Config{})
				_ = mem.Add(0, ram)
				if err := k.Load(r, mem); err != nil {
					t.Fatal(err)
				}
			}
			kept := memFile(bytes.Clone(file))
			if err := trimZeros(kept); err != nil {
				t.Fatal(err)
			}
			if _, err := ParseELF(bytes.NewReader(kept), r.Size()); err != nil {
				t.Fatalf("with its zeros trimmed: %v", err)
			}
		}
	})
}

// TestStartInfoLow: a ramdisk that leaves no room behind it, or not in the first
// GiB, has the start info below the kernel, where a kernel must not lie.
func TestStartInfoLow(t *testing.T) {
	for name, c := range map[string]struct {
		memory, kernel, initrd, want uint64
		fails                        bool
	}{
		"behind the kernel":  {16 << 20, 1 << 20, 0, 1<<20 + 4096, false},
		"behind the ramdisk": {16 << 20, 1 << 20, 5000, 1<<20 + 3*4096, false},
		"no room":            {2 << 20, 1 << 20, 1<<20 - 4096, 0x90000, false},
		"a kernel there":     {2 << 20, 0x90000, 2<<20 - 0x91000, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := newLayout(c.memory)
			if err != nil {
				t.Fatal(err)
			}
			mem := guestmem.New(guestmem.Config{})
			for _, s := range l.slots() {
				if err := mem.Add(s.GPA, guestmem.Host(int(s.N/guestmem.PageSize))); err != nil {
					t.Fatal(err)
				}
			}
			config := Config{VCPUs: 1, Kernel: &Kernel{Entry: c.kernel, Top: c.kernel + 4096, Segments: []Segment{{Paddr: c.kernel, MemSize: 4096}}}}
			if c.initrd > 0 {
				config.Initrd = &Image{bytes.NewReader(make([]byte, c.initrd)), c.initrd}
			}
			at, err := place(config, l, mem)
			if (err != nil) != c.fails || at != c.want && !c.fails {
				t.Errorf("the start info is at %#x (%v), want %#x", at, err, c.want)
			}
		})
	}
}
