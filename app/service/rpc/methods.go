package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/platform/localsock"
)

// Call is one call of a method: who calls, and the work it is.
type Call struct {
	Method  string
	Session api.Ref            // NullRef for a login
	Peer    localsock.PeerInfo // who is at the other end, told by the kernel
	Task    *Task              // never nil; clients see it for Async. calls only

	ctx     context.Context
	request context.Context // ends when the caller hangs up or logs out
}

// Context ends when the call is cancelled or the server gives up waiting for it
// in Shutdown. As in xapi, a caller that hangs up does not end a plain call.
func (c *Call) Context() context.Context { return c.ctx }

// method is a registered function, taken apart.
type method struct {
	name    string
	fn      reflect.Value
	params  []reflect.Type // after *Call
	min     int            // how many of params must be there
	self    *class         // class of the first parameter, if that is a reference which must exist
	result  bool           // fn returns a value before its error
	session bool           // the first parameter on the wire is the session
	async   bool           // may be called with Async.
}

var (
	callType  = reflect.TypeFor[*Call]()
	errorType = reflect.TypeFor[error]()
	refType   = reflect.TypeFor[api.Ref]()
	rawType   = reflect.TypeFor[json.RawMessage]()
)

// newMethod takes fn apart: func(*Call, parameters...) error or (T, error).
func newMethod(name string, fn any) *method {
	v := reflect.ValueOf(fn)
	t := v.Type()
	out := 0
	if t.Kind() == reflect.Func {
		out = t.NumOut()
	}
	if out < 1 || out > 2 || t.IsVariadic() || t.NumIn() < 1 || t.In(0) != callType || t.Out(out-1) != errorType {
		panic(fmt.Sprintf("rpc: %s is %v, not func(*Call, ...) error or (T, error)", name, t))
	}
	m := &method{name: name, fn: v, result: out == 2}
	for i := 1; i < t.NumIn(); i++ {
		m.params = append(m.params, t.In(i))
	}
	m.min = len(m.params)
	className, _, dot := strings.Cut(name, ".")
	if dot && len(m.params) > 0 && m.params[0] == refType {
		m.self = classes[className]
	}
	return m
}

// Register adds the method, "VM.start" for one: a function of *Call and the
// positional parameters, which are decoded to the function's types, that returns
// an error or a value and an error. Errors should be *api.Error; any other is an
// INTERNAL_ERROR. It can be called as Async. too. If the first parameter is an
// api.Ref it must be of an object of the method's class, or the caller is told
// HANDLE_INVALID. It may replace what the server brings along.
func (s *Server) Register(name string, fn any) {
	if old := s.methods[name]; old != nil && old.async {
		panic("rpc: " + name + " is registered twice")
	}
	m := newMethod(name, fn)
	m.session, m.async = true, true
	s.methods[name] = m
}

// builtin adds a quick method that the server brings along.
func (s *Server) builtin(name string, fn any) *method {
	m := newMethod(name, fn)
	m.session = true
	s.methods[name] = m
	return m
}

// public adds a method that needs no session; old clients leave the last two of
// its parameters out.
func (s *Server) public(name string, fn any) {
	m := newMethod(name, fn)
	m.min = max(0, len(m.params)-2)
	s.methods[name] = m
}

// call runs a method for a caller whose right to be here has been checked.
func (s *Server) call(request context.Context, peer localsock.PeerInfo, name string, params []json.RawMessage) (json.RawMessage, error) {
	plain, async := strings.CutPrefix(name, "Async.")
	m := s.methods[plain]
	if m == nil || async && !m.async {
		return nil, api.NewError(api.ErrMethodUnknown, name)
	}
	c := &Call{Method: name, Session: api.NullRef, Peer: peer, request: request}
	args, done, err := s.admit(c, m, params)
	if err != nil {
		return nil, err
	}
	defer done()
	if !s.enter() {
		return nil, api.NewError(api.ErrInternal, errStopping.Error()+"; try again in a moment")
	}
	c.Task, c.ctx = s.begin(name, c.Session, async)
	if !async {
		defer s.running.Done()
		defer c.Task.cancel(nil)
		result, err := s.run(m, c, args)
		if err != nil {
			return nil, err
		}
		return result, nil
	}
	go func() {
		defer s.running.Done()
		defer c.Task.cancel(nil)
		result, err := s.run(m, c, args)
		c.Task.end(c.ctx, result, err)
	}()
	return json.Marshal(c.Task.ref)
}

// admit checks the session and decodes the parameters. done lets go of the
// session when the answer has been found.
func (s *Server) admit(c *Call, m *method, params []json.RawMessage) (args []reflect.Value, done func(), err error) {
	own, first := params, 0
	done = func() {}
	if m.session {
		first = 1
		if len(params) > 0 {
			own = params[1:]
		}
	}
	if n := len(params) - first; n < m.min || n > len(m.params) {
		return nil, nil, api.NewError(api.ErrParameterCount, c.Method, strconv.Itoa(len(m.params)+first), strconv.Itoa(len(params)))
	}
	if m.session {
		if err := decode(params[0], reflect.ValueOf(&c.Session).Elem()); err != nil {
			return nil, nil, invalid("")
		}
		ss, err := s.session(c.Session)
		if err != nil {
			return nil, nil, err
		}
		c.request, done = joined(c.request, ss)
	}
	args = callArgs(c)
	for i, t := range m.params {
		v := reflect.New(t).Elem()
		if i < len(own) {
			if err := decode(own[i], v); err != nil {
				done()
				return nil, nil, api.NewError(api.ErrFieldType, fmt.Sprintf("parameter %d of %s: %v", first+i+1, c.Method, err))
			}
		}
		args = append(args, v)
	}
	if m.self != nil {
		if ref := api.Ref(args[1].String()); !s.db.Has(m.self.name, ref) {
			done()
			return nil, nil, api.NewError(api.ErrHandleInvalid, m.self.name, string(ref))
		}
	}
	return args, done, nil
}

// callArgs begins a method's arguments.
func callArgs(c *Call) []reflect.Value { return []reflect.Value{reflect.ValueOf(c)} }

// joined is ctx, but ended by the session's end too.
func joined(ctx context.Context, ss *session) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ss.ended, func() { cancel(context.Cause(ss.ended)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// decode reads one parameter. null is nothing that XenAPI has; whole numbers may
// come as decimal strings, as some clients send them.
func decode(raw json.RawMessage, into reflect.Value) error {
	text := strings.TrimSpace(string(raw))
	if text == "null" && into.Type() != rawType {
		return fmt.Errorf("it is null, not a %s", wireType(into.Type()))
	}
	if into.CanInt() && len(text) > 2 && text[0] == '"' {
		text = text[1 : len(text)-1]
		if _, err := strconv.ParseInt(text, 10, 64); err != nil {
			text = string(raw)
		}
	}
	if err := json.Unmarshal([]byte(text), into.Addr().Interface()); err != nil {
		var te *json.UnmarshalTypeError
		if errors.As(err, &te) {
			where := ""
			if te.Field != "" {
				where = te.Field + ": "
			}
			return fmt.Errorf("%sit is a %s, not a %s", where, te.Value, wireType(te.Type))
		}
		return err
	}
	return nil
}

// wireType names a Go type as XenAPI does.
func wireType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		if t == refType {
			return "ref"
		}
		return "string"
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint64:
		return "int"
	case reflect.Float64:
		return "float"
	case reflect.Slice:
		return "set"
	case reflect.Map:
		return "map"
	case reflect.Struct:
		return "record"
	}
	return t.Kind().String()
}

// run calls the function; a panic in it is an error like others.
func (s *Server) run(m *method, c *Call, args []reflect.Value) (result json.RawMessage, failed *api.Error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("method panicked", "method", c.Method, "panic", p, "stack", string(debug.Stack()))
			result, failed = nil, api.NewError(api.ErrInternal, fmt.Sprintf("%s failed by a defect of the service; see its log", c.Method))
		}
	}()
	out := m.fn.Call(args)
	if err, _ := out[len(out)-1].Interface().(error); err != nil {
		return nil, s.failure(c, err)
	}
	if !m.result {
		return json.RawMessage(`""`), nil // XenAPI's void
	}
	raw, err := encodeResult(out[0])
	if err != nil {
		return nil, s.failure(c, err)
	}
	return raw, nil
}

// encodeResult writes a method's value; no set or map is null.
func encodeResult(v reflect.Value) (json.RawMessage, error) {
	if raw, ok := v.Interface().(json.RawMessage); ok {
		return raw, nil
	}
	if k := v.Kind(); k == reflect.Slice && v.IsNil() {
		return json.RawMessage("[]"), nil
	} else if k == reflect.Map && v.IsNil() {
		return json.RawMessage("{}"), nil
	}
	return json.Marshal(v.Interface())
}

// failure turns what a method returned into what the caller is told.
func (s *Server) failure(c *Call, err error) *api.Error {
	var known *api.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(context.Cause(c.ctx), errCancelled):
		return api.NewError(api.ErrTaskCancelled, string(c.Task.ref))
	case c.request.Err() != nil && errors.Is(err, context.Cause(c.request)):
		return api.NewError(api.ErrInternal, "the caller has hung up") // nobody reads it
	}
	s.log.Warn("method failed", "method", c.Method, "error", err)
	return api.NewError(api.ErrInternal, err.Error())
}
