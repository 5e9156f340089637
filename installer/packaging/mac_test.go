package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"debug/macho"
	"encoding/binary"
	"encoding/xml"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

// TestMac builds a program for both kinds of Macs, signs it, and reads the
// signature and the bundle again. That macOS takes them is not shown here.
func TestMac(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("packages are made on Linux and macOS")
	}
	for _, arch := range []string{"arm64", "amd64"} {
		t.Run(arch, func(t *testing.T) {
			dir := t.TempDir()
			build := exec.Command("go", "build", "-buildvcs=false", "-o", dir+"/", "./app/cmd/hxen", "./app/cmd/hxen-worker", "./app/cmd/hxen-netd")
			build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0", "GOOS=darwin", "GOARCH="+arch)
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			programs, _ := filepath.Glob(dir + "/*")
			for range 2 { // a second signature takes the place of the first
				if err := (job{args: programs}).signMac(); err != nil {
					t.Fatal(err)
				}
				checkSignature(t, filepath.Join(dir, "hxen"))
			}
			j := job{bin: dir, version: "v1.2.3-4-gabcdef", stamp: 1700000000, out: filepath.Join(t.TempDir(), "hxen.zip")}
			if err := j.bundle(); err != nil {
				t.Fatal(err)
			}
			checkBundle(t, j.out, programs)
		})
	}
}

// checkSignature holds every hash of a signature against what it is of.
func checkSignature(t *testing.T, program string) {
	t.Helper()
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	f, err := macho.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var at, size uint32
	for _, l := range f.Loads {
		if raw := l.Raw(); f.ByteOrder.Uint32(raw) == loadSignature {
			at, size = f.ByteOrder.Uint32(raw[8:]), f.ByteOrder.Uint32(raw[12:])
		}
	}
	edit := f.Segment("__LINKEDIT")
	if at == 0 || int(at+size) != len(b) || edit.Offset+edit.Filesz != uint64(len(b)) || edit.Memsz < edit.Filesz {
		t.Fatalf("%s: the signature is %d bytes at %d of %d, __LINKEDIT %d at %d", program, size, at, len(b), edit.Filesz, edit.Offset)
	}
	be := binary.BigEndian
	s := b[at:]
	if be.Uint32(s) != magicSignature || be.Uint32(s[4:]) > size {
		t.Fatalf("it begins with % x", s[:8])
	}
	slots := map[uint32][]byte{}
	for i := range be.Uint32(s[8:]) {
		off := be.Uint32(s[12+8*i+4:])
		slots[be.Uint32(s[12+8*i:])] = s[off : off+be.Uint32(s[off+4:])]
	}
	d := slots[slotDirectory]
	if be.Uint32(d) != magicDirectory || be.Uint32(d[12:]) != flagAdHoc || be.Uint32(d[32:]) != at {
		t.Fatalf("the directory begins with % x", d[:36])
	}
	first, special, pages := be.Uint32(d[16:]), be.Uint32(d[24:]), be.Uint32(d[28:])
	for i := range pages {
		sum := sha256.Sum256(b[i<<pageBits : min((i+1)<<pageBits, at)])
		if !bytes.Equal(sum[:], d[first+i*sha256.Size:][:sha256.Size]) {
			t.Fatalf("page %d has another hash", i)
		}
	}
	for n := uint32(1); n <= special; n++ {
		want := make([]byte, sha256.Size)
		if content, ok := slots[n]; ok {
			sum := sha256.Sum256(content)
			want = sum[:]
		}
		if !bytes.Equal(want, d[first-n*sha256.Size:][:sha256.Size]) {
			t.Errorf("slot %d has another hash", n)
		}
	}
	if !bytes.Contains(slots[slotEntitlements], []byte("com.apple.security.hypervisor")) || !bytes.Contains(slots[slotEntitlementsD], []byte("com.apple.security.hypervisor")) {
		t.Error("the entitlement is missing")
	}
	// What asn1parse reads of it: [APPLICATION 16] { 1, [16] { { name, TRUE } } }.
	if der := slots[slotEntitlementsD][8:]; der[0] != 0x70 || int(der[1]) != len(der)-2 || !bytes.HasSuffix(der, []byte{1, 1, 0xff}) {
		t.Errorf("in DER: % x", der)
	}
}

func checkBundle(t *testing.T, archive string, programs []string) {
	t.Helper()
	z, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var names []string
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		name, ok := bytes.CutPrefix([]byte(f.Name), []byte("HXEN.app/Contents/"))
		if !ok {
			t.Errorf("%s is outside of the app", f.Name)
		}
		names = append(names, string(name))
		switch filepath.Dir(string(name)) {
		case "MacOS":
			if f.Mode().Perm() != 0o755 {
				t.Errorf("%s has mode %v", f.Name, f.Mode())
			}
		case "Resources":
			if string(b[:4]) != "icns" || int(binary.BigEndian.Uint32(b[4:])) != len(b) {
				t.Errorf("the icon begins with % x", b[:8])
			}
		}
		if string(name) == "Info.plist" {
			var p struct {
				Strings []string `xml:"dict>string"`
			}
			if err := xml.Unmarshal(b, &p); err != nil || !slices.Contains(p.Strings, "1.2.3") {
				t.Errorf("Info.plist: %q, %v", p.Strings, err)
			}
		}
	}
	for _, p := range programs {
		if !slices.Contains(names, "MacOS/"+filepath.Base(p)) {
			t.Errorf("the app has %q, not %s", names, p)
		}
	}
}
