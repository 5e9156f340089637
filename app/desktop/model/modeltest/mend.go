package modeltest

import (
	"context"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
)

// Repair implements model.Service.
func (s *Service) Repair(ctx context.Context, vm api.Ref) (api.Ref, error) {
	return vm, s.work(ctx, "Repair", "Repair", func() error {
		s.change(vm, func(v *api.VM) {
			delete(v.OtherConfig, api.KeyBroken)
			delete(v.OtherConfig, api.KeyRepair)
			v.AllowedOperations = allowed(model.Halted)
		})
		return nil
	})
}

// Relink implements model.Service.
func (s *Service) Relink(ctx context.Context, vm api.Ref, disk, path string) error {
	return s.work(ctx, "Relink "+disk+" "+path, "Relink", func() error {
		for _, ref := range s.order {
			if d, ok := s.objects[ref].(*api.VDI); ok && d.Location == disk {
				now := *d
				now.Location, now.Missing = path, false
				s.put(ref, &now)
			}
		}
		return nil
	})
}

// Lose has the image of a guest's disk be gone.
func (s *Service) Lose(disk string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ref := range s.order {
		if d, ok := s.objects[ref].(*api.VDI); ok && d.Location == disk {
			now := *d
			now.Missing = true
			s.put(ref, &now)
		}
	}
}

// PutTask shows a task as it is now.
func (s *Service) PutTask(ref api.Ref, t api.Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(ref, &t)
}
