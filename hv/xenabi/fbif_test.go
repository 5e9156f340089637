package xenabi

import (
	"reflect"
	"testing"
)

func TestFbifLayout(t *testing.T) {
	for width, file := range map[int]string{64: "fbif64.txt", 32: "fbif32.txt"} {
		sizes, offsets, byName := printed(t, file)
		for c, v := range map[string]any{
			"xenfb_update": XenfbUpdate{}, "xenfb_resize": XenfbResize{},
			"xenkbd_motion": XenkbdMotion{}, "xenkbd_key": XenkbdKey{}, "xenkbd_position": XenkbdPosition{},
		} {
			typ := reflect.TypeOf(v)
			if int(typ.Size()) != sizes[c] || typ.Field(0).Type.String() != "structs.HostLayout" {
				t.Errorf("%d: struct %s has %d bytes, %s %d", width, c, sizes[c], typ.Name(), typ.Size())
			}
			if got := offsetsOf(typ); !reflect.DeepEqual(got, offsets[c]) {
				t.Errorf("%d: the fields of %s are at %v, those of struct %s at %v", width, typ.Name(), got, c, offsets[c])
			}
		}
		pd := XenfbPD64
		if width == 32 {
			pd = XenfbPD32
		}
		if got := append(offsetsOf(reflect.TypeFor[XenfbPage]()), pd); !reflect.DeepEqual(got, offsets["xenfb_page"]) {
			t.Errorf("%d: the fields of XenfbPage are at %v, those of struct xenfb_page at %v", width, got, offsets["xenfb_page"])
		}
		for c, v := range map[string]int{
			"XENFB_TYPE_UPDATE": XENFB_TYPE_UPDATE, "XENFB_TYPE_RESIZE": XENFB_TYPE_RESIZE,
			"XENFB_OUT_EVENT_SIZE": XENFB_OUT_EVENT_SIZE, "XENFB_OUT_RING_LEN": XENFB_OUT_RING_LEN, "XENFB_OUT_RING_OFFS": XENFB_OUT_RING_OFFS,
			"XENKBD_TYPE_MOTION": XENKBD_TYPE_MOTION, "XENKBD_TYPE_KEY": XENKBD_TYPE_KEY, "XENKBD_TYPE_POS": XENKBD_TYPE_POS,
			"XENKBD_IN_EVENT_SIZE": XENKBD_IN_EVENT_SIZE, "XENKBD_IN_RING_LEN": XENKBD_IN_RING_LEN, "XENKBD_IN_RING_OFFS": XENKBD_IN_RING_OFFS,
			"xenfb_page.in_cons": XenfbInCons, "xenfb_page.in_prod": XenfbInProd, "xenfb_page.out_cons": XenfbOutCons, "xenfb_page.out_prod": XenfbOutProd,
			"xenkbd_page.in_cons": XenfbInCons, "xenkbd_page.in_prod": XenfbInProd, "xenkbd_page.out_cons": XenfbOutCons, "xenkbd_page.out_prod": XenfbOutProd,
		} {
			if want, ok := byName[c]; !ok || want != v {
				t.Errorf("%d: %s is %d, the header has %d (%v)", width, c, v, want, ok)
			}
		}
	}
}

func offsetsOf(typ reflect.Type) (at []int) {
	for f := range fields(typ) {
		at = append(at, int(f.Offset))
	}
	return at
}
