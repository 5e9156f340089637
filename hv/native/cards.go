package native

import "fmt"

// openCards opens the guest's network cards.
func (g *Guest) openCards() error {
	for i, nic := range g.spec.NICs {
		if i >= len(g.host.NICs) || g.host.Dial == nil {
			return staged(stageNetwork, fmt.Errorf("card %s has no socket to its network", nic.MAC), "")
		}
		socket := g.host.NICs[i]
		card := g.newCard(g.places[nic.UUID], nic, socket)
		g.cards[nic.UUID] = card
		g.config.Devices = append(g.config.Devices, card)
	}
	return nil
}
