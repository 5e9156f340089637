package confine

import (
	"fmt"
	"strings"
)

// apply takes away what Windows lets a running program give up: starting others,
// code that is made at run time or comes from elsewhere, and every privilege of
// its token. Its files stay those of its user: a token cannot be exchanged under
// a running program.
func apply(Policy) (Report, error) {
	r := Report{Missing: "Windows lets no running program give up its user's files; the worker keeps those"}
	for _, wall := range []struct {
		name  string
		raise func() error
	}{
		{"no privileges", dropPrivileges},
		{"job of one process", closeJob},
		{"no child processes", func() error { return mitigate(ProcessChildProcessPolicy, noChildProcessCreation) }},
		{"no code at run time", func() error { return mitigate(ProcessDynamicCodePolicy, prohibitDynamicCode) }},
		{"no extensions", func() error { return mitigate(ProcessExtensionPointDisablePolicy, disableExtensionPoints) }},
		{"no libraries from elsewhere", func() error {
			return mitigate(ProcessImageLoadPolicy, noRemoteImages|noLowMandatoryLabelImages|preferSystem32Images)
		}},
	} {
		if err := wall.raise(); err != nil {
			r.Missing += fmt.Sprintf("; %s: %v", wall.name, err)
			continue
		}
		r.Walls = append(r.Walls, wall.name)
	}
	r.Missing = strings.TrimSpace(r.Missing)
	return r, nil
}
