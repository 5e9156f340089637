package steps

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/windows/registry"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
)

// hive is the part of the registry that an installation writes to: the
// computer's, or one user's.
type hive struct {
	root  registry.Key
	below string                      // "" or, in tests, a key that stands for root; ends with a backslash
	point func(op, name string) error // tests: called before each change
}

// data is what a value holds, as the journal keeps it: its kind, a colon and its
// content. Kinds are "s" (REG_SZ), "x" (REG_EXPAND_SZ), "d" (REG_DWORD); others,
// which are only put back, are the type's number, and the content is in hex.
// Nothing at all is a value that is not there.
type data string

func textData(s string) data        { return data("s:" + s) }
func numberData(n uint32) data      { return data("d:" + strconv.FormatUint(uint64(n), 10)) }
func (d data) parts() (k, c string) { k, c, _ = strings.Cut(string(d), ":"); return k, c }

// get reads a value.
func (h *hive) get(key, name string) (data, error) {
	k, err := registry.OpenKey(h.root, h.below+key, registry.QUERY_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the registry's %s: %w", key, err)
	}
	defer k.Close()
	size, kind, err := k.GetValue(name, nil)
	if errors.Is(err, registry.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the registry's %s, %q: %w", key, name, err)
	}
	var out data
	switch kind {
	case registry.SZ, registry.EXPAND_SZ:
		var s string
		s, _, err = k.GetStringValue(name)
		out = textData(s)
		if kind == registry.EXPAND_SZ {
			out = data("x:" + s)
		}
	case registry.DWORD:
		var n uint64
		n, _, err = k.GetIntegerValue(name)
		out = numberData(uint32(n))
	default:
		b := make([]byte, size)
		size, _, err = k.GetValue(name, b)
		out = data(strconv.FormatUint(uint64(kind), 10) + ":" + hex.EncodeToString(b[:min(size, len(b))]))
	}
	if err != nil {
		return "", fmt.Errorf("read the registry's %s, %q: %w", key, name, err)
	}
	return out, nil
}

// put writes a value, or deletes it if d is empty. The key must exist, but for
// deleting.
func (h *hive) put(key, name string, d data) error {
	if h.point != nil {
		if err := h.point("registry", key+`\`+name); err != nil {
			return err
		}
	}
	k, err := registry.OpenKey(h.root, h.below+key, registry.SET_VALUE)
	if errors.Is(err, registry.ErrNotExist) && d == "" {
		return nil
	}
	if err == nil {
		defer k.Close()
		switch kind, content := d.parts(); kind {
		case "":
			if err = k.DeleteValue(name); errors.Is(err, registry.ErrNotExist) {
				err = nil
			}
		case "s":
			err = k.SetStringValue(name, content)
		case "x":
			err = k.SetExpandStringValue(name, content)
		case "d":
			var n uint64
			if n, err = strconv.ParseUint(content, 10, 32); err == nil {
				err = k.SetDWordValue(name, uint32(n))
			}
		default:
			var b []byte
			if b, err = hex.DecodeString(content); err == nil {
				err = k.SetBinaryValue(name, b)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("write the registry's %s, %q: %w", key, name, err)
	}
	return nil
}

func (h *hive) has(key string) bool {
	k, err := registry.OpenKey(h.root, h.below+key, registry.QUERY_VALUE)
	if err != nil {
		return false
	}
	k.Close()
	return true
}

func (h *hive) make(key string) error {
	if h.point != nil {
		if err := h.point("key", key); err != nil {
			return err
		}
	}
	k, _, err := registry.CreateKey(h.root, h.below+key, registry.QUERY_VALUE)
	if err != nil {
		return fmt.Errorf("make the registry's %s: %w", key, err)
	}
	return k.Close()
}

// drop deletes a key that has nothing in it.
func (h *hive) drop(key string) error {
	k, err := registry.OpenKey(h.root, h.below+key, registry.QUERY_VALUE|registry.ENUMERATE_SUB_KEYS)
	if errors.Is(err, registry.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the registry's %s: %w", key, err)
	}
	st, err := k.Stat()
	k.Close()
	if err != nil {
		return fmt.Errorf("read the registry's %s: %w", key, err)
	}
	if st.SubKeyCount > 0 || st.ValueCount > 0 {
		return nil // somebody else's
	}
	if h.point != nil {
		if err := h.point("drop", key); err != nil {
			return err
		}
	}
	if err := registry.DeleteKey(h.root, h.below+key); err != nil && !errors.Is(err, registry.ErrNotExist) {
		return fmt.Errorf("remove the registry's %s: %w", key, err)
	}
	return nil
}

// value is one that a step wants.
type value struct {
	key, name string // name is empty for a key's default value
	data
}

// registered is a step that keeps values in the registry. What was there before
// is put back when they are removed; what somebody changed since stays.
type registered struct {
	id, title, detail string
	optional          bool
	reg               *hive
	want              []value
	owns              func(key string) bool // keys that this step may write to, whatever a journal says
	under             string                // they lie below this one, which it may have to make, too
	after             func()                // tells those who have read the old values; may be nil
}

// Kinds of acts. A value's Args are its key, its name and, if it was somebody
// else's before, what it held.
const (
	kindKey   = "key"
	kindValue = "value"
)

func (r *registered) ID() string     { return r.id }
func (r *registered) Title() string  { return r.title }
func (r *registered) Optional() bool { return r.optional }

func (v value) act() plan.Act {
	return plan.Act{Kind: kindValue, Name: v.key + `\` + v.name, Sum: string(v.data), Args: []string{v.key, v.name}}
}

// todos are the values to write, and those of earlier runs that are not wanted
// any more.
func (r *registered) todos(s *plan.Session) (list, gone []plan.Act, err error) {
	stands := s.Stands()
	wanted := map[string]bool{}
	for _, v := range r.want {
		a := v.act()
		wanted[a.Name] = true
		now, err := r.reg.get(v.key, v.name)
		if err != nil {
			return nil, nil, err
		}
		if now == v.data {
			continue
		}
		a.Old = string(now)
		if i := slices.IndexFunc(stands, func(b plan.Act) bool { return b.Kind == kindValue && b.Name == a.Name }); i >= 0 {
			a.Args = stands[i].Args // what was there before us
		} else if now != "" {
			a.Args = append(a.Args, string(now))
		}
		list = append(list, a)
	}
	for _, a := range stands {
		if a.Kind == kindValue && !wanted[a.Name] {
			gone = append(gone, plan.Act{Kind: a.Kind, Name: a.Name, Sum: a.Sum, Old: a.Sum, Args: a.Args, Gone: true})
		}
	}
	return list, gone, nil
}

// Check implements plan.Step.
func (r *registered) Check(_ context.Context, s *plan.Session) (plan.Status, error) {
	list, gone, err := r.todos(s)
	if err != nil {
		return plan.Status{}, err
	}
	left := slices.ContainsFunc(s.Pending(), func(a plan.Act) bool { return a.Gone && r.is(a) })
	st := plan.Status{Done: len(list) == 0 && len(gone) == 0 && !left, Detail: r.detail}
	if len(r.want) == 0 {
		st.Detail = text.T("not without the window")
	}
	return st, nil
}

// is reports whether a value is what an act made it.
func (r *registered) is(a plan.Act) bool {
	if a.Kind != kindValue || len(a.Args) < 2 {
		return false
	}
	now, err := r.reg.get(a.Args[0], a.Args[1])
	return err == nil && now != "" && string(now) == a.Sum
}

// Apply implements plan.Step.
func (r *registered) Apply(_ context.Context, s *plan.Session) error {
	list, gone, err := r.todos(s)
	if err != nil {
		return err
	}
	var acts []plan.Act
	keys := r.missing(list)
	for _, k := range keys {
		acts = append(acts, plan.Act{Kind: kindKey, Name: k})
	}
	acts = append(append(acts, list...), gone...)
	pending := s.Pending()
	if err := s.Intend(slices.DeleteFunc(acts, func(a plan.Act) bool {
		return slices.ContainsFunc(pending, func(b plan.Act) bool { return a.Kind == b.Kind && a.Name == b.Name })
	})...); err != nil {
		return err
	}
	for _, k := range keys {
		if err := r.reg.make(k); err != nil {
			return err
		}
	}
	for _, a := range list {
		if err := r.reg.put(a.Args[0], a.Args[1], data(a.Sum)); err != nil {
			return err
		}
	}
	for _, a := range gone {
		if err := r.restore(a); err != nil {
			return err
		}
	}
	if len(gone) > 0 { // and what held them
		for _, a := range slices.Backward(s.Stands()) {
			if a.Kind == kindKey && r.made(a.Name) {
				if err := r.reg.drop(a.Name); err != nil {
					return err
				}
			}
		}
	}
	r.tell()
	return nil
}

func (r *registered) tell() {
	if r.after != nil {
		r.after()
	}
}

// made reports whether this step may have made a key.
func (r *registered) made(key string) bool {
	return r.owns(key) || strings.HasPrefix(r.under+`\`, key+`\`)
}

// missing lists the keys that have to be made, outermost first.
func (r *registered) missing(list []plan.Act) (out []string) {
	for _, a := range list {
		var chain []string
		for key := a.Args[0]; key != "" && !r.reg.has(key) && !slices.Contains(out, key); {
			chain = append(chain, key)
			key = key[:max(0, strings.LastIndexByte(key, '\\'))]
		}
		slices.Reverse(chain)
		out = append(out, chain...)
	}
	return out
}

// restore takes a value of ours away, and puts back what was there before us.
func (r *registered) restore(a plan.Act) error {
	if !r.is(a) {
		return nil
	}
	var before data
	if len(a.Args) > 2 {
		before = data(a.Args[2])
	}
	return r.reg.put(a.Args[0], a.Args[1], before)
}

// Undo implements plan.Step.
func (r *registered) Undo(_ context.Context, s *plan.Session, a plan.Act) error {
	if known := append(s.Stands(), s.Pending()...); len(known) > 0 && a.Key() == known[0].Key() {
		defer r.tell() // this one is the last
	}
	switch {
	case a.Kind == kindKey && r.made(a.Name):
		return r.reg.drop(a.Name)
	case a.Kind != kindValue || len(a.Args) < 2 || !r.owns(a.Args[0]):
		return nil
	case s.Uninstalling():
		return r.restore(a)
	case a.Gone:
		if now, err := r.reg.get(a.Args[0], a.Args[1]); err != nil || string(now) == a.Old {
			return err
		}
		for _, k := range r.missing([]plan.Act{a}) {
			if err := r.reg.make(k); err != nil {
				return err
			}
		}
		return r.reg.put(a.Args[0], a.Args[1], data(a.Old))
	case r.is(a):
		return r.reg.put(a.Args[0], a.Args[1], data(a.Old))
	}
	return nil
}
