package xenabi

import "structs"

// The types, sizes and places of io/fbif.h and io/kbdif.h: a shared page of each
// holds rings of events of one size.
const (
	XENFB_TYPE_UPDATE = 2
	XENFB_TYPE_RESIZE = 3

	XENFB_OUT_EVENT_SIZE = 40
	XENFB_OUT_RING_LEN   = 51
	XENFB_OUT_RING_OFFS  = 2048

	XENKBD_TYPE_MOTION = 1
	XENKBD_TYPE_KEY    = 3
	XENKBD_TYPE_POS    = 4

	XENKBD_IN_EVENT_SIZE = 40
	XENKBD_IN_RING_LEN   = 51
	XENKBD_IN_RING_OFFS  = 1024

	// The indices of struct xenfb_page and of struct xenkbd_page.
	XenfbInCons  = 0
	XenfbInProd  = 4
	XenfbOutCons = 8
	XenfbOutProd = 12

	// The directory, an array of unsigned long, of struct xenfb_page.
	XenfbPD64 = 40
	XenfbPD32 = 36
	XenfbPDs  = 256
)

// XenfbPage is struct xenfb_page, io/fbif.h, up to its directory.
type XenfbPage struct {
	_                structs.HostLayout
	InCons, InProd   uint32
	OutCons, OutProd uint32
	Width, Height    int32
	LineLength       uint32
	MemLength        uint32
	Depth            uint8
	_                [3]uint8
}

// XenfbUpdate is struct xenfb_update, io/fbif.h.
type XenfbUpdate struct {
	_                   structs.HostLayout
	Type                uint8
	_                   [3]uint8
	X, Y, Width, Height int32
}

// XenfbResize is struct xenfb_resize, io/fbif.h.
type XenfbResize struct {
	_                                    structs.HostLayout
	Type                                 uint8
	_                                    [3]uint8
	Width, Height, Stride, Depth, Offset int32
}

// XenkbdMotion is struct xenkbd_motion, io/kbdif.h.
type XenkbdMotion struct {
	_                structs.HostLayout
	Type             uint8
	_                [3]uint8
	RelX, RelY, RelZ int32
}

// XenkbdKey is struct xenkbd_key, io/kbdif.h.
type XenkbdKey struct {
	_       structs.HostLayout
	Type    uint8
	Pressed uint8
	_       [2]uint8
	Keycode uint32
}

// XenkbdPosition is struct xenkbd_position, io/kbdif.h.
type XenkbdPosition struct {
	_                structs.HostLayout
	Type             uint8
	_                [3]uint8
	AbsX, AbsY, RelZ int32
}
