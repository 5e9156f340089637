package hv

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Retype makes the guest one of another type, so that its kernel finds its
// console and its disks again: both have other names there. The notes say, a
// sentence each, what was changed and what the guest's own files may name.
func (s *Spec) Retype(to GuestType) (notes []string, err error) {
	switch {
	case to != HVM && to != PVH:
		return nil, fmt.Errorf("type %q: must be hvm or pvh", to)
	case to == s.Type:
		return nil, nil
	case to == PVH && s.Boot.Kernel == "" && !slices.ContainsFunc(s.Disks, func(d Disk) bool { return !d.IsCD() }):
		return nil, errors.New("a guest of type pvh boots from its disk or from a kernel on this computer, and this guest has neither")
	}
	was := s.deviceNames()
	s.Type = to
	if to == PVH {
		s.Firmware, s.Machine = "", ""
	} else {
		s.Firmware = BIOS
	}
	names := map[string]string{}
	var moved []string
	for i, now := range s.deviceNames() {
		names[was[i]] = now
		if !s.Disks[i].IsCD() {
			moved = append(moved, fmt.Sprintf("/dev/%s is now /dev/%s", was[i], now))
		}
	}
	old := s.Boot.Cmdline
	if s.Boot.Kernel != "" {
		s.Boot.Cmdline = PutConsole(to, renameDisks(old, names))
	}
	if s.Boot.Cmdline != old {
		notes = append(notes, fmt.Sprintf("The kernel's command line is now %q (it was %q).", s.Boot.Cmdline, old))
	}
	if len(moved) > 0 {
		notes = append(notes, "In the guest "+strings.Join(moved, ", ")+"; root=UUID= or root=LABEL=, and the same in its /etc/fstab, work with both types.")
	}
	if len(s.NICs) > 0 {
		notes = append(notes, "In the guest the network card has another name now; settings that match it by its MAC address work with both types.")
	}
	return notes, nil
}

// deviceNames are what Linux calls the guest's disks and drives, in their order:
// Xen's disks by their place in the list, QEMU's by their bus.
func (s *Spec) deviceNames() []string {
	out := make([]string, len(s.Disks))
	var virtio, sata, cds int
	count := func(prefix string, n *int) string {
		*n++
		return prefix + string(rune('a'+*n-1))
	}
	for i, d := range s.Disks {
		switch {
		case s.Type == PVH:
			out[i] = "xvd" + string(rune('a'+i))
		case d.IsCD():
			out[i] = fmt.Sprintf("sr%d", cds)
			cds++
		case d.Bus == BusSATA:
			out[i] = count("sd", &sata)
		default:
			out[i] = count("vd", &virtio)
		}
	}
	return out
}

// Every start of a worker would else make them.
var (
	cmdlineWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\S+\s*`) })
	diskWord    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^((?:root|resume)=/dev/)([a-z]+)(\d*)$`) })
)

// renameDisks changes the disks that root= and resume= name.
func renameDisks(cmdline string, names map[string]string) string {
	return editWords(cmdline, func(w string) string {
		m := diskWord().FindStringSubmatch(w)
		if m == nil || names[m[2]] == "" {
			return w
		}
		return m[1] + names[m[2]] + m[3]
	})
}

// PutConsole has a kernel's command line name the console that a guest of the
// type has: Xen's hvc0, or the screen and the serial line, of which the last is
// /dev/console. The consoles of the other type are left out: one that is not
// there, named last, leaves a guest without any.
func PutConsole(t GuestType, cmdline string) string {
	if t == HVM && !strings.Contains(cmdline, "console=hvc0") {
		return cmdline
	}
	out := strings.TrimSpace(editWords(cmdline, func(w string) string {
		name, _, _ := strings.Cut(strings.TrimPrefix(w, "console="), ",")
		foreign := t == HVM && name == "hvc0" || t == PVH && (name == "tty0" || strings.HasPrefix(name, "ttyS"))
		if strings.HasPrefix(w, "console=") && foreign {
			return ""
		}
		return w
	}))
	missing := ""
	switch {
	case t == PVH && !strings.Contains(out, "console="):
		missing = "console=hvc0"
	case t == HVM && !strings.Contains(out, "console="):
		missing = "console=tty0 console=ttyS0"
	}
	return strings.TrimSpace(out + " " + missing)
}

// editWords changes a command line word by word and leaves the space between
// them, except after words that go.
func editWords(cmdline string, change func(string) string) string {
	return cmdlineWord().ReplaceAllStringFunc(cmdline, func(w string) string {
		word := strings.TrimRight(w, " \t\n")
		now := change(word)
		if now == "" {
			return ""
		}
		return now + w[len(word):]
	})
}
