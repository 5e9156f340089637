package qemu

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// caps are what the installed QEMU can do, asked of itself: versions say little,
// since distributions leave parts out and put others in.
type caps struct {
	Version  string   `json:"version"`
	Accels   []string `json:"accels"`   // kvm, tcg, ... as built in
	Machines []string `json:"machines"` // versioned q35 types
	Newest   string   `json:"newest"`   // the one that "q35" means
	Devices  []string `json:"devices"`  // screens only
	Sandbox  bool     `json:"sandbox"`
	Stream   bool     `json:"stream"` // -netdev stream
	PNG      bool     `json:"png"`    // screendump writes PNG
}

// capsRecord keeps caps between workers, for one build of QEMU.
type capsRecord struct {
	Key  string `json:"key"`
	Caps caps   `json:"caps"`
}

// probeTime bounds the questions; a healthy QEMU answers them in 0.1 s.
const probeTime = 30 * time.Second

// probe returns what the QEMU at h.QEMU.Path can do: remembered, else asked.
func probe(ctx context.Context, h hv.Host, n names) (caps, error) {
	key, err := binaryKey(h.QEMU.Path)
	if err != nil {
		return caps{}, err
	}
	var rec capsRecord
	if b, err := os.ReadFile(n.Caps); err == nil && json.Unmarshal(b, &rec) == nil && rec.Key == key && rec.Caps.Newest != "" {
		return rec.Caps, nil
	}
	c, err := ask(ctx, h, n)
	if err != nil {
		return caps{}, err
	}
	if err := remember(n.Caps, capsRecord{key, c}); err != nil {
		h.Log.Warn("QEMU's abilities are asked again at every start", "err", err)
	}
	return c, nil
}

// binaryKey tells one build of QEMU from another.
func binaryKey(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(real)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("1|%s|%d|%d", real, fi.ModTime().UnixNano(), fi.Size()), nil
}

func remember(path string, rec capsRecord) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// ask starts QEMU without a machine and asks it over QMP.
func ask(ctx context.Context, h hv.Host, n names) (caps, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	l, address, err := listen(n.CapsQMP)
	if err != nil {
		return caps{}, err
	}
	defer l.Close()
	ch, err := startChild(h, hv.Command{Path: h.QEMU.Path, Args: []string{
		"-nodefaults", "-no-user-config", "-machine", "none", "-display", "none", "-S",
		"-chardev", "socket,id=qmp," + chardevAddress(address) + ",server=off", "-mon", "chardev=qmp,mode=control",
	}})
	if err != nil {
		return caps{}, err
	}
	defer ch.kill()
	conn, err := ch.accept(ctx, l)
	if err != nil {
		return caps{}, err
	}
	mon := NewMonitor(conn, nil)
	defer mon.Disconnect()
	v, err := mon.Open(ctx)
	if err != nil {
		return caps{}, ch.because(err)
	}
	c := caps{Version: v.String()}
	if err := c.query(ctx, mon); err != nil {
		return caps{}, ch.because(err)
	}
	if err := mon.Do(ctx, "quit", nil, nil); err != nil {
		h.Log.Debug("end the QEMU that was asked", "err", err)
	}
	return c, nil
}

func (c *caps) query(ctx context.Context, mon *Monitor) error {
	type named struct {
		Name string `json:"name"`
	}
	var accels, screens []named
	for kind, out := range map[string]*[]named{"accel": &accels, "pci-device": &screens} {
		if err := mon.Do(ctx, "qom-list-types", map[string]any{"implements": kind}, out); err != nil {
			return err
		}
	}
	for _, a := range accels {
		if name, ok := strings.CutSuffix(a.Name, "-accel"); ok {
			c.Accels = append(c.Accels, name)
		}
	}
	for _, d := range screens {
		if d.Name == "VGA" || d.Name == "virtio-vga" {
			c.Devices = append(c.Devices, d.Name)
		}
	}
	slices.Sort(c.Accels)
	slices.Sort(c.Devices)
	if err := c.queryMachines(ctx, mon); err != nil {
		return err
	}
	var sandbox []struct {
		Option string `json:"option"`
	}
	// An option that was not built in is an error here.
	c.Sandbox = mon.Do(ctx, "query-command-line-options", map[string]any{"option": "sandbox"}, &sandbox) == nil && len(sandbox) > 0
	return c.querySchema(ctx, mon)
}

func (c *caps) queryMachines(ctx context.Context, mon *Monitor) error {
	var machines []struct {
		Name  string `json:"name"`
		Alias string `json:"alias"`
	}
	if err := mon.Do(ctx, "query-machines", nil, &machines); err != nil {
		return err
	}
	for _, m := range machines {
		if strings.HasPrefix(m.Name, "pc-q35-") {
			c.Machines = append(c.Machines, m.Name)
		}
		if m.Alias == "q35" {
			c.Newest = m.Name
		}
	}
	slices.Sort(c.Machines)
	if c.Newest == "" {
		return fmt.Errorf("this QEMU %s has no q35 machine", c.Version)
	}
	return nil
}

// querySchema looks for abilities in QMP's own description of itself
// (docs/devel/qapi-code-gen, "Client JSON Protocol introspection").
func (c *caps) querySchema(ctx context.Context, mon *Monitor) error {
	var schema []struct {
		Name    string `json:"name"`
		ArgType string `json:"arg-type"`
		Members []struct {
			Name string `json:"name"`
		} `json:"members"`
		Values []string `json:"values"`
	}
	if err := mon.Do(ctx, "query-qmp-schema", nil, &schema); err != nil {
		return err
	}
	screendump := ""
	for _, e := range schema {
		if e.Name == "screendump" {
			screendump = e.ArgType
		}
		// The one enumeration with all of these is the type of a -netdev.
		if slices.Contains(e.Values, "hubport") && slices.Contains(e.Values, "stream") {
			c.Stream = true
		}
	}
	for _, e := range schema {
		if e.Name == screendump {
			for _, m := range e.Members {
				c.PNG = c.PNG || m.Name == "format"
			}
		}
	}
	return nil
}

// machine picks the machine type: the pinned one for ever, else the newest.
func (c *caps) machine(pinned string) (string, error) {
	if pinned == "" {
		return c.Newest, nil
	}
	if slices.Contains(c.Machines, pinned) {
		return pinned, nil
	}
	return "", fmt.Errorf("this guest was made for QEMU's machine %s, which the installed QEMU %s does not have; it has %s",
		pinned, c.Version, strings.Join(c.Machines, ", "))
}

// accelerator picks the best of the host's accelerators that QEMU has, from the
// given place on, and says why the faster ones before it are not used.
func (c *caps) accelerator(list []hv.AccelInfo) (usable []string, why map[string]string) {
	var reasons []string
	why = map[string]string{}
	for _, a := range append(slices.Clone(list), hv.AccelInfo{Name: "tcg", Usable: true}) {
		switch {
		case slices.Contains(usable, a.Name):
		case !a.Usable:
			reasons = append(reasons, sentence(a.Reason), sentence(a.Cure))
		case !slices.Contains(c.Accels, a.Name):
			reasons = append(reasons, "The installed QEMU was built without "+a.Name+".")
		default:
			usable = append(usable, a.Name)
			why[a.Name] = strings.Join(slices.DeleteFunc(slices.Clone(reasons), func(r string) bool { return r == "" }), " ")
		}
	}
	return usable, why
}

// sentence ends a text with a full stop.
func sentence(s string) string {
	if s == "" || strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}
