package cli

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/text"
)

// parseForward reads [tcp/|udp/][ADDRESS:]HOSTPORT:GUESTPORT; an IPv6 address
// stands in brackets.
func parseForward(s string) (api.Forward, error) {
	wrong := func(why string) (api.Forward, error) {
		return api.Forward{}, errors.New(text.T("forward %q: %s; write [udp/][ADDRESS:]HOSTPORT:GUESTPORT, for example 2222:22", s, why))
	}
	f := api.Forward{Proto: "tcp"}
	rest := s
	if proto, r, ok := strings.Cut(s, "/"); ok {
		if proto != "tcp" && proto != "udp" {
			return wrong(text.T("the protocol is not tcp or udp"))
		}
		f.Proto, rest = proto, r
	}
	i := strings.LastIndex(rest, ":")
	if i < 0 {
		return wrong(text.T("there is no colon"))
	}
	from, to := rest[:i], rest[i+1:]
	if i := strings.LastIndex(from, ":"); i >= 0 {
		host := strings.TrimSuffix(strings.TrimPrefix(from[:i], "["), "]")
		if _, err := netip.ParseAddr(host); err != nil {
			return wrong(text.T("the address is not an IP address"))
		}
		f.Host, from = host, from[i+1:]
	}
	for _, p := range []struct {
		number string
		port   *uint16
	}{{from, &f.From}, {to, &f.To}} {
		n, err := strconv.ParseUint(p.number, 10, 16)
		if err != nil || n == 0 {
			return wrong(text.T("ports are numbers from 1 to 65535"))
		}
		*p.port = uint16(n)
	}
	return f, nil
}
