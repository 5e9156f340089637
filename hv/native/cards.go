package native

import (
	"context"
	"fmt"
	gonet "net"

	"github.com/hxen-project/hxen/hv/backend/net"
)

// openCards opens the guest's network cards.
func (g *Guest) openCards() error {
	for i, nic := range g.spec.NICs {
		if i >= len(g.host.NICs) || g.host.Dial == nil {
			return staged(stageNetwork, fmt.Errorf("card %s has no socket to its network", nic.MAC), "")
		}
		socket := g.host.NICs[i]
		g.config.Devices = append(g.config.Devices, net.New(net.Config{
			ID: g.places[nic.UUID], NIC: nic, Log: g.host.Log,
			Dial: func(ctx context.Context) (gonet.Conn, error) { return g.host.Dial(ctx, socket) },
		}))
	}
	return nil
}
