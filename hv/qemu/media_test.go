package qemu

import (
	"fmt"
	"slices"
	"testing"
)

// TestLockedTray: a guest that has locked its drive is asked first; the tray is
// forced only if it does not let go.
func TestLockedTray(t *testing.T) {
	for name, c := range map[string]struct {
		event string // what the guest does when it is asked
		want  []string
	}{
		"lets go":      {`{"event": "DEVICE_TRAY_MOVED", "data": {"id": "vbd1", "tray-open": true}}` + "\n", []string{"blockdev-open-tray"}},
		"another's":    {`{"event": "DEVICE_TRAY_MOVED", "data": {"id": "vbd2", "tray-open": true}}` + "\n", []string{"blockdev-open-tray", "blockdev-open-tray"}},
		"does nothing": {"", []string{"blockdev-open-tray", "blockdev-open-tray"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked []string
			m := &Machine{}
			m.mon, _ = fakeQEMU(t, nil, func(execute, id string) string {
				asked = append(asked, execute)
				if len(asked) == 1 {
					return fmt.Sprintf(`{"error": {"class": "GenericError", "desc": "Device 'vbd1' is locked and force was not specified, wait for tray to open and try again"}, "id": %q}`, id) + "\n" + c.event
				}
				return fmt.Sprintf(`{"return": {}, "id": %q}`, id)
			})
			opened(t, m.mon)
			if err := m.openTray(t.Context(), "vbd1"); err != nil {
				t.Fatal(err)
			}
			_ = m.mon.Disconnect()
			if !slices.Equal(asked, c.want) {
				t.Errorf("asked for %q, want %q", asked, c.want)
			}
		})
	}
}
