package hostinfo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv/hvtest"
)

const plain = `{"interface-types":["uefi"],
 "mapping":{"device":"flash","executable":{"filename":"/fw/code.fd","format":"raw"},
            "nvram-template":{"filename":"/fw/vars.fd","format":"raw"}},
 "targets":[{"architecture":"x86_64","machines":["pc-i440fx-*","pc-q35-*"]}],
 "features":["acpi-s3"],"tags":[]}`

func TestParseDescriptor(t *testing.T) {
	f, err := parseDescriptor([]byte(plain))
	if err != nil || f.Code != "/fw/code.fd" || f.Vars != "/fw/vars.fd" {
		t.Fatalf("%+v, %v", f, err)
	}
	for what, change := range map[string][2]string{
		"BIOS":             {`"uefi"`, `"bios"`},
		"memory":           {`"flash"`, `"memory"`},
		"combined":         {`"device":"flash"`, `"device":"flash","mode":"combined"`},
		"ARM":              {`x86_64`, `aarch64`},
		"microvm only":     {`["pc-i440fx-*","pc-q35-*"]`, `["microvm"]`},
		"SMM":              {`"acpi-s3"`, `"requires-smm"`},
		"keys":             {`"acpi-s3"`, `"enrolled-keys"`},
		"qcow2":            {`"/fw/code.fd","format":"raw"`, `"/fw/code.fd","format":"qcow2"`},
		"a relative path":  {`/fw/code.fd`, `fw/code.fd`},
		"a path with dots": {`/fw/code.fd`, `/fw/../code.fd`},
		"no JSON":          {`{"interface`, `"interface`},
	} {
		if f, err := parseDescriptor([]byte(strings.Replace(plain, change[0], change[1], 1))); err == nil {
			t.Errorf("%s was taken: %+v", what, f)
		}
	}
}

func FuzzParseDescriptor(f *testing.F) {
	f.Add([]byte(plain))
	f.Add([]byte(`{"targets":[{"architecture":"x86_64","machines":["[","pc-q35-7.2"]}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if fw, err := parseDescriptor(b); err == nil && (fw.Code[0] != '/' || fw.Vars[0] != '/') {
			t.Errorf("%+v", fw)
		}
	})
}

// tree makes files below a new folder; the content is the path unless given.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFindFirmware(t *testing.T) {
	other := strings.ReplaceAll(plain, "/fw/", "/own/")
	for _, c := range []struct {
		what  string
		files map[string]string
		want  string // code below the root, or nothing
	}{
		{"nothing", nil, ""},
		{"Debian 12", map[string]string{
			"usr/share/OVMF/OVMF_CODE_4M.fd": "", "usr/share/OVMF/OVMF_VARS_4M.fd": "",
			"usr/share/OVMF/OVMF_CODE.fd": "", "usr/share/OVMF/OVMF_VARS.fd": ""}, "usr/share/OVMF/OVMF_CODE_4M.fd"},
		{"Debian 10", map[string]string{
			"usr/share/OVMF/OVMF_CODE.fd": "", "usr/share/OVMF/OVMF_VARS.fd": ""}, "usr/share/OVMF/OVMF_CODE.fd"},
		{"half a pair", map[string]string{"usr/share/OVMF/OVMF_CODE.fd": ""}, ""},
		{"Fedora", map[string]string{
			"usr/share/edk2/ovmf/OVMF_CODE.fd": "", "usr/share/edk2/ovmf/OVMF_VARS.fd": ""}, "usr/share/edk2/ovmf/OVMF_CODE.fd"},
		{"Arch", map[string]string{
			"usr/share/edk2/x64/OVMF_CODE.4m.fd": "", "usr/share/edk2/x64/OVMF_VARS.4m.fd": ""}, "usr/share/edk2/x64/OVMF_CODE.4m.fd"},
		{"openSUSE", map[string]string{
			"usr/share/qemu/ovmf-x86_64-4m-code.bin": "", "usr/share/qemu/ovmf-x86_64-4m-vars.bin": ""}, "usr/share/qemu/ovmf-x86_64-4m-code.bin"},
		{"descriptor first", map[string]string{
			"d1/60-x.json": plain, "fw/code.fd": "", "fw/vars.fd": "",
			"usr/share/OVMF/OVMF_CODE.fd": "", "usr/share/OVMF/OVMF_VARS.fd": ""}, "fw/code.fd"},
		{"descriptor of what is not there", map[string]string{
			"d1/60-x.json":                plain,
			"usr/share/OVMF/OVMF_CODE.fd": "", "usr/share/OVMF/OVMF_VARS.fd": ""}, "usr/share/OVMF/OVMF_CODE.fd"},
		{"order by number", map[string]string{
			"d1/60-x.json": plain, "d1/50-y.json": other, "fw/code.fd": "", "fw/vars.fd": "", "own/code.fd": "", "own/vars.fd": ""}, "own/code.fd"},
		{"the user's hides the system's", map[string]string{
			"d1/60-x.json": plain, "d2/60-x.json": other, "fw/code.fd": "", "fw/vars.fd": "", "own/code.fd": "", "own/vars.fd": ""}, "own/code.fd"},
		{"an empty file hides", map[string]string{
			"d1/60-x.json": plain, "d2/60-x.json": "", "fw/code.fd": "", "fw/vars.fd": ""}, ""},
		{"QEMU's own", map[string]string{
			"opt/bin/qemu": "", "opt/share/qemu/edk2-x86_64-code.fd": "", "opt/share/qemu/edk2-i386-vars.fd": ""}, "opt/share/qemu/edk2-x86_64-code.fd"},
	} {
		t.Run(c.what, func(t *testing.T) {
			root := tree(t, c.files)
			f, ok := findFirmware(root, []string{filepath.Join(root, "d1"), filepath.Join(root, "d2")}, filepath.Join(root, "opt/bin/qemu"))
			if ok != (c.want != "") || ok && f.Code != filepath.Join(root, c.want) {
				t.Errorf("%+v, %v; want %q", f, ok, c.want)
			}
			if ok && !isFile(f.Vars) {
				t.Errorf("variables %q are not there", f.Vars)
			}
		})
	}
}

// A package manager's link to QEMU leads to where its firmware is.
func TestFirmwareBehindALink(t *testing.T) {
	root := tree(t, map[string]string{
		"Cellar/qemu/bin/qemu": "", "Cellar/qemu/share/qemu/edk2-x86_64-code.fd": "", "Cellar/qemu/share/qemu/edk2-i386-vars.fd": "", "bin/x": ""})
	link := filepath.Join(root, "bin", "qemu")
	if err := os.Symlink(filepath.Join(root, "Cellar/qemu/bin/qemu"), link); err != nil {
		t.Skipf("needs links: %v", err)
	}
	if at, err := filepath.EvalSymlinks(link); err != nil || at == link { // wine makes them and does not follow them
		t.Skipf("needs links that can be followed: %q, %v", at, err)
	}
	if f, ok := besideQEMU(link); !ok || !strings.Contains(f.Code, "Cellar") {
		t.Errorf("%+v, %v", f, ok)
	}
}

func TestRealFirmware(t *testing.T) {
	hvtest.Require(t, "qemu")
	q, err := FindQEMU(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, ok := FindFirmware(q.Path)
	if !ok {
		t.Skip("no UEFI firmware is installed")
	}
	t.Logf("%+v", f)
	for _, p := range []string{f.Code, f.Vars} {
		fi, err := os.Stat(p)
		if err != nil || fi.Size() < 64<<10 {
			t.Errorf("%s: %v", p, err)
		}
	}
}
