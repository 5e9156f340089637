package service

import (
	"path/filepath"
	"strconv"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
)

// vbdRecord shows a disk or drive. Its devices are xapi's names in order.
func (s *Service) vbdRecord(g *guest, i int, d hv.Disk) api.VBD {
	v := api.VBD{
		UUID: d.UUID, VM: g.ref(), VDI: api.RefOf(d.VDI), Device: deviceName(i), Userdevice: strconv.Itoa(i),
		Mode: "RW", Type: "Disk", Empty: d.Path == "", CurrentlyAttached: g.attached(d.UUID), Metrics: api.NullRef,
		Bootable: i == 0,
	}
	if d.Mode == hv.ReadOnly {
		v.Mode = "RO"
	}
	if d.IsCD() {
		v.Type = "CD"
		if g.free(hv.OpChangeMedia) {
			v.AllowedOperations = []string{"insert"}
			if !v.Empty {
				v.AllowedOperations = []string{"eject"}
			}
		}
	}
	return v
}

func deviceName(i int) string { return "xvd" + string(rune('a'+i)) }

// ownVDI shows an image that belongs to one guest's folder, and any other that
// has no record under media/.
func (s *Service) ownVDI(g *guest, d hv.Disk) (api.Ref, api.VDI, bool) {
	if d.VDI == "" || d.Path == "" {
		return "", api.VDI{}, false
	}
	if _, outside := s.media[d.VDI]; outside {
		return "", api.VDI{}, false
	}
	facts := g.images[d.Path]
	v := api.VDI{
		UUID: d.VDI, NameLabel: g.name + " " + filepath.Base(d.Path), SR: s.srStore(), Location: diskPath(g.dir, d),
		VBDs: []api.Ref{api.RefOf(d.UUID)}, VirtualSize: facts.size, PhysicalUtilisation: facts.fileSize,
		Type: "user", ReadOnly: d.Mode == hv.ReadOnly, Managed: true, Missing: facts.missing,
		SMConfig: map[string]string{"image-format": d.Format}, OnBoot: "persist",
		Parent: api.NullRef, SnapshotOf: api.NullRef, MetadataOfPool: api.NullRef,
	}
	if filepath.IsAbs(d.Path) {
		v.SR = s.srOutside()
	}
	return api.RefOf(d.VDI), v, true
}

// publishMedia shows an image that is recorded under media/. s.mu is held.
func (s *Service) publishMedia(m *medium) {
	v := api.VDI{
		UUID: m.UUID, NameLabel: m.Name, SR: s.srOutside(), Location: s.mediumPath(m), VirtualSize: m.Size,
		PhysicalUtilisation: m.used, Type: "user", ReadOnly: m.Kind == mediumISO, Sharable: m.Kind == mediumISO,
		Managed: true, Missing: m.missing, SMConfig: map[string]string{"image-format": m.Format}, OnBoot: "persist",
		AllowedOperations: []string{"forget"},
		Parent:            api.NullRef, SnapshotOf: api.NullRef, MetadataOfPool: api.NullRef,
	}
	if !filepath.IsAbs(m.Path) {
		v.SR = s.srStore()
	}
	for _, g := range s.guests {
		if !g.sound() {
			continue
		}
		for _, d := range g.spec.Disks {
			if d.VDI == m.UUID {
				v.VBDs = append(v.VBDs, api.RefOf(d.UUID))
				v.AllowedOperations = nil
			}
		}
	}
	s.db.Put(api.RefOf(m.UUID), v)
}

// measure looks at the guest's images again. s.mu is held.
func (s *Service) measure(g *guest) {
	if !g.sound() {
		return
	}
	before := g.images
	g.images = map[string]imageFacts{}
	for _, d := range g.spec.Disks {
		if d.Path == "" {
			continue
		}
		now := factsOf(diskPath(g.dir, d), d.Format)
		if now.missing { // its size tells it from others when it is looked for
			now.size = before[d.Path].size
		}
		g.images[d.Path] = now
	}
}

// publishSets shows which images are where. It is for when images come or go:
// with many guests these are long lists. s.mu is held.
func (s *Service) publishSets() {
	sets := map[api.Ref][]api.Ref{}
	for ref, v := range rpc.All[api.VDI](s.db) {
		sets[v.SR] = append(sets[v.SR], ref)
	}
	for _, sr := range []api.Ref{s.srStore(), s.srOutside()} {
		rpc.Modify(s.db, sr, func(r *api.SR) { r.VDIs = sets[sr] })
	}
}

// publishSpace shows how much room there is where the guests are. s.mu is held.
func (s *Service) publishSpace() {
	free, err := s.opt.Host.DiskFree(s.store.Root)
	if err != nil {
		s.log.Warn("tell how much room the store has", "err", err)
		return
	}
	var used, virtual int64
	for _, g := range s.guests {
		for path, f := range g.images {
			if !filepath.IsAbs(path) {
				used, virtual = used+f.fileSize, virtual+f.size
			}
		}
	}
	rpc.Modify(s.db, s.srStore(), func(r *api.SR) {
		r.PhysicalSize, r.PhysicalUtilisation, r.VirtualAllocation = int64(free)+used, used, virtual
	})
}
