package bootdisk

import (
	"fmt"
)

const (
	maxGPT      = 1024 // entries; 128 are usual
	maxLogical  = 128  // partitions in an extended one
	sectorSize  = 512
	sectorSize4 = 4096
)

// partition is a piece of a disk as its table has it.
type partition struct {
	number int
	table  string // GRUB's word: gpt or msdos
	at     span
}

// partitions reads a disk's table; none is no error, as a disk may be one file
// system or one physical volume.
func partitions(disk span) []partition {
	var boot [sectorSize]byte
	if disk.read(boot[:], 0) != nil || le16(boot[510:]) != 0xaa55 {
		return nil
	}
	for i := range 4 {
		if boot[446+16*i+4] != 0xee {
			continue
		}
		// Where the head is damaged the copy at the disk's end stands in for it.
		for _, sector := range []uint64{sectorSize, sectorSize4} {
			for _, at := range []uint64{1, disk.n/sector - 1} {
				if p := gpt(disk, sector, at); p != nil {
					return p
				}
			}
		}
		return nil
	}
	return mbr(disk, boot[:])
}

// gpt reads a GUID partition table whose header is in sector at (UEFI
// specification, 5.3).
func gpt(disk span, sector, at uint64) (out []partition) {
	var h [92]byte
	if at > disk.n/sector || disk.read(h[:], at*sector) != nil || string(h[:8]) != "EFI PART" {
		return nil
	}
	first, n, size := le64(h[72:]), uint64(le32(h[80:])), uint64(le32(h[84:]))
	if n > maxGPT || size < 128 || size > 4096 || size%8 != 0 || first > disk.n/sector {
		return nil
	}
	entries := make([]byte, n*size)
	if disk.read(entries, first*sector) != nil {
		return nil
	}
	for i := range n {
		e := entries[i*size:][:size]
		from, to := le64(e[32:]), le64(e[40:]) // the last sector belongs to it
		if le64(e)|le64(e[8:]) == 0 || from > to || to >= disk.n/sector {
			continue
		}
		out = append(out, partition{int(i) + 1, "gpt", disk.part(from*sector, (to-from+1)*sector)})
	}
	return out
}

// mbr reads the table of a master boot record, and the chain of tables in its
// extended partitions.
func mbr(disk span, boot []byte) (out []partition) {
	logical := 5
	add := func(number int, start, n uint32) {
		if at := uint64(start) * sectorSize; n > 0 && at < disk.n {
			out = append(out, partition{number, "msdos", disk.part(at, uint64(n)*sectorSize)})
		}
	}
	var extended []uint32
	for i := range 4 {
		e := boot[446+16*i:]
		if e[0]&0x7f != 0 { // neither active nor not: this is a boot sector, such as FAT's
			return nil
		}
		switch e[4] {
		case 0:
		case 0x05, 0x0f, 0x85:
			extended = append(extended, le32(e[8:]))
		default:
			add(i+1, le32(e[8:]), le32(e[12:]))
		}
	}
	for _, base := range extended {
		seen := map[uint32]bool{}
		for at := base; !seen[at] && len(seen) < maxLogical; {
			seen[at] = true
			var b [sectorSize]byte
			if disk.read(b[:], uint64(at)*sectorSize) != nil || le16(b[510:]) != 0xaa55 {
				break
			}
			next := uint32(0)
			for i := range 4 {
				switch e := b[446+16*i:]; e[4] {
				case 0:
				case 0x05, 0x0f, 0x85:
					next = base + le32(e[8:])
				default:
					add(logical, at+le32(e[8:]), le32(e[12:]))
					logical++
				}
			}
			if next == 0 {
				break
			}
			at = next
		}
	}
	return out
}

// volumes finds what on the disks may hold a file system.
func volumes(disks []span) ([]*volume, []error) {
	var out []*volume
	var problems []error
	var physical []span
	add := func(data *extents, names ...string) {
		if len(out) >= maxVolumes {
			return
		}
		v := &volume{names: names, data: data}
		var err error
		if v.fs, err = openFS(data); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", names[0], err))
		}
		out = append(out, v)
	}
	plain := func(s span, names ...string) {
		if isPhysical(s) {
			physical = append(physical, s)
			return
		}
		e := &extents{}
		e.add(s)
		add(e, names...)
	}
	for i, d := range disks {
		disk := fmt.Sprintf("hd%d", i)
		parts := partitions(d)
		for _, p := range parts {
			plain(p.at, fmt.Sprintf("%s,%s%d", disk, p.table, p.number), fmt.Sprintf("%s,%d", disk, p.number))
		}
		if len(parts) == 0 {
			plain(d, disk)
		}
	}
	logical, err := logicalVolumes(physical)
	if err != nil {
		problems = append(problems, fmt.Errorf("LVM: %w", err))
	}
	for _, l := range logical {
		add(l.data, l.names...)
	}
	return out, problems
}

// openFS returns nil for what is no file system that is known here.
func openFS(data *extents) (fileSystem, error) {
	for _, open := range []func(*extents) (fileSystem, error){openExt4, openFAT} {
		if fs, err := open(data); fs != nil || err != nil {
			return fs, err
		}
	}
	return nil, foreignFS(data)
}

// foreignFS names a file system that may hold a kernel but is not read here.
func foreignFS(data *extents) error {
	var b [8]byte
	for _, k := range []struct {
		off        uint64
		mark, name string
	}{
		{0, "XFSB", "XFS"}, {0x10040, "_BHRfS_M", "Btrfs"}, {0, "hsqs", "SquashFS"}, {0, "LUKS\xba\xbe", "an encrypted volume (LUKS)"},
		{1024, "\x10\x20\xf5\xf2", "F2FS"},
	} {
		if data.read(b[:len(k.mark)], k.off) == nil && string(b[:len(k.mark)]) == k.mark {
			return fmt.Errorf("it holds %s, which is not read here", k.name)
		}
	}
	return nil
}
