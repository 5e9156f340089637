package bootdisk

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func testdata(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// debian is a root file system as Debian's packages leave it, with two kernels.
func debian(t testing.TB, cfg string) map[string]string {
	return map[string]string{
		"boot/grub/grub.cfg":                         testdata(t, cfg),
		"boot/vmlinuz-6.12.117+deb12-cloud-amd64":    "kernel 6.12",
		"boot/initrd.img-6.12.117+deb12-cloud-amd64": "initrd 6.12",
		"boot/vmlinuz-6.1.0-56-amd64":                "kernel 6.1",
		"boot/initrd.img-6.1.0-56-amd64":             "initrd 6.1",
		"vmlinuz>":                                   "boot/vmlinuz-6.12.117+deb12-cloud-amd64",
	}
}

// envBlock is a grubenv of GRUB's own size.
func envBlock(lines ...string) string {
	s := envMark
	for _, l := range lines {
		s += l + "\n"
	}
	return s + strings.Repeat("#", 1024-len(s))
}

// gptDisk is a disk whose second partition is fs.
func gptDisk(t testing.TB, fs []byte) []byte {
	return withTable(t, len(fs)>>20+8, "label: gpt\nstart=1MiB, size=1MiB\nstart=3MiB, size="+strconv.Itoa(len(fs)>>20)+"MiB\n", map[int][]byte{3: fs})
}

// boots checks the entry that is taken.
func boots(t testing.TB, m *Menu, entry, kernel, initrd, cmdline string) {
	t.Helper()
	e, err := m.Pick(entry)
	if err != nil {
		t.Fatal(err)
	}
	k, i, err := e.Open()
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, k); got != kernel {
		t.Errorf("kernel %q, want %q", got, kernel)
	}
	if got := content(t, i); got != initrd {
		t.Errorf("initrd %q, want %q", got, initrd)
	}
	if e.Cmdline != cmdline {
		t.Errorf("command line %q, want %q", e.Cmdline, cmdline)
	}
}

func TestDebian(t *testing.T) {
	const line = "root=/dev/xvda1 ro console=ttyS0,115200 quiet"
	fs := extImage(t, tree(t, debian(t, "debian12-grub.cfg")), 16)
	for name, disk := range map[string][]byte{"gpt": gptDisk(t, fs), "no table": fs} {
		t.Run(name, func(t *testing.T) {
			m := mustFind(t, disk)
			boots(t, m, "", "kernel 6.12", "initrd 6.12", line)
			if len(m.Entries) != 5 || m.Default != 0 || m.From != "/boot/grub/grub.cfg" {
				t.Errorf("%d entries, default %d, from %s", len(m.Entries), m.Default, m.From)
			}
			const id = "gnulinux-6.1.0-56-amd64-advanced-" + testUUID
			for _, entry := range []string{
				"gnulinux-advanced-" + testUUID + ">" + id, id,
				"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux 6.1.0-56-amd64", "Debian GNU/Linux, with Linux 6.1.0-56-amd64",
			} {
				boots(t, m, entry, "kernel 6.1", "initrd 6.1", line)
			}
			boots(t, m, "Debian GNU/Linux, with Linux 6.1.0-56-amd64 (recovery mode)", "kernel 6.1", "initrd 6.1", "root=/dev/xvda1 ro single console=ttyS0,115200")
			if _, err := m.Pick("nothing"); err == nil || !strings.Contains(err.Error(), "gnulinux-simple") {
				t.Errorf("an entry that is not there: %v", err)
			}
		})
	}
}

// TestSaved is GRUB_DEFAULT=saved, with what grub-set-default and grub-reboot write.
func TestSaved(t *testing.T) {
	const advanced = "gnulinux-advanced-" + testUUID + ">gnulinux-6.1.0-56-amd64-advanced-" + testUUID
	for _, c := range []struct {
		name, env, want string
	}{
		{"nothing", "", "kernel 6.12"},
		{"an id", "saved_entry=" + advanced, "kernel 6.1"},
		{"numbers", "saved_entry=1>2", "kernel 6.1"},
		{"a title", "saved_entry=Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux 6.1.0-56-amd64", "kernel 6.1"},
		{"what is gone", "saved_entry=gone", "kernel 6.12"},
		{"once", "saved_entry=0\nnext_entry=" + advanced, "kernel 6.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := debian(t, "debian12-saved-grub.cfg")
			files["boot/grub/grubenv"] = envBlock(c.env)
			disk := gptDisk(t, extImage(t, tree(t, files), 16))
			before := bytes.Clone(disk)
			m := mustFind(t, disk)
			e, _ := m.Pick("")
			if k, _, err := e.Open(); err != nil || content(t, k) != c.want {
				t.Errorf("boots %s, %v", e.Kernel, err)
			}
			if err := m.Commit(); err != nil {
				t.Fatal(err)
			}
			if c.name != "once" {
				if !bytes.Equal(disk, before) {
					t.Error("the disk was written to")
				}
				return
			}
			changed := 0
			for i := range disk {
				if disk[i] != before[i] {
					changed++
				}
			}
			m = mustFind(t, disk)
			boots(t, m, "", "kernel 6.12", "initrd 6.12", "root=/dev/xvda1 ro quiet")
			if changed == 0 || changed > 1024 {
				t.Errorf("%d bytes of the disk changed", changed)
			}
		})
	}
	files := debian(t, "debian12-saved-grub.cfg")
	files["boot/grub/grubenv"] = envBlock("next_entry=0")
	disk := extImage(t, tree(t, files), 16)
	m, err := Find(t.Context(), []Disk{{bytes.NewReader(disk), int64(len(disk))}})
	if err != nil || m.Commit() == nil {
		t.Errorf("a disk that is only read was written to: %v", err)
	}
}

// TestFedora has /boot as a partition of its own, with entries in files.
func TestFedora(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef-"
	entry := func(version, extra string) string {
		return "title Fedora Linux (" + version + ") 39\nversion " + version + "\nlinux /vmlinuz-" + version + "\ninitrd /initramfs-" + version + ".img $tuned_initrd\n" +
			"options root=UUID=x ro\noptions rhgb $tuned_params\ngrub_users $grub_users\ngrub_arg --unrestricted\ngrub_class fedora\n" + extra
	}
	files := map[string]string{
		"grub2/grub.cfg": testdata(t, "fedora-grub.cfg"), "grub2/grubenv": envBlock("boot_success=1", "tuned_params=tuned"),
	}
	for _, v := range []string{"6.5.6-300.fc39.x86_64", "6.5.12-300.fc39.x86_64", "6.10.1-100.fc39.x86_64", "0-rescue"} {
		files["loader/entries/"+id+v+".conf"] = entry(v, "")
		files["vmlinuz-"+v], files["initramfs-"+v+".img"] = "kernel "+v, "initrd "+v
	}
	root := extImage(t, tree(t, map[string]string{"etc/fstab": "", "a": "a", "b": "b"}), 8)
	disk := func() []byte {
		return withTable(t, 40, "label: dos\nstart=1MiB, size=16MiB, type=83, bootable\nstart=18MiB, size=20MiB, type=5\nstart=20MiB, size=8MiB, type=83\n",
			map[int][]byte{1: extImage(t, tree(t, files), 16), 20: root})
	}
	m := mustFind(t, disk())
	boots(t, m, "", "kernel 6.10.1-100.fc39.x86_64", "initrd 6.10.1-100.fc39.x86_64", "root=UUID=x ro rhgb tuned")
	var order []string
	for _, e := range m.Entries {
		order = append(order, strings.TrimPrefix(e.ID, id))
	}
	if want := []string{"6.10.1-100.fc39.x86_64", "6.5.12-300.fc39.x86_64", "6.5.6-300.fc39.x86_64", "0-rescue"}; !slices.Equal(order, want) {
		t.Errorf("the order is %q", order)
	}
	if err := m.Commit(); err != nil {
		t.Error(err)
	}
	files["grub2/grubenv"] = envBlock("saved_entry=" + id + "6.5.6-300.fc39.x86_64")
	boots(t, mustFind(t, disk()), "", "kernel 6.5.6-300.fc39.x86_64", "initrd 6.5.6-300.fc39.x86_64", "root=UUID=x ro rhgb")

	// The same without GRUB: systemd-boot's choice.
	delete(files, "grub2/grub.cfg")
	files["loader/loader.conf"] = "timeout 3\ndefault *6.5.12*\n"
	boots(t, mustFind(t, disk()), "", "kernel 6.5.12-300.fc39.x86_64", "initrd 6.5.12-300.fc39.x86_64", "root=UUID=x ro rhgb")
}

func TestExtlinux(t *testing.T) {
	fs := extImage(t, tree(t, map[string]string{
		"boot/extlinux.conf": "DEFAULT menu.c32\nTIMEOUT 10\nLABEL virt\n  MENU DEFAULT\n  MENU LABEL Linux ^virt\n  LINUX vmlinuz-virt\n  INITRD ucode.img,initramfs-virt\n  APPEND root=UUID=x modules=ext4\n\n" +
			"LABEL old\n  KERNEL /boot/vmlinuz-old\n  APPEND initrd=/boot/initramfs-old root=/dev/xvda1\n",
		"boot/vmlinuz-virt": "virt", "boot/initramfs-virt": "virt's", "boot/ucode.img": "micro", "boot/vmlinuz-old": "old", "boot/initramfs-old": "old's",
	}), 16)
	m := mustFind(t, fs)
	boots(t, m, "", "virt", "micro\x00\x00\x00virt's", "root=UUID=x modules=ext4")
	boots(t, m, "old", "old", "old's", "root=/dev/xvda1")
	if m.Entries[0].Title != "Linux virt" {
		t.Errorf("title %q", m.Entries[0].Title)
	}
}

// TestKernels is a disk without a boot loader.
func TestKernels(t *testing.T) {
	fs := extImage(t, tree(t, map[string]string{
		"boot/vmlinuz-6.9.0-1-amd64": "old", "boot/initrd.img-6.9.0-1-amd64": "old's", "boot/vmlinuz-6.12.1-1-amd64": "new", "boot/initrd.img-6.12.1-1-amd64": "new's",
		"vmlinuz>": "/etc/passwd", // not a kernel of this disk's, whatever it leads to on the host
	}), 16)
	m := mustFind(t, gptDisk(t, fs))
	boots(t, m, "", "new", "new's", "root=UUID="+testUUID+" ro")
	boots(t, m, "6.9.0-1-amd64", "old", "old's", "root=UUID="+testUUID+" ro")
}

// TestLVM uses physical volumes that LVM made (testdata: 1 MiB of each).
func TestLVM(t *testing.T) {
	disks := make([][]byte, 2)
	for i := range disks {
		z, err := gzip.NewReader(strings.NewReader(testdata(t, "lvm-pv"+strconv.Itoa(i+1)+".gz")))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		disks[i] = append(b, make([]byte, 24<<20-len(b))...)
	}
	root := extImage(t, tree(t, debian(t, "debian12-grub.cfg")), 20)
	copy(disks[0][3<<20:], root[:8<<20])
	copy(disks[1][1<<20:], root[8<<20:])
	m := mustFind(t, disks[1], disks[0])
	boots(t, m, "", "kernel 6.12", "initrd 6.12", "root=/dev/xvda1 ro console=ttyS0,115200 quiet")
	if _, err := find(t, disks[0]); err == nil || !strings.Contains(err.Error(), "not one of the guest's disks") {
		t.Errorf("half of a group: %v", err)
	}

	for i, b := range disks { // the same with the striped volume
		clear(b[(1+2*(1-i))<<20:][:1<<20])
	}
	striped := extImage(t, tree(t, map[string]string{"boot/vmlinuz-1": noise(3 << 20), "a": "", "b": ""}), 8)
	for i := 0; i < len(striped); i += 64 << 10 {
		disk, at := i>>16&1, i>>17<<16
		copy(disks[disk][[]int{13, 16}[disk]<<20+at:], striped[i:i+64<<10])
	}
	boots(t, mustFind(t, disks...), "", noise(3<<20), "", "root=UUID="+testUUID+" ro")
}

func TestNothing(t *testing.T) {
	for name, disk := range map[string]func(t *testing.T) []byte{
		"empty":     func(*testing.T) []byte { return nil },
		"zeros":     func(*testing.T) []byte { return make([]byte, 1<<20) },
		"no kernel": func(t *testing.T) []byte { return extImage(t, tree(t, map[string]string{"a": ""}), 8) },
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := find(t, disk(t)); err == nil || !strings.Contains(err.Error(), "no kernel was found") {
				t.Error(err)
			}
		})
	}
	xfs := append([]byte("XFSB"), make([]byte, 1<<20)...)
	if _, err := find(t, xfs); err == nil || !strings.Contains(err.Error(), "XFS") {
		t.Errorf("XFS: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, []Disk{{memory(xfs), 1 << 20}}); err == nil {
		t.Error("a search that was cancelled found something")
	}
}

// TestScript runs forms of GRUB's language that no other test has.
func TestScript(t *testing.T) {
	for script, want := range map[string]string{
		`set a=1; set b="${a}2"; set c='$a'`:                                        `a=1 b=12 c=$a`,
		"if [ x = y ]; then set a=1; elif [ -n z ]\nthen set a=2; else set a=3; fi": `a=2`,
		`for i in a b "c d"; do set l="$l<$i>"; done`:                               `i=c d l=<a><b><c d>`,
		`function f { set a=$2; return; set a=no; }; f 1 2; set b=2`:                `a=2 b=2`,
		`while [ "$i" != xxx ]; do set i=x$i; done`:                                 `i=xxx`,
		`until [ "$i" = xx ]; do set i=x$i; done`:                                   `i=xx`,
		`if ! [ 3 -gt 4 -a 1 -eq 1 ]; then set a=1; fi`:                             ``,
		`if [ ! 3 -gt 4 -a ( 1 -eq 1 -o a = b ) ]; then set a=1; fi`:                `a=1`,
		"set a=x\\\ny # comment\n# all of it\nset b=1#2":                            `a=xy b=1#2`,
		`w="a b"; for i in $w c; do set n=$n$i,; done`:                              `i=c n=a,b,c, w=a b`,
		`unknown && set a=1`:                                                        ``,
		`if [ -z "$nothing" ]; then set a=$"text"; fi; unset b`:                     `a=text`,
		`if true; then set a=1; fi; if false; then set a=2; fi`:                     `a=1`,
	} {
		list, err := parseScript(script)
		if err != nil {
			t.Errorf("%s: %v", script, err)
			continue
		}
		g := &grub{vars: map[string]string{}, funcs: map[string][]statement{}}
		g.run(list)
		delete(g.vars, "?")
		var got []string
		for _, k := range slices.Sorted(maps.Keys(g.vars)) {
			if v := g.vars[k]; v != "" {
				got = append(got, k+"="+v)
			}
		}
		if s := strings.Join(got, " "); s != want || g.err != nil {
			t.Errorf("%s: %s, want %s (%v)", script, s, want, g.err)
		}
	}
	for _, bad := range []string{"if true; then", "fi", "}", "menuentry x {", `set a="x`, "{ x }", "if x; then y; done", strings.Repeat("if x; then ", 1000)} {
		if _, err := parseScript(bad); err == nil {
			t.Errorf("%.40s was accepted", bad)
		}
	}
	for _, endless := range []string{"while true; do set a=1; done", "function f { f; }; f", `set a=aaaaaaaaaaaaaaaa; while true; do set a=$a$a; done`} {
		list, err := parseScript(endless)
		if err != nil {
			t.Fatal(err)
		}
		g := &grub{vars: map[string]string{}, funcs: map[string][]statement{}}
		if g.run(list); g.err == nil {
			t.Errorf("%s came to an end", endless)
		}
	}
}

func TestVersions(t *testing.T) {
	order := []string{"0-rescue", "1.0~rc1", "1.0", "1.0^git", "1.0.1", "1.2", "1.10", "2.a", "2.1", "6.1.0-9-amd64", "6.1.0-56-amd64", "6.12.117+deb12-amd64"}
	for i, a := range order {
		for j, b := range order {
			if got := compareVersions(a, b); got != min(1, max(-1, i-j)) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
}
