package native

import (
	"context"
	"fmt"
	"strconv"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/xenstore"
)

var _ hv.Resizer = (*Guest)(nil)

// leastMemory is what a guest can be asked to live on.
const leastMemory = 32 * hv.MiB

// SetMemory tells the guest's balloon driver how much memory to leave itself.
func (g *Guest) SetMemory(_ context.Context, bytes uint64) error {
	m, err := g.now("change the guest's memory")
	if err != nil {
		return err
	}
	if bytes < leastMemory || bytes > g.spec.Memory {
		return fmt.Errorf("change the guest's memory: %d MiB is not from %d to the %d MiB that it was started with", bytes/hv.MiB, leastMemory/hv.MiB, g.spec.Memory/hv.MiB)
	}
	if err := m.client.Write(xenstore.Home(domid)+"/memory/target", strconv.FormatUint(bytes>>10, 10)); err != nil {
		return fmt.Errorf("change the guest's memory: %w", err)
	}
	return nil
}

// SetVCPUs tells the guest's kernel which processors it may use.
func (g *Guest) SetVCPUs(_ context.Context, n int) error {
	m, err := g.now("change the guest's processors")
	if err != nil {
		return err
	}
	if n < 1 || n > m.config.VCPUs {
		return fmt.Errorf("change the guest's processors: %d is not from 1 to the %d that it was started with", n, m.config.VCPUs)
	}
	err = m.client.Do(func(t *xenstore.Tx) error {
		for id := range m.config.VCPUs {
			state := "online"
			if id >= n {
				state = "offline"
			}
			path := fmt.Sprintf("%s/cpu/%d/availability", xenstore.Home(domid), id)
			if now, err := t.Read(path); err == nil && now == state {
				continue
			}
			if err := t.Write(path, state); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("change the guest's processors: %w", err)
	}
	return nil
}
