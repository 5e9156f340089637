package qemu

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/hxen-project/hxen/hv"
)

// Stages of a launch, for StageError.
const (
	stageQEMU     = "qemu"
	stageAccel    = "accelerator"
	stageMachine  = "machine"
	stageFirmware = "firmware"
	stageMemory   = "memory"
	stageDisk     = "disk"
	stageKernel   = "kernel"
	stageNetwork  = "network"
	stageSockets  = "sockets"
)

// explanations turn QEMU's usual last words into a stage, a sentence and a
// cure. $1 is what the pattern caught; an empty sentence keeps QEMU's own.
var explanations = []struct {
	stage, sentence, cure string
	pattern               string // compiled when QEMU has failed, not at every start
}{
	{stageDisk, "the disk image $1 is in use by another program", "stop the other guest or program that uses it",
		`(?s)Failed to get .* lock.*using the image \[(.*?)\]`},
	{stageDisk, "a disk image is in use by another program", "stop the other guest or program that uses it",
		`Failed to get .* lock`},
	{stageMemory, "the host cannot give the guest its memory", "close other programs or give the guest less memory",
		`(?i)cannot set up guest memory|Cannot allocate memory|paging file is too small`},
	{stageDisk, "the disk image $1 may not be opened by this user", "change its permissions",
		`Could not open '(.*?)': Permission denied`},
	{stageDisk, "the disk image $1 does not exist", "put it back or choose another",
		`Could not open '(.*?)': No such file or directory`},
	{stageDisk, "the disk image is not of the format that is recorded for it", "choose another image",
		`Image is not in (\w+) format`},
	{stageAccel, "", "",
		`Could not access KVM kernel module|failed to initialize (?:kvm|whpx|hvf|WHPX|HVF)|invalid accelerator|(?:WHPX|HVF): |KVM_CREATE_VM|kvm_init|kvm[-\w]*\.c:\d+`},
	{stageMachine, "", "install the QEMU that the guest was made with, or choose another machine in its settings",
		`unsupported machine type`},
	{stageKernel, "the kernel cannot be booted directly", "choose a Linux kernel (bzImage) for this kind of machine",
		`without PVH ELF Note|linux kernel too old|invalid kernel header|could not load kernel`},
	{stageKernel, "", "",
		`could not open kernel file|could not load initrd|qemu: error reading initrd`},
	{stageQEMU, "QEMU is not installed completely: $1", "install all of QEMU's packages again",
		`error while loading shared libraries: (.*)`},
	{stageQEMU, "QEMU is not installed completely: it has no device $1", "install all of QEMU's packages",
		`'(.*?)' is not a valid device model name`},
	{stageDisk, "the host's disk is full", "make room on it",
		`No space left on device`},
}

// failure explains the end of a QEMU that should have gone on. It is called
// after done.
func (c *child) failure() *hv.StageError {
	return explain(c.stderr.String(), c.code, c.err)
}

func explain(stderr string, code int, waitErr error) *hv.StageError {
	for _, e := range explanations {
		m := regexp.MustCompile(e.pattern).FindStringSubmatch(stderr)
		if m == nil {
			continue
		}
		text := e.sentence
		if text == "" {
			text = lastWords(stderr)
		}
		if len(m) > 1 {
			text = strings.ReplaceAll(text, "$1", printable(m[1]))
		}
		return &hv.StageError{Stage: e.stage, Err: errors.New(text), Cure: e.cure}
	}
	how := fmt.Sprintf("QEMU ended with code %d", code)
	if code == -1 && waitErr != nil {
		how = "QEMU was ended: " + waitErr.Error()
	}
	if words := lastWords(stderr); words != "" {
		how += ": " + words
	}
	return &hv.StageError{Stage: stageQEMU, Err: errors.New(how)}
}

// lastWords is QEMU's last line that is not a warning, without its program's
// name and without our own arguments, which it repeats.
func lastWords(stderr string) string {
	best := ""
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.Contains(line, "warning:") {
			best = line
		}
	}
	if i := strings.LastIndex(best, "}: "); i >= 0 {
		best = best[i+3:]
	} else if first, rest, ok := strings.Cut(best, ": "); ok && strings.Contains(first, "qemu") {
		best = rest
	}
	return printable(best)
}

// maxText bounds text from QEMU or the guest that a user reads.
const maxText = 500

// printable makes foreign text fit for a sentence.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > maxText {
		s = string(r[:maxText]) + "…"
	}
	return s
}

// staged gives err a stage unless it has one.
func staged(stage string, err error, cure string) error {
	var se *hv.StageError
	if errors.As(err, &se) {
		return se
	}
	return &hv.StageError{Stage: stage, Err: err, Cure: cure}
}
