package service

import (
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
)

// XenAPI's version that the records follow (xen-api, datamodel_types.ml).
const (
	apiMajor = 2
	apiMinor = 21
)

func (s *Service) hostRef() api.Ref    { return api.RefOf(s.id.Host) }
func (s *Service) poolRef() api.Ref    { return api.RefOf(s.id.Pool) }
func (s *Service) srStore() api.Ref    { return api.RefOf(derive(s.id.Host, "sr", "store")) }
func (s *Service) srOutside() api.Ref  { return api.RefOf(derive(s.id.Host, "sr", "outside")) }
func (s *Service) pbdStore() api.Ref   { return api.RefOf(derive(s.id.Host, "pbd", "store")) }
func (s *Service) pbdOutside() api.Ref { return api.RefOf(derive(s.id.Host, "pbd", "outside")) }
func (s *Service) hostMetrics() api.Ref {
	return api.RefOf(derive(s.id.Host, "metrics"))
}

// publishHost shows what does not change with the guests: pool, host, places
// for images. s.mu is held.
func (s *Service) publishHost() {
	s.db.Put(s.poolRef(), api.Pool{
		UUID: s.id.Pool, NameLabel: "", NameDescription: "guests in " + s.store.Root, Master: s.hostRef(),
		DefaultSR: s.srStore(), SuspendImageSR: s.srStore(), CrashDumpSR: s.srStore(),
	})
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	s.db.Put(s.hostRef(), api.Host{
		UUID: s.id.Host, NameLabel: name, NameDescription: "HXEN on " + name, Hostname: name, Address: "127.0.0.1",
		Enabled: true, APIVersionMajor: apiMajor, APIVersionMinor: apiMinor, APIVersionVendor: "HXEN",
		SoftwareVersion: map[string]string{"product_brand": "HXEN", "product_version": s.opt.Version},
		CPUInfo:         map[string]string{"cpu_count": strconv.Itoa(s.opt.Host.CPUs), "modelname": s.opt.Host.CPUModel},
		Metrics:         s.hostMetrics(), PBDs: []api.Ref{s.pbdStore(), s.pbdOutside()},
		SuspendImageSR: s.srStore(), CrashDumpSR: s.srStore(), LocalCacheSR: api.NullRef,
	})
	s.publishMemory()
	for _, sr := range []struct {
		ref, pbd    api.Ref
		name, about string
	}{
		{s.srStore(), s.pbdStore(), "HXEN store", "disks that belong to the guests here: " + s.store.Root},
		{s.srOutside(), s.pbdOutside(), "Images outside the store", "CD and disk images used where they are; they are never deleted"},
	} {
		s.db.Put(sr.ref, api.SR{
			UUID: sr.ref.UUID(), NameLabel: sr.name, NameDescription: sr.about, Type: "file", ContentType: "user",
			PBDs: []api.Ref{sr.pbd}, IntroducedBy: api.NullRef,
		})
		s.db.Put(sr.pbd, api.PBD{UUID: sr.pbd.UUID(), Host: s.hostRef(), SR: sr.ref, CurrentlyAttached: true})
	}
	s.publishSpace()
}

// publishMemory shows how much memory the host has and has left, as of now.
func (s *Service) publishMemory() {
	total, free, err := s.opt.Host.Memory()
	if err != nil {
		s.log.Warn("tell the host's memory", "err", err)
	}
	s.db.Put(s.hostMetrics(), api.HostMetrics{
		UUID: s.hostMetrics().UUID(), MemoryTotal: int64(total), MemoryFree: int64(free), Live: true,
		LastUpdated: api.Time{Time: time.Now()},
	})
}

// publishResidents shows which guests run here. s.mu is held.
func (s *Service) publishResidents() {
	var resident []api.Ref
	for _, g := range s.sorted() {
		if g.power == hv.Running || g.power == hv.Paused {
			resident = append(resident, g.ref())
		}
	}
	rpc.Modify(s.db, s.hostRef(), func(h *api.Host) { h.ResidentVMs = resident })
	s.publishMemory()
}

func parseIP(s string) net.IP {
	s, _, _ = strings.Cut(s, "/")
	return net.ParseIP(s)
}
