package qemu

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv"
)

var update = flag.Bool("update", false, "write the golden files anew")

// facts of a host for s, without looking at any.
func facts(s hv.Spec, accel string) Facts {
	f := Facts{
		Accel: accel, Machine: "pc-q35-7.2", Sandbox: true, VGA: "virtio-vga", OVMFCode: "/usr/share/OVMF/OVMF_CODE_4M.fd",
		names: names{QMP: "/run/h/11111111.qmp", VNC: "/run/h/11111111.vnc", Serial: "/run/h/11111111.ser", Agent: "/run/h/11111111.qga", NVRAM: "/g/nvram.fd"},
	}
	for i := range s.NICs {
		f.names.NIC = append(f.names.NIC, fmt.Sprintf("/run/h/11111111.n%d", i))
	}
	for _, d := range s.Disks {
		f.images = append(f.images, image{path: inFolder(d.Path)})
	}
	return f
}

// inFolder is resolve for the folder /g, with / on every system.
func inFolder(name string) string {
	if name == "" || path.IsAbs(name) {
		return name
	}
	return path.Join("/g", name)
}

func uuidOf(n int) string { return fmt.Sprintf("11111111-2222-4333-8444-%012d", n) }

func plainSpec() hv.Spec {
	return hv.Spec{
		Version: hv.SpecVersion, UUID: testUUID, Name: "demo", Type: hv.HVM, VCPUs: 2, Memory: 512 * hv.MiB,
		Disks: []hv.Disk{
			{UUID: diskUUID, Path: "disk.qcow2", Format: hv.QCOW2, Mode: hv.ReadWrite},
			{UUID: cdUUID, Path: "/iso/debian.iso", Format: hv.Raw, Mode: hv.ReadOnly, Kind: hv.KindCDROM},
		},
		NICs: []hv.NIC{{UUID: uuidOf(100), MAC: "02:00:00:00:00:01", Network: uuidOf(200)}},
	}
}

// fullSpec has as much of everything as a Spec can have.
func fullSpec() hv.Spec {
	s := plainSpec()
	s.Firmware, s.Boot.Order, s.Display.Audio, s.OnReboot = hv.UEFI, "ndc", true, "destroy"
	s.Disks, s.NICs = nil, nil
	for i := range hv.MaxDisks {
		d := hv.Disk{UUID: uuidOf(i), Path: fmt.Sprintf("disk%d.img", i), Format: hv.Raw, Mode: hv.ReadWrite}
		switch {
		case i%4 == 2:
			d.Bus = hv.BusSATA
		case i%4 == 3:
			d.Kind, d.Mode = hv.KindCDROM, hv.ReadOnly
			if i%8 == 3 {
				d.Path = ""
			}
		}
		s.Disks = append(s.Disks, d)
	}
	for i := range hv.MaxNICs {
		s.NICs = append(s.NICs, hv.NIC{UUID: uuidOf(100 + i), MAC: fmt.Sprintf("02:00:00:00:00:%02x", i), Network: uuidOf(200)})
	}
	return s
}

func TestArgsGolden(t *testing.T) {
	type golden struct {
		spec  hv.Spec
		facts Facts
	}
	cases := map[string]golden{}
	for _, accel := range []string{"tcg", "kvm", "hvf", "whpx"} {
		cases["plain-"+accel] = golden{plainSpec(), facts(plainSpec(), accel)}
	}
	cases["full"] = golden{fullSpec(), facts(fullSpec(), "kvm")}

	kernel := plainSpec()
	kernel.NICs, kernel.Display.Adapter = nil, "none"
	kernel.Boot = hv.Boot{Kernel: "/k/vmlinuz", Initrd: "/k/initrd, one", Cmdline: "console=ttyS0 a=b,c"}
	cases["kernel"] = golden{kernel, facts(kernel, "tcg")}

	hostile := plainSpec()
	hostile.Name = `-a,b=c "d" id=e`
	hostile.Display.Adapter, hostile.Boot.Order = "std", "d"
	hostile.Disks[0].Path = "-x,y=z\n\"'%s,readonly=off"
	hostile.NICs[0].MAC = "02:00:00:00:00:0A"
	hf := facts(hostile, "tcg")
	hf.names.VNC, hf.names.QMP, hf.Sandbox = "/run/a,b/1.vnc", "/run/a,b/1.qmp", false
	hf.images[1].device, hf.images[0].backing = true, true
	cases["hostile"] = golden{hostile, hf}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			args, err := Args(c.spec, c.facts)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(args, "\n") + "\n"
			file := filepath.Join("testdata", name+".args")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs; look at the change, then run with -update:\n%s", file, got)
			}
		})
	}
}

// FuzzArgs: whatever a user's strings are, they stay inside the option that they
// belong to.
func FuzzArgs(f *testing.F) {
	f.Add("demo", "/a/disk.img", "console=ttyS0", "/run/x")
	f.Add(",=\n-", "-drive,file=/etc/passwd", "-incoming\nexec:id", "/run/a,server=on")
	f.Add("a\x00b", "\xff", `"}`, "%s%n")
	f.Fuzz(func(t *testing.T, name, path, cmdline, run string) {
		s := plainSpec()
		s.Name, s.Disks[0].Path = name, path
		s.Boot.Kernel, s.Boot.Cmdline = "/k"+path, cmdline
		fc := facts(s, "tcg")
		fc.names.QMP, fc.names.VNC = run, run
		args, err := Args(s, fc)
		if err != nil {
			return
		}
		for i, a := range args {
			if strings.ContainsRune(a, 0) {
				t.Fatalf("argument %q holds a NUL", a)
			}
			switch {
			case i > 0 && args[i-1] == "-name":
				one(t, a, "guest", name)
			case i > 0 && args[i-1] == "-chardev" && strings.Contains(a, "id=qmp"):
				one(t, a, "path", run)
			case i > 0 && args[i-1] == "-append":
				if a != cmdline {
					t.Fatalf("command line %q became %q", cmdline, a)
				}
			case strings.HasPrefix(a, "{") && strings.Contains(a, `"d0g0"`) && strings.Contains(a, `"filename"`):
				var v struct{ File struct{ Filename string } }
				if err := json.Unmarshal([]byte(a), &v); err != nil || v.File.Filename != inFolder(path) {
					t.Fatalf("path %q became %q (%v)", path, v.File.Filename, err)
				}
			}
		}
	})
}

// one parses QEMU's key=value form as util/keyval.c does and checks one value.
func one(t *testing.T, option, key, want string) {
	t.Helper()
	var parts []string
	cur := ""
	for i := 0; i < len(option); i++ {
		if option[i] != ',' {
			cur += option[i : i+1]
		} else if i+1 < len(option) && option[i+1] == ',' {
			cur += ","
			i++
		} else {
			parts = append(parts, cur)
			cur = ""
		}
	}
	for _, p := range append(parts, cur) {
		if k, v, _ := strings.Cut(p, "="); k == key {
			if v != want {
				t.Fatalf("%s: %q became %q in %q", key, want, v, option)
			}
			return
		}
	}
	t.Fatalf("no %s in %q", key, option)
}

func TestBootOrder(t *testing.T) {
	s := plainSpec()
	d, cd, n := s.Disks[0].UUID, s.Disks[1].UUID, s.NICs[0].UUID
	for order, want := range map[string][]string{
		"": {d, cd}, "cd": {d, cd}, "dc": {cd, d}, "d": {cd}, "ncd": {n, d, cd}, "ccnn": {d, n},
	} {
		s.Boot.Order = order
		got := bootIndexes(s)
		for i, uuid := range want {
			if k, ok := got[uuid]; !ok || k != i {
				t.Errorf("order %q: %v", order, got)
			}
		}
		if len(got) != len(want) {
			t.Errorf("order %q: %v", order, got)
		}
	}
}
