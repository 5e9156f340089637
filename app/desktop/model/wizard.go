package model

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/text"
)

// Source is where a new guest boots from.
type Source int

const (
	FromISO Source = iota
	FromDisk
	FromKernel
	FromBlank
)

// Page is a step of the wizard.
type Page int

const (
	PageSource Page = iota
	PageResources
	PageName
	PageSummary
	pageCount
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30

	memoryLeast = 16 * mib
	diskLeast   = 1 * mib
	diskMost    = 64 << 40 // qcow2 with our cluster size ends at 64 TiB
	cpusMost    = 255
)

// Wizard is the whole state of the New-VM wizard; pages only show and set it.
type Wizard struct {
	Source   Source
	ISO      string
	Disk     string
	CopyDisk bool
	Kernel   string
	Initrd   string
	Cmdline  string
	PVH      bool // run the kernel, or the disk's, as a guest of type pvh

	Memory   int64 // bytes
	VCPUs    int64
	DiskSize int64 // bytes; 0 no new disk
	Firmware string

	Name       string
	StartAfter bool

	Page Page

	lib     *Library
	probes  map[string]api.ProbeResult
	touched struct{ memory, vcpus, disk, firmware, name bool }
	changed func()
	asking  context.CancelFunc
}

// NewWizard starts a wizard; changed is called on the loop when a probe has
// brought something new. path may name a file to begin with.
func (l *Library) NewWizard(path string, changed func()) *Wizard {
	w := &Wizard{lib: l, probes: map[string]api.ProbeResult{}, changed: changed, StartAfter: true, Firmware: "bios"}
	w.defaults()
	if path != "" {
		w.SetPath(path)
	}
	return w
}

// SetSource picks where to boot from.
func (w *Wizard) SetSource(s Source) {
	w.Source = s
	w.defaults()
	w.probe()
}

// Path is the file that the present source boots from; empty for a blank disk.
func (w *Wizard) Path() string {
	switch w.Source {
	case FromISO:
		return w.ISO
	case FromDisk:
		return w.Disk
	case FromKernel:
		return w.Kernel
	}
	return ""
}

// SetPath sets the file of the present source and asks the service what it is.
func (w *Wizard) SetPath(path string) {
	path = strings.TrimSpace(path)
	switch w.Source {
	case FromISO:
		w.ISO = path
	case FromDisk:
		w.Disk = path
	case FromKernel:
		w.Kernel = path
	}
	w.defaults()
	w.probe()
}

// probe asks for the present file, dropping an answer that is still awaited.
func (w *Wizard) probe() {
	if w.asking != nil {
		w.asking()
		w.asking = nil
	}
	path := w.Path()
	if _, known := w.probes[path]; known || !filepath.IsAbs(path) {
		return
	}
	var got api.ProbeResult
	w.asking = w.lib.Async(func(ctx context.Context) (err error) {
		got, err = w.lib.svc.Probe(ctx, path)
		return err
	}, func(err error) {
		if _, failed := Explain("", nil, err); failed {
			got = api.ProbeResult{Kind: "unknown", Problem: err.Error()}
		} else if err != nil {
			return // superseded by another path
		}
		w.probes[path] = got
		w.defaults()
		if w.changed != nil {
			w.changed()
		}
	})
}

// Probed is what is known of the present file; known is false while the answer
// is awaited.
func (w *Wizard) Probed() (r api.ProbeResult, known bool) {
	r, known = w.probes[w.Path()]
	return r, known
}

// FileText says what the present file is, for under its entry.
func (w *Wizard) FileText() string {
	r, known := w.Probed()
	switch {
	case w.Path() == "" || !filepath.IsAbs(w.Path()):
		return ""
	case !known:
		return text.T("Looking at the file…")
	case r.Problem != "":
		return ""
	}
	var parts []string
	for _, p := range []string{r.OS, r.Label} {
		if p != "" && (len(parts) == 0 || parts[0] != p) {
			parts = append(parts, p)
		}
	}
	if r.Format != "" {
		parts = append(parts, r.Format)
	}
	if r.Size > 0 {
		parts = append(parts, text.Size(r.Size))
	}
	return strings.Join(parts, ", ")
}

// Set functions remember that the user chose, so that defaults keep off.

func (w *Wizard) SetMemory(n int64)    { w.Memory, w.touched.memory = n, true }
func (w *Wizard) SetVCPUs(n int64)     { w.VCPUs, w.touched.vcpus = n, true }
func (w *Wizard) SetDiskSize(n int64)  { w.DiskSize, w.touched.disk = n, true }
func (w *Wizard) SetFirmware(s string) { w.Firmware, w.touched.firmware = s, true }
func (w *Wizard) SetName(s string)     { w.Name, w.touched.name = s, true }

// defaults fills in what the user has not chosen, from the host and the file:
// a quarter of the host's memory within 1 and 4 GiB, half of its processors up
// to four, 32 GiB of sparse disk where there is room, the firmware that the
// medium boots with.
func (w *Wizard) defaults() {
	h := w.host()
	if !w.touched.memory {
		w.Memory = min(max(h.Memory/4/gib*gib, gib), 4*gib)
		if w.Source == FromKernel {
			w.Memory = 512 * mib
		}
	}
	if !w.touched.vcpus {
		w.VCPUs = min(max(int64(h.CPUs)/2, 1), 4)
	}
	if !w.touched.disk {
		w.DiskSize = 0
		if w.Source == FromISO || w.Source == FromBlank {
			w.DiskSize = 32 * gib
		}
	}
	r, _ := w.Probed()
	if !w.touched.firmware {
		w.Firmware = "bios"
		if r.UEFI && !r.BIOS && h.UEFI {
			w.Firmware = "uefi"
		}
	}
	if !w.touched.name {
		w.Name = w.lib.freeName(w.suggestion(r))
	}
}

func (w *Wizard) host() api.HostInfo {
	if w.lib.host != nil {
		return *w.lib.host
	}
	return api.HostInfo{Memory: 4 * gib, MemoryFree: 4 * gib, CPUs: 2, UEFI: true}
}

// suggestion makes a name of what the file says it is, else of the file's name.
func (w *Wizard) suggestion(r api.ProbeResult) string {
	switch {
	case r.OS != "":
		return r.OS
	case w.Source == FromKernel && w.Path() != "":
		return text.T("Kernel")
	case w.Path() != "":
		base := filepath.Base(w.Path())
		return strings.TrimSuffix(base, filepath.Ext(base))
	}
	return text.T("New machine")
}

// freeName returns name, or name with the lowest number that no guest has.
func (l *Library) freeName(name string) string {
	taken := map[string]bool{}
	for _, vm := range l.vms {
		taken[vm.Record.NameLabel] = true
	}
	if !taken[name] {
		return name
	}
	for i := 2; ; i++ {
		if n := text.T("%s %d", name, i); !taken[n] {
			return n
		}
	}
}

// Limits are the ends of the sliders.
type Limits struct {
	MemoryLeast, MemoryMost int64
	CPUsMost                int64
	DiskFree                int64
}

// Limits tells what the host can give.
func (w *Wizard) Limits() Limits {
	h := w.host()
	return Limits{MemoryLeast: memoryLeast, MemoryMost: max(h.Memory, memoryLeast), CPUsMost: max(int64(h.CPUs), 1), DiskFree: h.DiskFree}
}

// NoPVH says why a kernel cannot be run as a guest of type pvh on this computer,
// with the cure; empty if it can.
func (w *Wizard) NoPVH() string {
	h := w.host()
	if h.Native != "" {
		return ""
	}
	return strings.TrimSpace(Sentence(h.NativeWhy) + " " + Sentence(h.NativeCure))
}

// pvh reports whether the guest will be one of that type.
func (w *Wizard) pvh() bool {
	return w.PVH && (w.Source == FromKernel || w.Source == FromDisk) && w.NoPVH() == ""
}

// HasFirmware reports whether the guest has firmware to choose.
func (w *Wizard) HasFirmware() bool { return !w.pvh() }

// HasNewDisk reports whether the source may come with a new blank disk.
func (w *Wizard) HasNewDisk() bool { return w.Source == FromISO || w.Source == FromBlank }

// Problems of the present page that forbid going on, and Warnings that do not,
// each a sentence.
func (w *Wizard) Problems() []string { return w.problems(w.Page) }

func (w *Wizard) problems(p Page) []string {
	switch p {
	case PageSource:
		return w.sourceProblems()
	case PageResources:
		return w.resourceProblems()
	case PageName:
		return w.nameProblems()
	}
	var all []string
	for _, p := range []Page{PageSource, PageResources, PageName} {
		all = append(all, w.problems(p)...)
	}
	return all
}

func (w *Wizard) sourceProblems() []string {
	if w.Source == FromBlank {
		return nil
	}
	path := w.Path()
	what := map[Source]string{FromISO: text.T("CD image"), FromDisk: text.T("disk image"), FromKernel: text.T("kernel")}[w.Source]
	if path == "" {
		return []string{text.T("Choose the %s to boot from.", what)}
	}
	if !filepath.IsAbs(path) {
		return []string{text.T("Give the whole path of the %s, from the root folder on.", what)}
	}
	r, known := w.Probed()
	if !known {
		return []string{text.T("Looking at the file…")}
	}
	if r.Problem != "" {
		return []string{Sentence(r.Problem)}
	}
	want := map[Source]string{FromISO: "iso", FromDisk: "disk", FromKernel: "kernel"}[w.Source]
	if r.Kind != want && r.Kind != "unknown" {
		kinds := map[string]string{"iso": text.T("CD image"), "disk": text.T("disk image"), "kernel": text.T("kernel")}
		return []string{text.T("This is a %s, not a %s; pick it as that above.", kinds[r.Kind], what)}
	}
	if w.Source == FromKernel && w.Initrd != "" && !filepath.IsAbs(w.Initrd) {
		return []string{text.T("Give the whole path of the initial RAM disk, from the root folder on.")}
	}
	return nil
}

func (w *Wizard) resourceProblems() []string {
	var out []string
	h := w.host()
	if w.Memory < memoryLeast {
		out = append(out, text.T("A guest needs %s of memory at least.", text.Size(memoryLeast)))
	} else if w.Memory > h.Memory {
		out = append(out, text.T("This computer has only %s of memory.", text.Size(h.Memory)))
	}
	if w.VCPUs < 1 {
		out = append(out, text.T("A guest needs a processor."))
	} else if w.VCPUs > cpusMost {
		out = append(out, text.T("A guest can have at most %d processors.", cpusMost))
	}
	if w.Source == FromBlank && w.DiskSize == 0 {
		out = append(out, text.T("Give the disk a size."))
	}
	if w.HasNewDisk() && w.DiskSize != 0 && (w.DiskSize < diskLeast || w.DiskSize > diskMost) {
		out = append(out, text.T("A disk can have %s to %s.", text.Size(diskLeast), text.Size(diskMost)))
	}
	if w.HasFirmware() && w.Firmware == "uefi" && !h.UEFI {
		out = append(out, text.T("UEFI firmware is not installed on this computer; use BIOS, or install it."))
	}
	return out
}

func (w *Wizard) nameProblems() []string {
	name := strings.TrimSpace(w.Name)
	if name == "" {
		return []string{text.T("Give the machine a name.")}
	}
	for _, vm := range w.lib.vms {
		if vm.Record.NameLabel == name {
			return []string{text.T("There is a machine named %s already.", name)}
		}
	}
	return nil
}

// Warnings are what the user should know of the present page.
func (w *Wizard) Warnings() []string {
	h, r := w.host(), api.ProbeResult{}
	if p, known := w.Probed(); known {
		r = p
	}
	var out []string
	if w.Page == PageSource && w.Source == FromDisk && !w.CopyDisk {
		if vm := w.lib.userOf(w.Disk); vm != nil {
			out = append(out, text.T("%s uses this disk too: only one of them can run at a time. Copy it to have both.", vm.Name()))
		}
	}
	if w.Page == PageResources || w.Page == PageSummary {
		if w.Memory > h.MemoryFree && w.Memory <= h.Memory {
			out = append(out, text.T("Only %s of memory are free now; close something before you start it.", text.Size(h.MemoryFree)))
		}
		if w.VCPUs > int64(h.CPUs) {
			out = append(out, text.T("This computer has %d processors; more make the guest slower.", h.CPUs))
		}
		if w.HasNewDisk() && h.DiskFree > 0 && w.DiskSize > h.DiskFree {
			out = append(out, text.T("The disk grows as it fills; %s are free on this computer.", text.Size(h.DiskFree)))
		}
		if w.Source == FromISO && r.Kind == "iso" {
			if w.Firmware == "uefi" && r.BIOS && !r.UEFI {
				out = append(out, text.T("This medium boots with BIOS only."))
			}
			if w.Firmware == "bios" && r.UEFI && !r.BIOS {
				out = append(out, text.T("This medium boots with UEFI only."))
			}
		}
	}
	if h.Missing != "" && w.Page == PageSummary && !w.pvh() {
		out = append(out, Sentence(h.Missing))
	}
	return out
}

// Next goes a page on if nothing forbids it; Back a page back.
func (w *Wizard) Next() bool {
	if len(w.Problems()) > 0 || w.Page+1 >= pageCount {
		return false
	}
	w.Page++
	return true
}

func (w *Wizard) Back() bool {
	if w.Page == 0 {
		return false
	}
	w.Page--
	return true
}

// Row is a line of the summary.
type Row struct{ Label, Value string }

// Summary says what would be created.
func (w *Wizard) Summary() []Row {
	rows := []Row{{text.T("Name"), strings.TrimSpace(w.Name)}}
	switch w.Source {
	case FromISO:
		rows = append(rows, Row{text.T("CD"), w.ISO})
	case FromDisk:
		use := text.T("used in place")
		if w.CopyDisk {
			use = text.T("copied")
		}
		rows = append(rows, Row{text.T("Disk"), text.T("%s (%s)", w.Disk, use)})
	case FromKernel:
		rows = append(rows, Row{text.T("Kernel"), w.Kernel})
		if w.Initrd != "" {
			rows = append(rows, Row{text.T("Initial RAM disk"), w.Initrd})
		}
		if w.Cmdline != "" {
			rows = append(rows, Row{text.T("Command line"), w.Cmdline})
		}
	}
	if w.HasNewDisk() && w.DiskSize > 0 {
		rows = append(rows, Row{text.T("New disk"), text.T("%s, takes room as it fills", text.Size(w.DiskSize))})
	}
	rows = append(rows,
		Row{text.T("Memory"), text.Size(w.Memory)},
		Row{text.T("Processors"), text.T("%d", w.VCPUs)})
	switch {
	case w.pvh():
		return append(rows, Row{text.T("Type"), text.T("Xen PVH, run by HXEN itself")})
	case w.Firmware == "uefi":
		return append(rows, Row{text.T("Firmware"), "UEFI"})
	}
	return append(rows, Row{text.T("Firmware"), "BIOS"})
}

// Request is what the service is asked for.
func (w *Wizard) Request() api.NewGuest {
	g := api.NewGuest{Name: strings.TrimSpace(w.Name), Memory: w.Memory, VCPUs: w.VCPUs, Firmware: w.Firmware}
	switch w.Source {
	case FromISO:
		g.ISO = w.ISO
	case FromDisk:
		g.Disk, g.CopyDisk = w.Disk, w.CopyDisk
	case FromKernel:
		g.Kernel, g.Initrd, g.Cmdline = w.Kernel, strings.TrimSpace(w.Initrd), w.Cmdline
	}
	if w.HasNewDisk() {
		g.DiskSize = w.DiskSize
	}
	if w.pvh() {
		g.Type, g.Firmware = pvh, ""
	}
	return g
}

// Create asks for the guest and, if StartAfter is set, starts it. created gets
// the guest as soon as it is there, done the outcome of all; both on the loop.
// The returned function gives up.
func (w *Wizard) Create(created func(api.Created), done func(error)) context.CancelFunc {
	req, start, l := w.Request(), w.StartAfter, w.lib
	return l.Async(func(ctx context.Context) error {
		c, err := l.svc.Create(ctx, req)
		if err != nil {
			return err
		}
		l.loop(func() { created(c) })
		if !start {
			return nil
		}
		return l.svc.Do(ctx, c.VM, OpStart)
	}, done)
}

// Close drops what is still awaited.
func (w *Wizard) Close() {
	if w.asking != nil {
		w.asking()
	}
}
