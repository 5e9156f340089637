package qemu

import (
	"context"
	"fmt"
	"time"

	"github.com/digitalocean/go-qemu/qmp"

	"github.com/hxen-project/hxen/hv"
)

// onEvent turns QEMU's events (qapi/run-state.json, block-core.json, char.json)
// into the machine's state and hv's events. It runs on the Monitor's reading
// goroutine and does not block.
func (m *Machine) onEvent(e qmp.Event) {
	switch e.Event {
	case "STOP":
		m.setState(hv.Paused)
		go m.whyStopped()
	case "RESUME":
		m.setState(hv.Running)
	case "SHUTDOWN":
		m.mu.Lock()
		m.shutdown = text(e, "reason")
		m.mu.Unlock()
	case "RESET":
		m.reset(e)
	case "GUEST_PANICKED":
		m.mu.Lock()
		m.panicked = true
		m.mu.Unlock()
		m.events.Put(hv.Event{Kind: hv.EventNotice, Text: m.ended("the guest's system has crashed", "on_crash", m.spec.OnCrash, false)})
	case "WATCHDOG":
		m.watchdog()
	case "BLOCK_IO_ERROR":
		m.events.Put(hv.Event{Kind: hv.EventIOError, Object: m.diskOf(text(e, "node-name")), Text: ioError(e)})
	case "BLOCK_IMAGE_CORRUPTED":
		m.events.Put(hv.Event{Kind: hv.EventIOError, Object: m.diskOf(text(e, "node-name")),
			Text: "a disk image is damaged: " + printable(text(e, "msg"))})
	case "DEVICE_TRAY_MOVED":
		m.trayMoved(e)
	case "MEMORY_FAILURE":
		m.events.Put(hv.Event{Kind: hv.EventNotice, Text: "the host's memory has failed under the guest"})
	case "VSERPORT_CHANGE":
		if open, _ := e.Data["open"].(bool); text(e, "id") == agentID {
			m.agent.setOpen(open)
		}
	}
}

// resetWindow joins the resets that are one restart: BIOS and UEFI reset the
// machine again, some of them twice, within the first second after a reset.
const resetWindow = 3 * time.Second

// reset tells a restart of the guest's own from the firmware's part in one. If
// the guest is not to restart, its first restart ends it.
func (m *Machine) reset(e qmp.Event) {
	at := time.Unix(e.Timestamp.Seconds, e.Timestamp.Microseconds*1000)
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := at.Sub(m.lastReset); d >= 0 && d < resetWindow {
		return
	}
	m.lastReset = at
	if guest, _ := e.Data["guest"].(bool); !guest {
		return
	}
	m.events.Put(hv.Event{Kind: hv.EventReboot, Text: "the guest restarted itself"})
	if m.spec.OnReboot != "destroy" || m.rebooted {
		return
	}
	m.rebooted = true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*quitTime)
		defer cancel()
		if err := m.endQEMU(ctx); err != nil {
			m.host.Log.Error("end a guest that restarts", "err", err)
		}
	}()
}

func text(e qmp.Event, key string) string {
	s, _ := e.Data[key].(string)
	return s
}

func (m *Machine) setState(s hv.PowerState) {
	m.mu.Lock()
	changed := m.state != s
	m.state = s
	m.mu.Unlock()
	if changed {
		m.events.Put(hv.Event{Kind: hv.EventState, State: s})
	}
}

// whyStopped tells of the one stop that has no event of its own: the accelerator
// gave up (RunState internal-error). It runs beside the reading goroutine, which
// has to read the answer.
func (m *Machine) whyStopped() {
	ctx, cancel := context.WithTimeout(context.Background(), quitTime)
	defer cancel()
	var v struct {
		Status string `json:"status"`
	}
	if err := m.mon.Do(ctx, "query-status", nil, &v); err != nil {
		m.host.Log.Debug("ask why the guest stopped", "err", err)
		return
	}
	if v.Status == "internal-error" {
		m.events.Put(hv.Event{Kind: hv.EventNotice, Text: "the accelerator " + m.info.Accelerator +
			" failed and the guest cannot go on: power it off and start it again"})
	}
}

func ioError(e qmp.Event) string {
	verb := "write to"
	if text(e, "operation") == "read" {
		verb = "read from"
	}
	if full, _ := e.Data["nospace"].(bool); full {
		return "the guest could not " + verb + " a disk because the host's disk is full, and was paused; make room, then resume it"
	}
	s := fmt.Sprintf("the guest could not %s a disk (%s)", verb, printable(text(e, "reason")))
	if text(e, "action") == "stop" {
		s += " and was paused; repair it, then resume the guest"
	}
	return s
}

// diskOf returns the uuid of the disk whose image is this node.
func (m *Machine) diskOf(node string) string {
	var i, generation int
	if _, err := fmt.Sscanf(node, "d%dg%d", &i, &generation); err != nil || i < 0 || i >= len(m.spec.Disks) {
		return ""
	}
	return m.spec.Disks[i].UUID
}

func (m *Machine) trayMoved(e qmp.Event) {
	var i int
	if _, err := fmt.Sscanf(text(e, "id"), "vbd%d", &i); err != nil || i < 0 || i >= len(m.spec.Disks) {
		return
	}
	words := "a CD drive was closed"
	if open, _ := e.Data["tray-open"].(bool); open {
		words = "a CD drive was opened"
	}
	m.events.Put(hv.Event{Kind: hv.EventMedia, Object: m.spec.Disks[i].UUID, Text: words})
}
