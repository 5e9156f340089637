package qemu

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hxen-project/hxen/hv"
)

// Stats asks the host for QEMU's use of it and QEMU for the disks and the
// balloon. Network cards are counted by the worker, which relays their frames.
func (m *Machine) Stats(ctx context.Context) (hv.Stats, error) {
	s := hv.Stats{Memory: m.spec.Memory, Disks: map[string]hv.DiskStats{}}
	if m.host.Usage != nil {
		var err error
		if s.CPU, s.RSS, err = m.host.Usage(m.info.PID); err != nil {
			return s, fmt.Errorf("read the use of QEMU: %w", err)
		}
	}
	if b, err := m.qmp(ctx).QueryBalloon(); err == nil {
		s.Memory = uint64(max(b.Actual, 0))
	}
	var disks []struct {
		Qdev  string `json:"qdev"` // the device's id, or the QOM path of it or a part of it
		Stats struct {
			ReadBytes  uint64 `json:"rd_bytes"`
			WriteBytes uint64 `json:"wr_bytes"`
			Reads      uint64 `json:"rd_operations"`
			Writes     uint64 `json:"wr_operations"`
		} `json:"stats"`
	}
	if err := m.mon.Do(ctx, "query-blockstats", nil, &disks); err != nil {
		return s, m.verb("read the disks' counters", err)
	}
	for _, d := range disks {
		for i, disk := range m.spec.Disks {
			if strings.Contains("/"+d.Qdev+"/", "/"+diskID(i)+"/") {
				s.Disks[disk.UUID] = hv.DiskStats(d.Stats)
			}
		}
	}
	return s, nil
}

// Screenshot has QEMU write the screen to a file and copies that.
func (m *Machine) Screenshot(ctx context.Context, w io.Writer) error {
	if m.spec.Display.Adapter == "none" {
		return fmt.Errorf("take a screenshot: the guest has no screen: choose a display adapter in its settings: %w", hv.ErrUnavailable)
	}
	if !m.caps.PNG {
		return fmt.Errorf("take a screenshot: the installed QEMU %s cannot write PNG: install QEMU 7.1 or newer: %w", m.caps.Version, hv.ErrUnavailable)
	}
	m.shot.Lock()
	defer m.shot.Unlock()
	defer os.Remove(m.names.Shot)
	if err := m.mon.Do(ctx, "screendump", map[string]any{"filename": m.names.Shot, "format": "png"}, nil); err != nil {
		return m.verb("take a screenshot", err)
	}
	f, err := os.Open(m.names.Shot)
	if err != nil {
		return fmt.Errorf("take a screenshot: %w", err)
	}
	defer f.Close()
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("copy the screenshot: %w", err)
	}
	return nil
}
