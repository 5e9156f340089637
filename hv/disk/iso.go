package disk

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
)

// ISO 9660 (ECMA-119): 2,048-byte sectors, volume descriptors from sector 16,
// each a type byte and "CD001", until type 255. El Torito (its specification,
// version 1.0) puts a boot record descriptor (type 0) among them that names the
// sector of the boot catalogue.
const (
	isoSector      = 2048
	isoFirst       = 16
	isoDescriptors = 32 // more than any real image has
	platformEFI    = 0xef
)

// inspectISO reports whether r holds a CD image, and describes it.
func inspectISO(r io.ReaderAt, in *Info) (bool, error) {
	var label string
	var catalogue uint32
	found, udf := false, false
	for i := range int64(isoDescriptors) {
		d, err := readAt(r, (isoFirst+i)*isoSector, isoSector)
		if err != nil {
			return false, err
		}
		if len(d) < isoSector {
			break
		}
		id := string(d[1:6])
		if id == "BEA01" || id == "NSR02" || id == "NSR03" || id == "TEA01" {
			udf = true // ECMA-167's volume recognition sequence, after or instead of CD001
			continue
		}
		if id != "CD001" {
			break
		}
		switch d[0] {
		case 0:
			if bytes.HasPrefix(d[7:], []byte("EL TORITO SPECIFICATION")) {
				catalogue = binary.LittleEndian.Uint32(d[0x47:])
			}
		case 1:
			found, label = true, printable(string(d[40:72]))
		}
	}
	if !found && !udf {
		return false, nil
	}
	in.Kind, in.Format, in.Label = ISO, "iso9660", label
	if !found {
		in.Format = "udf"
	}
	in.OS = guessOS(label)
	if catalogue != 0 {
		c, err := readAt(r, int64(catalogue)*isoSector, isoSector)
		if err != nil {
			return false, err
		}
		bootCatalogue(c, in)
	}
	return true, nil
}

// bootCatalogue walks El Torito's catalogue of 32-byte entries: a validation
// entry that names the platform of the default entry after it, then sections.
func bootCatalogue(c []byte, in *Info) {
	entry := func(i int) []byte {
		if (i+1)*32 > len(c) {
			return nil
		}
		return c[i*32 : (i+1)*32]
	}
	v, first := entry(0), entry(1)
	if first == nil || v[0] != 1 || v[30] != 0x55 || v[31] != 0xaa {
		return
	}
	note := func(platform, indicator byte) {
		switch {
		case indicator != 0x88:
		case platform == platformEFI:
			in.UEFI = true
		case platform == 0:
			in.BIOS = true
		}
	}
	note(v[1], first[0])
	for i := 2; ; {
		h := entry(i)
		if h == nil || h[0] != 0x90 && h[0] != 0x91 {
			return
		}
		n := int(binary.LittleEndian.Uint16(h[2:]))
		for k := 1; k <= n; k++ {
			e := entry(i + k)
			if e == nil {
				return
			}
			note(h[1], e[0])
		}
		if h[0] == 0x91 {
			return
		}
		i += 1 + n
	}
}

// labels guesses an operating system from how a volume id begins (in upper
// case); the first match counts.
var labels = []struct{ start, os string }{
	{"DEBIAN", "Debian"}, {"D-I ", "Debian"}, {"ISODEBIAN", "Debian"},
	{"UBUNTU", "Ubuntu"}, {"KUBUNTU", "Ubuntu"}, {"XUBUNTU", "Ubuntu"}, {"LUBUNTU", "Ubuntu"},
	{"LINUX MINT", "Linux Mint"}, {"POP_OS", "Pop!_OS"}, {"KALI", "Kali Linux"}, {"TAILS", "Tails"},
	{"FEDORA", "Fedora"}, {"RHEL", "Red Hat Enterprise Linux"}, {"CENTOS", "CentOS"},
	{"ALMALINUX", "AlmaLinux"}, {"ROCKY", "Rocky Linux"}, {"OL-", "Oracle Linux"},
	{"OPENSUSE", "openSUSE"}, {"SLE", "SUSE Linux Enterprise"}, {"SUSE", "SUSE Linux"},
	{"ARCH_", "Arch Linux"}, {"MANJARO", "Manjaro"}, {"EOS_", "EndeavourOS"},
	{"ALPINE", "Alpine Linux"}, {"GENTOO", "Gentoo"}, {"NIXOS", "NixOS"}, {"VOID", "Void Linux"},
	{"SLACK", "Slackware"}, {"PROXMOX", "Proxmox"}, {"PVE", "Proxmox"}, {"XCP-NG", "XCP-ng"},
	{"OPENBSD", "OpenBSD"}, {"NETBSD", "NetBSD"}, {"FREEBSD", "FreeBSD"}, {"DRAGONFLY", "DragonFly BSD"},
	{"HAIKU", "Haiku"}, {"REACTOS", "ReactOS"}, {"FREEDOS", "FreeDOS"}, {"FD1", "FreeDOS"},
	{"CCCOMA_", "Windows"}, {"CCSA_", "Windows"}, {"CPBA_", "Windows"}, {"SSS_", "Windows Server"},
	{"ESD-ISO", "Windows"}, {"J_CCSA", "Windows"}, {"GRMC", "Windows"}, {"WIN", "Windows"},
	{"VIRTIO-WIN", "virtio drivers for Windows"},
	{"MT86PLUS", "Memtest86+"}, {"MEMTEST", "Memtest86+"}, {"IPXE", "iPXE"},
	{"SYSTEMRESCUE", "SystemRescue"}, {"RESCUE", "SystemRescue"},
}

func guessOS(label string) string {
	up := strings.ToUpper(label)
	for _, l := range labels {
		if strings.HasPrefix(up, l.start) {
			return l.os
		}
	}
	if strings.Contains(up, "_RELEASE_") || strings.Contains(up, "_STABLE_") { // 14_1_RELEASE_AMD64_CD
		return "FreeBSD"
	}
	return ""
}
