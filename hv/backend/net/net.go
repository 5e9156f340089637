// Package net is the back end of a guest's Xen network card, Xen's io/netif.h:
// a Card carries frames between the two rings of a front end and a socket of the
// network. Files in reading order: card.go (the socket), front.go (the rings),
// tx.go and request.go (what the guest sends), packet.go (how a packet becomes
// Ethernet frames), rx.go (what it gets).
//
// A front end leaves to its back end what it would leave to a network card: the
// TCP and UDP checksums (IPv4's always, XEN-ABI section 14.4) and, where that was
// offered, cutting a long TCP packet into segments. The networks of HXEN take
// ordinary frames with complete checksums, so both are done here.
//
// Whatever a guest writes costs it the packet (errPacket) or the card (errRing),
// nothing else.
package net
