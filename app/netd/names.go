package netd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	maxLookups   = 256             // of the host's resolver at one time
	lookupWithin = 8 * time.Second // guests ask again after 5 to 10 s
)

// names is what the gateway's DNS server knows: the guests of this network in
// the zone hxen.internal, and for all else the host's resolver, which follows
// changes of the host's configuration and its VPNs. The DNS server (a part of
// the library) tells guests that a name does not exist whatever the error.
type names struct {
	log   *slog.Logger
	slots chan struct{} // one per lookup

	mu    sync.Mutex // guards hosts
	hosts map[string]netip.Addr
}

// set replaces the guests' names.
func (n *names) set(hosts map[string]netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts = hosts
}

// own looks name up in the zone; mine is false for names of other zones.
func (n *names) own(name string) (ip netip.Addr, mine bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	host, mine := strings.CutSuffix(name, "."+zone)
	if !mine {
		return ip, name == zone
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[host], true
}

// ask runs one lookup of the host's resolver within the bounds.
func ask[T any](ctx context.Context, n *names, name string, look func(context.Context, *net.Resolver) (T, error)) (T, error) {
	var none T
	if _, mine := n.own(name); mine {
		return none, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	default:
		return none, fmt.Errorf("look up %q: too many lookups at one time", name)
	}
	ctx, cancel := context.WithTimeout(ctx, lookupWithin)
	defer cancel()
	out, err := look(ctx, net.DefaultResolver)
	if err != nil {
		n.log.Debug("a guest's lookup failed", "name", name, "err", err)
	}
	return out, err
}

// LookupIPAddr and the methods below are what the library's DNS server asks.
func (n *names) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	if ip, mine := n.own(host); mine && ip.IsValid() {
		return []net.IPAddr{{IP: ip.AsSlice()}}, nil
	}
	return ask(ctx, n, host, func(ctx context.Context, r *net.Resolver) ([]net.IPAddr, error) {
		return r.LookupIPAddr(ctx, host)
	})
}

func (n *names) LookupCNAME(ctx context.Context, host string) (string, error) {
	return ask(ctx, n, host, func(ctx context.Context, r *net.Resolver) (string, error) { return r.LookupCNAME(ctx, host) })
}

func (n *names) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return ask(ctx, n, name, func(ctx context.Context, r *net.Resolver) ([]*net.MX, error) { return r.LookupMX(ctx, name) })
}

func (n *names) LookupNS(ctx context.Context, name string) ([]*net.NS, error) {
	return ask(ctx, n, name, func(ctx context.Context, r *net.Resolver) ([]*net.NS, error) { return r.LookupNS(ctx, name) })
}

func (n *names) LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error) {
	var cname string
	records, err := ask(ctx, n, name, func(ctx context.Context, r *net.Resolver) (records []*net.SRV, err error) {
		cname, records, err = r.LookupSRV(ctx, service, proto, name)
		return records, err
	})
	return cname, records, err
}

func (n *names) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return ask(ctx, n, name, func(ctx context.Context, r *net.Resolver) ([]string, error) { return r.LookupTXT(ctx, name) })
}

// hostLabel makes a guest's name a DNS label (RFC 1123 section 2.1); empty if
// nothing of it can stay.
func hostLabel(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == 63 {
			break
		}
	}
	return strings.Trim(b.String(), "-")
}
