package service

import (
	"fmt"
	"path/filepath"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
)

// relink has a halted guest use one of its images at another place.
func (s *Service) relink(c *rpc.Call, want api.Relink) error {
	if !filepath.IsAbs(want.Path) {
		return refuse("disk", fmt.Sprintf("%q is not an absolute path", want.Path), "give the whole path of the image")
	}
	g, end, err := s.begin(want.VM, hv.OpConfigure, c.Task.Ref())
	if err != nil {
		return err
	}
	defer end()
	s.mu.Lock()
	spec := g.spec.Clone()
	var size int64
	at := -1
	for i, d := range spec.Disks {
		if d.Path != "" && (want.Disk == d.UUID || want.Disk == d.Path || want.Disk == diskPath(g.dir, d) ||
			want.Disk == filepath.Base(d.Path) || want.Disk == deviceName(i)) {
			at, size = i, g.images[d.Path].size
		}
	}
	s.mu.Unlock()
	if at < 0 {
		return refuse("disk", fmt.Sprintf("guest %q has no disk %q", g.name, want.Disk), "give its path, its file name or its device, such as vda")
	}
	d := spec.Disks[at]
	d.Path = want.Path
	now := factsOf(want.Path, d.Format)
	switch {
	case now.missing:
		return refuse("disk", want.Path+" is not there", "choose the image where it is now")
	case size > 0 && now.size != size:
		return refuse("disk", fmt.Sprintf("%s is of %s, and the guest's disk of %s", want.Path, sizeText(now.size), sizeText(size)), "choose the guest's own image")
	}
	if err := s.checkImage(g, d, want.Path, "disk"); err != nil {
		return err
	}
	if err := s.update(g, func(p *hv.Spec) error {
		p.Disks[at].Path = want.Path
		return nil
	}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.images[want.Path] = now
	s.settleMedia()
	s.publish(g)
	return nil
}
