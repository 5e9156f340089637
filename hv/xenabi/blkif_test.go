package xenabi

import (
	"reflect"
	"testing"
)

// compare holds types against what the C compiler printed of the structures, and
// constants against its numbers.
func compare(t *testing.T, file string, types map[string]any, constants map[string]int) {
	t.Helper()
	sizes, offsets, byName := printed(t, file)
	for c, v := range types {
		typ := reflect.TypeOf(v)
		if int(typ.Size()) != sizes[c] || typ.Field(0).Type.String() != "structs.HostLayout" {
			t.Errorf("%s: struct %s has %d bytes, %s %d", file, c, sizes[c], typ.Name(), typ.Size())
		}
		var at []int
		for f := range fields(typ) {
			at = append(at, int(f.Offset))
		}
		if !reflect.DeepEqual(at, offsets[c]) {
			t.Errorf("%s: the fields of %s are at %v, those of struct %s at %v", file, typ.Name(), at, c, offsets[c])
		}
	}
	for c, v := range constants {
		if want, ok := byName[c]; !ok || want != v {
			t.Errorf("%s: %s is %d, the header has %d (%v)", file, c, v, want, ok)
		}
	}
}

func TestBlkifLayout(t *testing.T) {
	constants := map[string]int{
		"BLKIF_OP_READ": BLKIF_OP_READ, "BLKIF_OP_WRITE": BLKIF_OP_WRITE, "BLKIF_OP_WRITE_BARRIER": BLKIF_OP_WRITE_BARRIER,
		"BLKIF_OP_FLUSH_DISKCACHE": BLKIF_OP_FLUSH_DISKCACHE, "BLKIF_OP_DISCARD": BLKIF_OP_DISCARD, "BLKIF_OP_INDIRECT": BLKIF_OP_INDIRECT,
		"BLKIF_RSP_EOPNOTSUPP": BLKIF_RSP_EOPNOTSUPP, "BLKIF_RSP_ERROR": BLKIF_RSP_ERROR, "BLKIF_RSP_OKAY": BLKIF_RSP_OKAY,
		"BLKIF_MAX_SEGMENTS_PER_REQUEST":       BLKIF_MAX_SEGMENTS_PER_REQUEST,
		"BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST": BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
		"VDISK_CDROM":                          VDISK_CDROM, "VDISK_REMOVABLE": VDISK_REMOVABLE, "VDISK_READONLY": VDISK_READONLY,
		"entry": BlkifEntry,
	}
	compare(t, "blkif64.txt", map[string]any{
		"blkif_request_segment": BlkifSegment{}, "blkif_request": BlkifRequest{}, "blkif_request_discard": BlkifRequestDiscard{},
		"blkif_request_indirect": BlkifRequestIndirect{}, "blkif_response": BlkifResponse{},
	}, constants)
	constants["entry"] = BlkifEntry32
	compare(t, "blkif32.txt", map[string]any{
		"blkif_request_segment": BlkifSegment{}, "blkif_request": BlkifRequest32{}, "blkif_request_discard": BlkifRequestDiscard32{},
		"blkif_request_indirect": BlkifRequestIndirect32{}, "blkif_response": BlkifResponse32{},
	}, constants)
}
