//go:build linux || windows

package steps

// What the tests of the setup on made-up computers share; each system has its own
// computer.

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/installer/plan"
)

// killed is what a kill looks like from inside: nothing runs any more.
type killed struct{}

func show(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+" = "+m[k])
	}
	return strings.Join(out, "\n")
}

// compare lists what is not the same.
func compare(want, got map[string]string) string {
	var out []string
	for k, v := range want {
		if got[k] != v {
			out = append(out, fmt.Sprintf("%s is %q, not %q", k, got[k], v))
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			out = append(out, fmt.Sprintf("%s is left: %q", k, v))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// killEverywhere kills installing, upgrading and removing at every point, or each of
// so many, and returns how often. The next run ends in the old or the new state.
func killEverywhere(t *testing.T, p1, p2 *Payload, stride int) (total int) {
	none := staying(newComputer(t).files())
	after := func(ps ...*Payload) map[string]string {
		c := newComputer(t)
		for _, p := range ps {
			if r, _ := c.do(plan.Install, p); !r.OK {
				t.Fatal(r.Error)
			}
		}
		return c.files()
	}
	one, two := after(p1), after(p1, p2)
	t.Logf("installed:\n%s", show(two))
	type call struct {
		action  plan.Action
		payload *Payload
		want    map[string]string
	}
	install1, install2, remove := call{plan.Install, p1, one}, call{plan.Install, p2, two}, call{plan.Uninstall, p1, none}
	for _, c := range []struct {
		what   string
		before []call
		killed call
	}{{"installing", nil, install1}, {"upgrading", []call{install1}, install2}, {"removing", []call{install1, install2}, remove}} {
		kills := 0
		for i, next := range []call{install2, remove, c.killed} {
			for kill := 1 + i%stride; ; kill += stride {
				m := newComputer(t)
				for _, b := range c.before {
					m.do(b.action, b.payload)
				}
				m.points, m.kill = 0, kill
				if _, ended := m.do(c.killed.action, c.killed.payload); ended {
					break
				}
				kills++
				m.kill = 0
				r, _ := m.do(next.action, next.payload)
				got := m.files()
				if next.action == plan.Uninstall {
					got = staying(got)
				}
				if d := compare(next.want, got); !r.OK || d != "" {
					t.Fatalf("%s killed at %d, %s, then %s of %s: %+v\n%s", c.what, kill, m.last, next.action, next.payload.Version, r, d)
				}
			}
		}
		t.Logf("%s: %d kills", c.what, kills)
		total += kills
	}
	return total
}
