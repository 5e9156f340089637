package bootdisk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testFiles has what is hard to read: sizes around a block and behind the map's
// steps, many names in a folder, holes, links.
func testFiles() map[string]string {
	files := map[string]string{
		"empty": "", "one": "1", "short": strings.Repeat("s", 60), "inline": strings.Repeat("i", 130),
		"block": noise(4096), "more": noise(4097), "big": noise(6 << 20), "boot/grub/x": "x",
		"link>": "boot/grub/../../one", "absolute>": "/boot/grub/x", "boot/up>": "../../../../one", "long>": "boot/" + strings.Repeat("./", 80) + "grub/x",
		"loop>": "loop", "boot/folder>": "grub",
	}
	for i := range 400 {
		files[fmt.Sprintf("many/a rather long name of a file, number %d", i)] = fmt.Sprint(i)
	}
	return files
}

func TestExt4(t *testing.T) {
	dir := tree(t, testFiles())
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 1 << 20, 5<<20 + 12345, 7 << 20, 9<<20 - 4} {
		if _, err := f.WriteAt([]byte("here"), at); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	for name, args := range map[string][]string{
		"ext4":       {"-t", "ext4"},
		"1k":         {"-t", "ext4", "-b", "1024"},
		"32 bits":    {"-t", "ext4", "-O", "^64bit,^metadata_csum,^flex_bg", "-I", "128"},
		"inline":     {"-t", "ext4", "-O", "inline_data"},
		"meta_bg":    {"-t", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024", "-g", "1024"},
		"bigalloc":   {"-t", "ext4", "-O", "bigalloc"},
		"ext3":       {"-t", "ext3"},
		"ext2 of 1k": {"-t", "ext2", "-b", "1024"},
		"casefold":   {"-t", "ext4", "-O", "casefold,ea_inode,large_dir,metadata_csum_seed"},
		"64k":        {"-t", "ext4", "-b", "65536"},
	} {
		t.Run(name, func(t *testing.T) {
			mib := 48
			if name == "64k" {
				mib = 256
			}
			vol := openVolume(t, extImage(t, dir, mib, args...))
			if vol.id() != testUUID || vol.label() != "root" {
				t.Errorf("uuid %s, label %s", vol.id(), vol.label())
			}
			sameTree(t, vol, dir)
			for link, want := range map[string]string{"/link": "1", "/absolute": "x", "/boot/up": "1", "/long": "x", "/boot/folder/x": "x", "/boot/folder/../up": "1"} {
				if f, err := vol.open(link); err != nil || content(t, f) != want {
					t.Errorf("%s: %v", link, err)
				}
			}
			for _, bad := range []string{"/loop", "/missing", "/one/two", "/boot", "/many/"} {
				if _, err := vol.open(bad); err == nil {
					t.Errorf("%s was opened", bad)
				}
			}
		})
	}
}

// TestExt4Hashed has e2fsck make an index of the big folder.
func TestExt4Hashed(t *testing.T) {
	dir := tree(t, testFiles())
	path := filepath.Join(t.TempDir(), "fs")
	if err := os.WriteFile(path, extImage(t, dir, 48), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "", "sh", "-c", `PATH=$PATH:/sbin:/usr/sbin; e2fsck -fyD "$1"; test $? -le 1 && debugfs -R "htree /many" "$1" | grep -q "Number of entries"`, "sh", path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sameTree(t, openVolume(t, b), dir)
}

func TestFAT(t *testing.T) {
	dir := tree(t, map[string]string{
		"EFI/BOOT/a file with a long name.conf": "long", "one": "1", "big": noise(3 << 20), "exact": noise(32768),
		"loader/entries/zwölf.conf": "12", "empty": "",
	})
	for _, args := range [][]string{{"-F", "12", "-s", "64"}, {"-F", "16"}, {"-F", "32", "-s", "1"}} {
		t.Run(args[1], func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "fs")
			if err := os.WriteFile(path, make([]byte, 40<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			command(t, "", "mkfs.vfat", append(args, "-i", "1234abcd", "-n", "BOOT", path)...)
			command(t, dir, "mcopy", "-s", "-i", path, "EFI", "one", "big", "exact", "loader", "empty", "::/")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			vol := openVolume(t, b)
			if vol.id() != "1234-ABCD" || vol.label() != "BOOT" {
				t.Errorf("uuid %s, label %q", vol.id(), vol.label())
			}
			sameTree(t, vol, dir)
			if _, err := vol.open("/efi/Boot/A FILE with a long name.CONF"); err != nil {
				t.Error(err)
			}
			if _, err := vol.open("/missing/one"); err == nil {
				t.Error("a file that is not there was opened")
			}
		})
	}
}
