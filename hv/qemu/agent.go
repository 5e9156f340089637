package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// agent talks to the guest's own agent (docs/interop/qemu-ga) over a channel
// with nobody at the other end most of the time. What it says is hostile.
type agent struct {
	conn net.Conn
	r    *bufio.Reader // held with turn
	turn chan struct{} // has one element; who holds it talks
	open atomic.Bool   // somebody in the guest has the port open
	id   int64         // held with turn
}

const (
	agentTime    = 5 * time.Second // for one question; agents answer in milliseconds or never
	maxAgentLine = 1 << 20
	maxAgentText = 256
	maxAddresses = 64
	agentSync    = 0xff // never part of JSON: marks the answer to guest-sync-delimited
)

// errNoAgent is what a user reads when nobody answers.
var errNoAgent = fmt.Errorf("no guest agent answers in the guest; install qemu-guest-agent in it: %w", hv.ErrUnavailable)

func newAgent(conn net.Conn) *agent {
	a := &agent{conn: conn, r: bufio.NewReader(conn), turn: make(chan struct{}, 1)}
	a.turn <- struct{}{}
	return a
}

// setOpen is told by QEMU's VSERPORT_CHANGE event.
func (a *agent) setOpen(open bool) { a.open.Store(open) }

// session takes the channel and makes sure that both sides agree where the next
// answer begins. The caller ends it with done.
func (a *agent) session(ctx context.Context) (done func(), err error) {
	if !a.open.Load() {
		return nil, errNoAgent
	}
	select {
	case <-a.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	deadline := time.Now().Add(agentTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = a.conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = a.conn.SetDeadline(time.Unix(1, 0)) })
	done = func() {
		stop()
		a.turn <- struct{}{}
	}
	if err := a.sync(); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// sync skips what earlier questions left over.
func (a *agent) sync() error {
	a.id++
	line, err := json.Marshal(map[string]any{"execute": "guest-sync-delimited", "arguments": map[string]any{"id": a.id}})
	if err != nil {
		return err
	}
	if _, err := a.conn.Write(append(append([]byte{agentSync}, line...), '\n')); err != nil {
		return errNoAgent
	}
	for left := maxAgentLine; left > 0; left-- {
		b, err := a.r.ReadByte()
		if err != nil {
			return errNoAgent
		}
		if b != agentSync {
			continue
		}
		var id int64
		if err := a.answer(&id); err == nil && id == a.id {
			return nil
		}
	}
	return errNoAgent
}

// answer reads one answer into out.
func (a *agent) answer(out any) error {
	line, err := readLine(a.r, maxAgentLine)
	if err != nil {
		return errNoAgent
	}
	var reply struct {
		Return json.RawMessage `json:"return"`
		Error  *struct {
			Desc string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal(line, &reply); err != nil {
		return fmt.Errorf("the guest agent's answer: %w", err)
	}
	if reply.Error != nil {
		return errors.New("the guest agent refused: " + printable(reply.Error.Desc))
	}
	if err := json.Unmarshal(reply.Return, out); err != nil {
		return fmt.Errorf("the guest agent's answer: %w", err)
	}
	return nil
}

func (a *agent) send(command string, args any) error {
	line, err := json.Marshal(struct {
		Execute string `json:"execute"`
		Args    any    `json:"arguments,omitempty"`
	}{command, args})
	if err != nil {
		return err
	}
	if _, err := a.conn.Write(append(line, '\n')); err != nil {
		return errNoAgent
	}
	return nil
}

// reboot restarts the guest. Success has no answer.
func (a *agent) reboot(ctx context.Context) error {
	done, err := a.session(ctx)
	if err != nil {
		return err
	}
	defer done()
	return a.send("guest-shutdown", map[string]any{"mode": "reboot"})
}

// Resync has the agent set the guest's clock to the host's; guest-set-time in
// qga/qapi-schema.json, in nanoseconds. Linux guests without an agent notice by
// themselves once their time service runs.
func (m *Machine) Resync(ctx context.Context) error {
	done, err := m.agent.session(ctx)
	if err != nil {
		return fmt.Errorf("set the guest's clock: %w", err)
	}
	defer done()
	if err := m.agent.send("guest-set-time", map[string]any{"time": time.Now().UnixNano()}); err != nil {
		return fmt.Errorf("set the guest's clock: %w", err)
	}
	var nothing struct{}
	if err := m.agent.answer(&nothing); err != nil {
		return fmt.Errorf("set the guest's clock: %w", err)
	}
	return nil
}

// GuestInfo asks the agent; what an agent does not know stays empty.
func (m *Machine) GuestInfo(ctx context.Context) (hv.GuestInfo, error) {
	var info hv.GuestInfo
	done, err := m.agent.session(ctx)
	if err != nil {
		return info, fmt.Errorf("ask the guest: %w", err)
	}
	defer done()
	var system map[string]any
	var host struct {
		Name string `json:"host-name"`
	}
	var cards []agentCard
	for _, q := range []struct {
		command string
		out     any
	}{{"guest-get-osinfo", &system}, {"guest-get-host-name", &host}, {"guest-network-get-interfaces", &cards}} {
		if err := m.agent.send(q.command, nil); err != nil {
			return info, fmt.Errorf("ask the guest: %w", err)
		}
		if err := m.agent.answer(q.out); errors.Is(err, hv.ErrUnavailable) {
			return info, fmt.Errorf("ask the guest: %w", err)
		}
	}
	info.OS = osInfo(system)
	info.Hostname = short(host.Name)
	info.Addresses = addresses(cards)
	return info, nil
}

type agentCard struct {
	Addresses []struct {
		Address string `json:"ip-address"`
	} `json:"ip-addresses"`
}

// osInfo keeps the known fields of GuestOSInfo (qga/qapi-schema.json).
func osInfo(system map[string]any) map[string]string {
	out := map[string]string{}
	for from, to := range map[string]string{
		"id": "id", "name": "name", "pretty-name": "pretty_name", "version": "version",
		"version-id": "version_id", "kernel-release": "kernel", "machine": "machine",
	} {
		if s, ok := system[from].(string); ok && s != "" {
			out[to] = short(s)
		}
	}
	return out
}

// addresses keeps what is an address that others could use.
func addresses(cards []agentCard) []string {
	var out []string
	for _, c := range cards {
		for _, a := range c.Addresses {
			ip := net.ParseIP(a.Address)
			if ip == nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || len(out) == maxAddresses {
				continue
			}
			out = append(out, ip.String())
		}
	}
	return out
}

func short(s string) string {
	s = strings.TrimSpace(printable(s))
	if r := []rune(s); len(r) > maxAgentText {
		s = string(r[:maxAgentText])
	}
	return s
}
