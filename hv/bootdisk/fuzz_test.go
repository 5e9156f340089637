package bootdisk

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bases are small disks of every kind that is read. HXEN_SEEDS=1 makes them again.
var bases = []string{"seed-gpt-ext4", "seed-mbr-ext2", "seed-ext4-inline", "seed-fat", "lvm-pv1"}

func base(t testing.TB, name string) []byte {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(testdata(t, name+".gz")))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSeeds(t *testing.T) {
	if os.Getenv("HXEN_SEEDS") != "" {
		makeSeeds(t)
	}
	for _, name := range bases {
		if name == "lvm-pv1" { // has no file system in it
			continue
		}
		b := base(t, name)
		m := mustFind(t, b)
		if e, _ := m.Pick(""); e.Kernel != "/boot/vmlinuz-1" {
			t.Errorf("%s boots %q", name, e.Kernel)
		}
		if name != "seed-fat" {
			boots(t, m, "y", "kernel", strings.Repeat("initrd", 20)+"kernel", "a=b")
		} else if f, err := openVolume(t, b).open("/boot/vmlinuz-1"); err != nil || content(t, f) != "kernel" { // FAT has no link for the menu's ramdisk
			t.Errorf("%s: %v", name, err)
		}
	}
}

func makeSeeds(t *testing.T) {
	files := map[string]string{
		"boot/vmlinuz-1": "kernel", "boot/initrd.img-1": strings.Repeat("initrd", 20), "boot/link>": "../boot/vmlinuz-1",
		"boot/grub/grub.cfg": "if [ -s $prefix/grubenv ]; then load_env; fi\nsearch --fs-uuid --set=root " + testUUID + "\nmenuentry x --id y {\nlinux /boot/vmlinuz-1 a=b\ninitrd /boot/initrd.img-1 /boot/link\n}\n",
		"boot/grub/grubenv":  envBlock("saved_entry=x"),
	}
	dir := tree(t, files)
	out := filepath.Join(t.TempDir(), "fs")
	ext := func(args ...string) []byte {
		os.Remove(out)
		command(t, "", "mke2fs", append(append([]string{"-q", "-F", "-U", testUUID, "-d", dir, "-b", "1024"}, args...), out, "512K")...)
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	delete(files, "boot/link>")
	disks := map[string][]byte{
		"seed-gpt-ext4":    withTable(t, 2, "label: gpt\nstart=1024, size=1024\n", nil),
		"seed-mbr-ext2":    withTable(t, 2, "label: dos\nstart=512, size=3000, type=5\nstart=1024, size=1024, type=83\n", nil),
		"seed-ext4-inline": ext("-t", "ext4", "-O", "inline_data,^has_journal", "-I", "256"),
	}
	copy(disks["seed-gpt-ext4"][512<<10:], ext("-t", "ext4", "-O", "^has_journal"))
	copy(disks["seed-mbr-ext2"][512<<10:], ext("-t", "ext2"))
	fat := filepath.Join(t.TempDir(), "fat")
	if err := os.WriteFile(fat, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "", "mkfs.vfat", "-F", "12", fat)
	command(t, tree(t, files), "mcopy", "-s", "-i", fat, "boot", "::/")
	var err error
	if disks["seed-fat"], err = os.ReadFile(fat); err != nil {
		t.Fatal(err)
	}
	for name, b := range disks {
		var z bytes.Buffer
		w, _ := gzip.NewWriterLevel(&z, gzip.BestCompression)
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if err := os.WriteFile("testdata/"+name+".gz", z.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzDisk changes bytes of a disk, reads all that there is to be read, and writes
// what GRUB would. An edit is 4 bytes of place, one of length, and the bytes.
func FuzzDisk(f *testing.F) {
	var disks [][]byte
	for i, name := range bases {
		disks = append(disks, base(f, name))
		f.Add(byte(i), []byte{})
		f.Add(byte(i), []byte{0x00, 0x04, 0x08, 0x00, 4, 0xff, 0xff, 0xff, 0xff}) // in the superblock
		f.Add(byte(i), []byte{0xc6, 0x01, 0x00, 0x00, 4, 0x01, 0x00, 0x00, 0x00, 0x48, 0x02, 0x00, 0x00, 2, 0, 1})
	}
	f.Fuzz(func(t *testing.T, which byte, edits []byte) {
		disk := bytes.Clone(disks[int(which)%len(disks)])
		for len(edits) > 5 {
			at, n := int(binary.LittleEndian.Uint32(edits))%len(disk), int(edits[4])
			edits = edits[5:]
			n = min(n, len(edits))
			copy(disk[at:], edits[:n])
			edits = edits[n:]
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		size := len(disk)
		m, err := Find(ctx, []Disk{{memory(disk), int64(size)}})
		if ctx.Err() != nil {
			t.Fatal("the search does not end")
		}
		if err != nil {
			return
		}
		_ = m.Commit()
		if len(disk) != size {
			t.Fatal("the disk has grown")
		}
		for _, e := range m.Entries {
			k, i, err := e.Open()
			if err != nil {
				continue
			}
			for _, f := range []*File{k, i} {
				if f != nil {
					_, _ = io.CopyN(io.Discard, io.NewSectionReader(f, 0, f.Size), 1<<20)
					_, _ = f.ReadAt(make([]byte, 5000), f.Size-100)
				}
			}
		}
	})
}

// FuzzScript runs any script, with a file system that has something to find.
func FuzzScript(f *testing.F) {
	f.Add(testdata(f, "debian12-grub.cfg"))
	f.Add(testdata(f, "debian12-saved-grub.cfg"))
	f.Add(testdata(f, "fedora-grub.cfg"))
	f.Add("for i in 1 2 3; do submenu $i { menuentry x { linux (hd0,1)/boot/vmlinuz-1 \"$i a\"; initrd /a } }; done; set default=1'>'0; blscfg")
	f.Add("function a { b; }; function b { while [ ! ( -f / -o x ) ]; do a; done; }; a; source $prefix/grub.cfg; save_env a; load_env -f /x")
	disk := base(f, "seed-ext4-inline")
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 1<<16 {
			return
		}
		e := &extents{}
		e.add(span{memory(disk), &budget{t.Context(), 20000}, 0, uint64(len(disk))})
		fs, err := openFS(e)
		if err != nil {
			t.Fatal(err)
		}
		v := &volume{[]string{"hd0"}, e, withFile{fs, "/boot/grub/test.cfg", src}}
		g, err := runGrub([]*volume{v}, v, "/boot/grub/test.cfg")
		if err != nil {
			return
		}
		choose(g.items, g.vars["default"])
		flatten(g.items, nil, g.lines)
	})
}

// withFile is a file system with one more file.
type withFile struct {
	fileSystem
	path, text string
}

func (w withFile) open(path string) (*File, error) {
	if path != w.path {
		return w.fileSystem.open(path)
	}
	return &File{Path: path, Size: int64(len(w.text)), readAt: func(b []byte, off uint64) error {
		copy(b, w.text[off:])
		return nil
	}}, nil
}

// FuzzText reads what else a guest can write as text.
func FuzzText(f *testing.F) {
	f.Add("vg {\nid = \"a\"\nextent_size = 8\nphysical_volumes {\npv0 {\nid = \"u-u\"\npe_start = 1\npe_count = 9\n}\n}\nlogical_volumes {\nl {\nstatus = [\"VISIBLE\"]\nsegment_count = 1\nsegment1 {\nstart_extent = 0\nextent_count = 4\ntype = \"striped\"\nstripe_count = 2\nstripe_size = 1\nstripes = [\n\"pv0\", 0,\n\"pv0\", 3\n]\n}\n}\n}\n}\n")
	f.Add("title a\nlinux /boot/vmlinuz-1\ninitrd $a /b\noptions ${x} $\nsort-key z")
	f.Add("default a\ninclude /boot/grub/grub.cfg\nlabel a\nkernel x\nappend initrd=a,b c\nlabel b\nmenu default\ninitrd ,")
	f.Add(envBlock("a=b\\\\c", "d\\\n=e"))
	disk := base(f, "seed-ext4-inline")
	f.Fuzz(func(t *testing.T, src string) {
		b := &budget{t.Context(), 20000}
		e := &extents{}
		all := span{memory(disk), b, 0, uint64(len(disk))}
		e.add(all)
		if top, err := parseLVM(src); err == nil {
			for _, vg := range top.sections {
				_, _ = assemble(vg, map[string]span{"uu": all})
			}
		}
		fs, err := openFS(e)
		if err != nil {
			t.Fatal(err)
		}
		v := &volume{[]string{"hd0"}, e, withFile{fs, "/boot/x", src}}
		if l := parseBLS("x", src).lines(v, "/boot/loader/entries", map[string]string{"a": "$a"}); l != nil {
			_, _ = l.kernel.open()
		}
		_, _, _ = extlinux(v, "/boot/x")
		if vars := parseEnv(src); vars != nil {
			b, ok := formatEnv(vars, maxEnv)
			if again := parseEnv(string(b)); ok && len(again) != len(vars) {
				t.Errorf("%q became %q", vars, again)
			}
		}
		compareVersions(src, src[:len(src)/2])
	})
}
