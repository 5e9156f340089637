package main

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode/utf16"
)

// Kinds of resources, as Windows numbers them.
const (
	kindIcon      = 3
	kindGroupIcon = 14
	kindVersion   = 16
	kindManifest  = 24
)

// resourcesOf reads the resources of a Windows program by their kind. A directory
// is 16 bytes, the last 4 of which count its named and its numbered entries; an
// entry is a name and an offset, whose highest bit says that another directory is
// there: of kinds, of names, of languages.
func resourcesOf(t *testing.T, program string) map[uint32][][]byte {
	t.Helper()
	f, err := pe.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := map[uint32][][]byte{}
	section := f.Section(".rsrc")
	if section == nil {
		return found
	}
	data, err := section.Data()
	if err != nil {
		t.Fatal(err)
	}
	number := binary.LittleEndian
	var walk func(at, kind uint32, depth int)
	walk = func(at, kind uint32, depth int) {
		entries := uint32(number.Uint16(data[at+12:])) + uint32(number.Uint16(data[at+14:]))
		for e := at + 16; e < at+16+8*entries; e += 8 {
			if depth == 0 {
				kind = number.Uint32(data[e:])
			}
			if to := number.Uint32(data[e+4:]); to&(1<<31) != 0 {
				walk(to&^(1<<31), kind, depth+1)
			} else {
				start := number.Uint32(data[to:]) - section.VirtualAddress
				found[kind] = append(found[kind], data[start:start+number.Uint32(data[to+4:])])
			}
		}
	}
	walk(0, 0, 0)
	return found
}

// value is a string of a version resource: its name, a zero, zeros to a multiple
// of four bytes, and the value up to a zero, in UTF-16.
func value(version []byte, name string) string {
	_, after, found := bytes.Cut(version, wide(name+"\x00"))
	if !found {
		return ""
	}
	var out []uint16
	for ; len(after) > 1; after = after[2:] {
		c := binary.LittleEndian.Uint16(after)
		if c == 0 && len(out) > 0 {
			break
		}
		if c != 0 {
			out = append(out, c)
		}
	}
	return string(utf16.Decode(out))
}

func wide(s string) (out []byte) {
	for _, c := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, c)
	}
	return out
}

func TestWindowsResources(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("packages are made on Linux and macOS")
	}
	titles := map[string]string{"hxen": "HXEN", "hxen-worker": "HXEN virtual machine", "hxen-netd": "HXEN virtual network", "hxen-setup": "HXEN Setup"}
	for arch, packages := range map[string][]string{
		"amd64": {"./app/cmd/hxen", "./app/cmd/hxen-worker", "./app/cmd/hxen-netd", "./installer/cmd/hxen-setup"},
		"arm64": {"./installer/cmd/hxen-setup"},
	} {
		t.Run(arch, func(t *testing.T) {
			dir := t.TempDir() + string(filepath.Separator)
			build := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", dir}, packages...)...)
			build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0", "GOOS=windows", "GOARCH="+arch)
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			programs, err := filepath.Glob(filepath.Join(dir, "*.exe"))
			if err != nil || len(programs) != len(packages) {
				t.Fatalf("built %v: %v", programs, err)
			}
			if bare := resourcesOf(t, programs[0]); len(bare) != 0 {
				t.Fatalf("Go itself gave %s resources: %v", programs[0], bare)
			}
			if out, err := exec.Command("./resources", append([]string{"v1.2.3-4-gabcdef0"}, programs...)...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, program := range programs {
				name := strings.TrimSuffix(filepath.Base(program), ".exe")
				checkResources(t, name, titles[name], resourcesOf(t, program))
			}
		})
	}
}

func checkResources(t *testing.T, name, title string, found map[uint32][][]byte) {
	t.Helper()
	if len(found[kindGroupIcon]) != 1 || len(found[kindIcon]) != 6 || len(found[kindVersion]) != 1 || len(found[kindManifest]) != 1 {
		t.Fatalf("%s has resources %v", name, found)
	}
	for _, icon := range found[kindIcon] {
		if !bytes.HasPrefix(icon, []byte("\x89PNG")) && binary.LittleEndian.Uint32(icon) != 40 { // a picture, or the header of a bitmap
			t.Errorf("%s: an icon begins with % x", name, icon[:8])
		}
	}
	version := found[kindVersion][0]
	for field, want := range map[string]string{"FileDescription": title, "ProductName": "HXEN", "ProductVersion": "v1.2.3-4-gabcdef0",
		"FileVersion": "1.2.3.4", "OriginalFilename": name + ".exe"} {
		if got := value(version, field); got != want {
			t.Errorf("%s: %s is %q, not %q", name, field, got, want)
		}
	}
	fixed := bytes.Index(version, []byte{0xbd, 0x04, 0xef, 0xfe}) // VS_FIXEDFILEINFO
	if want := []byte{2, 0, 1, 0, 4, 0, 3, 0}; fixed < 0 || !bytes.Equal(version[fixed+8:fixed+16], want) {
		t.Errorf("%s: the version in numbers is not 1.2.3.4", name)
	}
	var manifest struct {
		Level struct {
			Level string `xml:"level,attr"`
		} `xml:"trustInfo>security>requestedPrivileges>requestedExecutionLevel"`
		System struct {
			ID string `xml:"Id,attr"`
		} `xml:"compatibility>application>supportedOS"`
		LongPaths string `xml:"application>windowsSettings>longPathAware"`
		CodePage  string `xml:"application>windowsSettings>activeCodePage"`
	}
	if err := xml.Unmarshal(found[kindManifest][0], &manifest); err != nil {
		t.Fatalf("%s: the manifest: %v", name, err)
	}
	if m := manifest; m.Level.Level != "asInvoker" || m.System.ID != "{8e0f7a12-bfb3-4fe8-b9a5-48fd50a15a9a}" || m.LongPaths != "true" || m.CodePage != "UTF-8" {
		t.Errorf("%s: the manifest says %+v", name, m)
	}
}
