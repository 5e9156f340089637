package native

import (
	"context"
	"fmt"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/backend/net"
)

// A clone is a machine that goes on from the file of another one: a template. Its
// memory is the file's, mapped copy-on-write, so that clones share what none of
// them writes to. The file must never change, and its checksums are not looked at:
// that would read all of it.

// clones reports whether the machine with that uuid is another than the saved one.
func (s *Saved) clones(uuid [16]byte) bool { return s.state.UUID != uuid }

// mapped hands out the memory of a saved machine's file in the order in which it
// was written.
type mapped struct {
	saved *Saved
	off   uint64 // in the image
}

func (m *mapped) next(c *accel.RAMConfig) {
	if m == nil {
		return
	}
	c.File, c.Offset = m.saved.file.OS(), int64(m.saved.image.Off+m.off)
	m.off += (c.Size + chunkSize - 1) / chunkSize * chunkSize
}

// become gives a clone its own identity, which its guest finds as soon as it goes
// on: uuid and name in XenStore, where a hint for its host name is as well; a
// generation id; and network cards in the place of the old ones, which the guest is
// asked to let go of. It never sees the template's network.
//
// The state of the kernel's random numbers is the template's. Linux mixes in
// the processor's (RDSEED) each time that it seeds itself anew, within a minute
// (drivers/char/random.c); see acpiGeneration for why it cannot be told to do so at
// once. A new card's address is mixed in, too.
func (m *Machine) become(st *saved) error {
	if err := newGeneration(m.mem); err != nil {
		return err
	}
	if err := m.client.Reintroduce(m.introduction(), uuidText(st.UUID)); err != nil {
		return fmt.Errorf("tell XenStore of the clone: %w", err)
	}
	cards := st.Outside.Places.NICs
	for i, dev := range m.config.Devices {
		if _, is := dev.(*net.Card); !is || len(cards) == 0 {
			if err := m.attach(dev); err != nil {
				return fmt.Errorf("give the guest its device %d: %w", i, err)
			}
			continue
		}
		old, err := m.backends().Retire("vif", cards[0])
		cards = cards[1:]
		if err != nil {
			return fmt.Errorf("take the template's network card from the guest: %w", err)
		}
		m.devices = append(m.devices, &plugged{nil, old})
		m.servers.Add(1)
		go func() {
			defer m.servers.Done()
			if old.Unplug(context.Background()) != nil || m.over() { // the machine's end ends it, too
				return
			}
			if err := m.plug(dev); err != nil {
				m.log.Warn("give a clone its network card", "err", err)
			}
		}()
	}
	return nil
}
