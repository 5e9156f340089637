package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hxen-project/hxen/app/api"
)

// registerRecords gives every class what XenAPI gives every class.
func (s *Server) registerRecords() {
	for _, c := range classes {
		s.registerClass(c)
	}
	s.public("system.listMethods", func(*Call, api.Ref, json.RawMessage) ([]string, error) {
		out := make([]string, 0, len(s.methods))
		for name, m := range s.methods {
			out = append(out, name)
			if m.async {
				out = append(out, "Async."+name)
			}
		}
		slices.Sort(out)
		return out, nil
	})
}

func (s *Server) registerClass(c *class) {
	s.builtin(c.name+".get_record", func(_ *Call, ref api.Ref) (json.RawMessage, error) {
		o, err := s.db.object(c, ref)
		return o.raw, err
	})
	for name, i := range c.fields {
		s.builtin(c.name+".get_"+name, func(_ *Call, ref api.Ref) (json.RawMessage, error) {
			o, err := s.db.object(c, ref)
			if err != nil {
				return nil, err
			}
			return json.Marshal(o.record.Field(i).Interface())
		})
	}
	s.builtin(c.name+".get_by_uuid", func(_ *Call, uuid string) (api.Ref, error) {
		for _, o := range s.db.list(c) {
			if o.uuid() == uuid {
				return o.ref, nil
			}
		}
		return "", api.NewError(api.ErrUUIDInvalid, c.name, uuid)
	})
	if c.name == api.ClassSession {
		return // sessions do not see each other
	}
	s.builtin(c.name+".get_all", func(*Call) ([]api.Ref, error) {
		var out []api.Ref
		for _, o := range s.db.list(c) {
			out = append(out, o.ref)
		}
		return out, nil
	})
	s.builtin(c.name+".get_all_records", func(*Call) (json.RawMessage, error) { return allRecords(s.db.list(c)), nil })
	if c.label >= 0 {
		s.builtin(c.name+".get_by_name_label", func(_ *Call, label string) ([]api.Ref, error) {
			var out []api.Ref
			for _, o := range s.db.list(c) {
				if o.label() == label {
					out = append(out, o.ref)
				}
			}
			return out, nil
		})
	}
}

// allRecords joins records that are JSON already.
func allRecords(all []object) json.RawMessage {
	size := 2
	for _, o := range all {
		size += len(o.ref) + len(o.raw) + 4
	}
	var out bytes.Buffer
	out.Grow(size)
	out.WriteByte('{')
	for i, o := range all {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(quote(string(o.ref)))
		out.WriteByte(':')
		out.Write(o.raw)
	}
	out.WriteByte('}')
	return out.Bytes()
}

func (db *DB) object(c *class, ref api.Ref) (object, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	o := db.objects[c][ref]
	if o == nil {
		return object{}, api.NewError(api.ErrHandleInvalid, c.name, string(ref))
	}
	return *o, nil
}

// RegisterSetter makes a field of a class writable: set_FIELD calls fn, a
// func(*Call, api.Ref, T) error where T is the field's type. fn makes the change
// lasting and puts the changed record. For a map field add_to_FIELD and
// remove_from_FIELD come with it: they call fn with the whole changed map.
func (s *Server) RegisterSetter(className, field string, fn any) {
	c := classes[className]
	if c == nil {
		panic("rpc: there is no class " + className)
	}
	i, ok := c.fields[field]
	if !ok {
		panic(fmt.Sprintf("rpc: %s has no field %s", className, field))
	}
	m := newMethod(className+".set_"+field, fn)
	want := c.typ.Field(i).Type
	if m.result || len(m.params) != 2 || m.params[0] != refType || m.params[1] != want {
		panic(fmt.Sprintf("rpc: %s is %v, not func(*Call, api.Ref, %v) error", m.name, m.fn.Type(), want))
	}
	m.session = true
	if _, strs := reflect.Zero(want).Interface().(map[string]string); strs {
		s.registerMapSetters(c, field, fn.(func(*Call, api.Ref, map[string]string) error))
		return
	}
	s.methods[m.name] = m
}

// registerMapSetters adds the three ways to change a map.
func (s *Server) registerMapSetters(c *class, field string, set func(*Call, api.Ref, map[string]string) error) {
	change := func(call *Call, ref api.Ref, edit func(map[string]string) error) error {
		s.setting.Lock()
		defer s.setting.Unlock()
		o, err := s.db.object(c, ref)
		if err != nil {
			return err
		}
		m := cloneInner(o.record.Field(c.fields[field])).Interface().(map[string]string)
		if err := edit(m); err != nil {
			return err
		}
		return set(call, ref, m)
	}
	s.builtin(c.name+".set_"+field, func(call *Call, ref api.Ref, value map[string]string) error {
		s.setting.Lock()
		defer s.setting.Unlock()
		return set(call, ref, value)
	})
	s.builtin(c.name+".add_to_"+field, func(call *Call, ref api.Ref, key, value string) error {
		return change(call, ref, func(m map[string]string) error {
			if _, there := m[key]; there {
				return api.NewError(api.ErrDuplicateKey, c.name, field, string(ref), key)
			}
			m[key] = value
			return nil
		})
	})
	s.builtin(c.name+".remove_from_"+field, func(call *Call, ref api.Ref, key string) error {
		return change(call, ref, func(m map[string]string) error {
			delete(m, key)
			return nil
		})
	})
}

// RegisterPlugin adds a function to host.call_plugin (and its Async. form): fn
// is a func(*Call) or func(*Call, T), T read from the JSON in the argument
// "args", that returns an error or a value and an error; the value is the JSON
// text of the call's result.
func (s *Server) RegisterPlugin(plugin, function string, fn any) {
	key := plugin + "\x00" + function
	m := newMethod(plugin+"/"+function, fn)
	if s.plugins[key] != nil || len(m.params) > 1 {
		panic(fmt.Sprintf("rpc: plugin function %s is registered twice or takes more than one argument", m.name))
	}
	s.plugins[key] = m
}

func (s *Server) registerPlugins() {
	m := s.builtin("host.call_plugin", func(c *Call, _ api.Ref, plugin, function string, args map[string]string) (string, error) {
		m := s.plugins[plugin+"\x00"+function]
		if m == nil {
			for key := range s.plugins {
				if strings.HasPrefix(key, plugin+"\x00") {
					return "", api.NewError(api.ErrPluginFailure, function, "unknown function", fmt.Sprintf("plugin %s has no function %s", plugin, function))
				}
			}
			return "", api.NewError(api.ErrUnknownPlugin, plugin)
		}
		in := callArgs(c)
		if len(m.params) == 1 {
			v := reflect.New(m.params[0]).Elem()
			if err := decode(json.RawMessage(args[api.PluginArgs]), v); err != nil {
				return "", api.NewError(api.ErrFieldType, fmt.Sprintf("%q of %s/%s: %v", api.PluginArgs, plugin, function, err))
			}
			in = append(in, v)
		}
		raw, err := s.run(m, c, in)
		if err != nil {
			return "", err
		}
		if !m.result {
			return "", nil
		}
		return string(raw), nil
	})
	m.async = true
}
