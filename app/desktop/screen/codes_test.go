package screen

import (
	"testing"

	"github.com/hxen-project/hxen/hv/rfb"
	"github.com/hxen-project/hxen/platform/keymap"
)

// The two ends of a pvh guest's keyboard agree: a key that this window sends by
// its scan code comes out of the server half by the same Linux number.
func TestScanCodesComeOutAsTheSameKeys(t *testing.T) {
	n := 0
	for code := keymap.Code(1); code < 256; code++ {
		xt := code.XT()
		if xt == 0 {
			continue
		}
		n++
		if got := rfb.KeyCode(xt); got != uint16(code) {
			t.Errorf("%s is scan code %#x, which comes out as key %d, not %d", code.Name(), xt, got, code)
		}
	}
	if n < 105 {
		t.Errorf("%d keys have scan codes", n)
	}
}
