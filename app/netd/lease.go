package netd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/hxen-project/hxen/app/control"
)

// leaseFile is leases.json: the address of every card that ever was on this
// network. A card keeps its address for good; only when the network is full
// does a card that is no longer wanted lose its to a new one, the longest
// unseen first.
type leaseFile struct {
	Version int     `json:"version"`
	Leases  []lease `json:"leases"`
}

type lease struct {
	NIC  string     `json:"nic"`
	MAC  string     `json:"mac"`
	IP   netip.Addr `json:"ip"`
	Seen time.Time  `json:"seen"` // when the card last took it
}

const leaseVersion = 1

func (l *leaseFile) find(nic string) *lease {
	for i := range l.Leases {
		if l.Leases[i].NIC == nic {
			return &l.Leases[i]
		}
	}
	return nil
}

// assign gives every port its address in subnet. Ports for which there is none
// stay without.
func (l *leaseFile) assign(subnet netip.Prefix, ports []control.NetPort) {
	wanted := map[string]bool{}
	for _, p := range ports {
		wanted[p.NIC] = true
	}
	used := l.sanitise(subnet)
	for _, p := range ports {
		old := l.find(p.NIC)
		if old != nil && old.IP.IsValid() {
			old.MAC = p.MAC
			continue
		}
		ip := l.free(subnet, used, wanted)
		if !ip.IsValid() {
			continue
		}
		used[ip] = true
		if old != nil {
			old.MAC, old.IP = p.MAC, ip
		} else {
			l.Leases = append(l.Leases, lease{NIC: p.NIC, MAC: p.MAC, IP: ip})
		}
	}
}

// sanitise takes away addresses that are not in subnet or given twice, and
// returns those in use.
func (l *leaseFile) sanitise(subnet netip.Prefix) map[netip.Addr]bool {
	used := map[netip.Addr]bool{}
	for i := range l.Leases {
		ip := l.Leases[i].IP
		if !usable(subnet, ip) || used[ip] {
			l.Leases[i].IP = netip.Addr{}
			continue
		}
		used[ip] = true
	}
	return used
}

// usable: a host's address of subnet, but not the gateway's.
func usable(subnet netip.Prefix, ip netip.Addr) bool {
	first := subnet.Masked().Addr()
	return subnet.Contains(ip) && ip != first && ip != first.Next() && ip != lastAddr(subnet)
}

// free finds an address that nobody has, or takes one from a card that is not wanted.
func (l *leaseFile) free(subnet netip.Prefix, used map[netip.Addr]bool, wanted map[string]bool) netip.Addr {
	for ip := subnet.Masked().Addr().Next().Next(); usable(subnet, ip); ip = ip.Next() {
		if !used[ip] {
			return ip
		}
	}
	victim := -1
	for i, c := range l.Leases {
		if c.IP.IsValid() && !wanted[c.NIC] && (victim < 0 || c.Seen.Before(l.Leases[victim].Seen)) {
			victim = i
		}
	}
	if victim < 0 {
		return netip.Addr{}
	}
	ip := l.Leases[victim].IP
	l.Leases = append(l.Leases[:victim], l.Leases[victim+1:]...)
	return ip
}

// loadJSON reads path into v. A file that cannot be understood is kept under
// another name, and said; found is false then, and when there is none.
func loadJSON(path string, v any) (found bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if jerr := json.Unmarshal(b, v); jerr != nil {
		kept := path + ".broken"
		if err := os.Rename(path, kept); err != nil {
			return false, fmt.Errorf("read %s: %w; it cannot be put aside: %w", path, jerr, err)
		}
		return false, fmt.Errorf("read %s: %w; it is kept as %s", path, jerr, kept)
	}
	return true, nil
}

// saveJSON replaces path by v so that a power cut leaves the old or the new.
func saveJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
