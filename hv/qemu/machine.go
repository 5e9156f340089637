package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/digitalocean/go-qemu/qmp/raw"

	"github.com/hxen-project/hxen/hv"
)

// Machine is one guest in one QEMU.
type Machine struct {
	spec  hv.Spec
	host  hv.Host
	names names
	info  hv.MachineInfo
	caps  caps
	child *child

	mon    *Monitor       // set by connect
	serial *console       // set by connect
	agent  *agent         // set by connect
	events *hv.EventQueue // closed by watch
	gone   chan struct{}
	exit   hv.ExitReason // valid after gone
	fault  error         // valid after gone

	saving sync.Mutex // held while the guest is saved; above media
	media  sync.Mutex // held while a medium is changed or a device plugged; above mu
	keys   sync.Mutex // held while keys are pressed
	shot   sync.Mutex // held while a screenshot is taken

	hot map[string]int // guarded by media; the port of what was plugged in, by uuid

	mu         sync.Mutex
	state      hv.PowerState   // guarded by mu
	shutdown   string          // guarded by mu; reason of the SHUTDOWN event
	panicked   bool            // guarded by mu
	hung       bool            // guarded by mu; its watchdog has said so
	destroyed  bool            // guarded by mu; we pulled the plug
	rebooted   bool            // guarded by mu; the guest restarts, which ends it by its policy
	lastReset  time.Time       // guarded by mu; QEMU's time of the last restart
	saved      bool            // guarded by mu; the guest goes on from a file
	generation map[int]int     // guarded by mu; of the medium in a drive, by the disk's place
	inserted   map[int]hv.Disk // guarded by mu; media that were changed since the launch, likewise
}

var (
	_ hv.Machine       = (*Machine)(nil)
	_ hv.Displayer     = (*Machine)(nil)
	_ hv.Consoler      = (*Machine)(nil)
	_ hv.MediaChanger  = (*Machine)(nil)
	_ hv.Keyer         = (*Machine)(nil)
	_ hv.Screenshotter = (*Machine)(nil)
	_ hv.Agent         = (*Machine)(nil)
	_ hv.Saver         = (*Machine)(nil)
	_ hv.Resyncer      = (*Machine)(nil)
)

func newMachine(s hv.Spec, h hv.Host, n names, info hv.MachineInfo, c caps, ch *child) *Machine {
	state := hv.Running
	if h.Hold {
		state = hv.Paused
	}
	return &Machine{
		spec: s, host: h, names: n, info: info, caps: c, child: ch,
		events: hv.NewEventQueue(), gone: make(chan struct{}), state: state,
		hot: map[string]int{}, generation: map[int]int{}, inserted: map[int]hv.Disk{},
	}
}

// connect waits for QEMU on the plugs and makes it ready, with the guest still
// at its first instruction.
func (m *Machine) connect(ctx context.Context, p *plugs) error {
	// QEMU connects all of its sockets before it greets.
	var conns []net.Conn
	for _, l := range []plug{p.qmp, p.serial, p.agent} {
		conn, err := m.child.accept(ctx, l)
		if err != nil {
			for _, c := range conns {
				_ = c.Close()
			}
			return err
		}
		conns = append(conns, conn)
	}
	m.serial, m.agent = &console{conn: conns[1]}, newAgent(conns[2])
	m.mon = NewMonitor(conns[0], m.onEvent)
	if _, err := m.mon.Open(ctx); err != nil {
		return err
	}
	return m.lockScreen(ctx)
}

// lockScreen sets the screen's password, if it needs one, and finds its port.
func (m *Machine) lockScreen(ctx context.Context) error {
	if m.names.Password == "" || m.spec.Display.Adapter == "none" {
		return nil
	}
	if err := m.mon.Do(ctx, "set_password", map[string]any{"protocol": "vnc", "password": m.names.Password}, nil); err != nil {
		return err
	}
	var screen struct {
		Service string `json:"service"`
	}
	if err := m.mon.Do(ctx, "query-vnc", nil, &screen); err != nil {
		return err
	}
	m.names.VNC = loopback + screen.Service
	return nil
}

// abandon ends what a failed launch has built.
func (m *Machine) abandon() {
	m.child.kill()
	m.hangUp()
	m.events.Abandon()
}

// hangUp closes our ends of QEMU's sockets.
func (m *Machine) hangUp() {
	if m.mon != nil {
		_ = m.mon.Disconnect()
	}
	if m.serial != nil {
		_ = m.serial.conn.Close()
	}
	if m.agent != nil {
		_ = m.agent.conn.Close()
	}
}

// Info tells what the machine runs on.
func (m *Machine) Info() hv.MachineInfo { return m.info }

// Events is the stream of events.
func (m *Machine) Events() <-chan hv.Event { return m.events.Out() }

// qmp gives go-qemu's generated commands with a context.
func (m *Machine) qmp(ctx context.Context) *raw.Monitor { return raw.NewMonitor(m.mon.With(ctx)) }

// verb names what failed and, if the guest is gone, says so.
func (m *Machine) verb(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errClosed) {
		return fmt.Errorf("%s: the guest has ended: %w", what, hv.ErrUnavailable)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Pause stops the guest's processors. QEMU's STOP event tells when they have.
func (m *Machine) Pause(ctx context.Context) error {
	return m.verb("pause the guest", m.qmp(ctx).Stop())
}

// Resume lets them go on; after a disk error the guest's request is tried again.
func (m *Machine) Resume(ctx context.Context) error {
	return m.verb("resume the guest", m.qmp(ctx).Cont())
}

// Stop asks the guest to stop or restart, or pulls the plug. Only pulling the
// plug waits for the end.
func (m *Machine) Stop(ctx context.Context, how hv.StopHow) error {
	switch how {
	case hv.Ask:
		return m.verb("press the power button", m.qmp(ctx).SystemPowerdown())
	case hv.AskReboot:
		return m.askReboot(ctx)
	case hv.PowerOff:
		return m.pullPlug(ctx)
	}
	return fmt.Errorf("stop the guest: way %d: %w", how, hv.ErrUnsupported)
}

// askReboot has the agent restart the guest if one listens, else presses
// Ctrl-Alt-Delete.
func (m *Machine) askReboot(ctx context.Context) error {
	if err := m.agent.reboot(ctx); err == nil {
		return nil
	} else if ctx.Err() != nil {
		return m.verb("ask the guest to restart", err)
	}
	return m.SendKeys(ctx, []uint16{keyLeftCtrl, keyLeftAlt, keyDelete})
}

// Reset presses the reset button. A paused guest stays paused.
func (m *Machine) Reset(ctx context.Context) error {
	return m.verb("reset the guest", m.qmp(ctx).SystemReset())
}

// quitTime is how long QEMU gets to write back what it holds and end.
const quitTime = 5 * time.Second

func (m *Machine) pullPlug(ctx context.Context) error {
	m.mu.Lock()
	m.destroyed = true
	m.mu.Unlock()
	return m.verb("power the guest off", m.endQEMU(ctx))
}

// endQEMU ends QEMU: by its own quit, which writes back what it holds of the
// guest's disks, else by force.
func (m *Machine) endQEMU(ctx context.Context) error {
	quit, cancel := context.WithTimeout(ctx, quitTime)
	defer cancel()
	if err := m.qmp(quit).Quit(); err != nil && !errors.Is(err, errClosed) {
		m.host.Log.Warn("QEMU did not take the command to quit", "err", err)
	} else {
		select {
		case <-m.child.done:
			return nil
		case <-quit.Done():
			m.host.Log.Warn("QEMU did not quit in time")
		}
	}
	if err := m.child.proc.Kill(); err != nil {
		return err
	}
	select {
	case <-m.child.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Wait returns how the guest ended. Events must be read to its end meanwhile.
func (m *Machine) Wait() (hv.ExitReason, error) {
	<-m.gone
	return m.exit, m.fault
}

// Close pulls the plug if the guest still runs and frees everything. Events that
// nobody read are dropped.
func (m *Machine) Close() error {
	select {
	case <-m.child.done:
	default:
		ctx, cancel := context.WithTimeout(context.Background(), 2*quitTime)
		defer cancel()
		if err := m.pullPlug(ctx); err != nil {
			return err
		}
	}
	m.events.Abandon()
	<-m.gone
	return nil
}

// OpenDisplay connects to the guest's screen. Any number of viewers share it.
func (m *Machine) OpenDisplay(ctx context.Context) (io.ReadWriteCloser, error) {
	if m.spec.Display.Adapter == "none" {
		return nil, fmt.Errorf("open the screen: the guest has none: choose a display adapter in its settings: %w", hv.ErrUnavailable)
	}
	var d net.Dialer
	p, tcp := port(m.names.VNC)
	if !tcp {
		conn, err := d.DialContext(ctx, "unix", m.names.VNC)
		if err != nil {
			return nil, fmt.Errorf("open the screen: %w", err)
		}
		return conn, nil
	}
	conn, err := d.DialContext(ctx, "tcp4", "127.0.0.1:"+p)
	if err != nil {
		return nil, fmt.Errorf("open the screen: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	screen, err := logIn(conn, m.names.Password, func() error { return verify(conn, m.info.PID, m.host) })
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open the screen: %w", err)
	}
	return screen, nil
}

// Console is the guest's first serial port.
func (m *Machine) Console() io.ReadWriter { return m.serial }

// console makes any end of the connection io.EOF.
type console struct{ conn net.Conn }

func (c *console) Read(p []byte) (int, error) {
	n, err := c.conn.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

func (c *console) Write(p []byte) (int, error) {
	n, err := c.conn.Write(p)
	if err != nil {
		err = fmt.Errorf("write to the serial line: %w", err)
	}
	return n, err
}
