// Package api is the wire contract between HXEN's service and its clients:
// XenAPI's classes, records, methods, events and error codes, carried as
// JSON-RPC 2.0 over HTTP on the local socket, and what the desktop needs beyond
// them through XenAPI's own extension points (host.call_plugin, other_config,
// HTTP handlers). It imports nothing but the standard library and knows neither
// server nor client.
//
// Source: the Xen project's XenAPI data model (xen-api, ocaml/idl) and wire
// protocol document.
package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Ref names an object: "OpaqueRef:" and its uuid, stable for its life.
type Ref string

// NullRef refers to nothing.
const NullRef Ref = "OpaqueRef:NULL"

const refPrefix = "OpaqueRef:"

// RefOf returns the reference of the object with this uuid.
func RefOf(uuid string) Ref {
	if uuid == "" {
		return NullRef
	}
	return Ref(refPrefix + uuid)
}

// UUID returns the uuid in r, empty for NullRef and what is not a reference.
func (r Ref) UUID() string {
	if r == NullRef || !strings.HasPrefix(string(r), refPrefix) {
		return ""
	}
	return string(r[len(refPrefix):])
}

// IsNull reports whether r refers to nothing; the zero Ref does.
func (r Ref) IsNull() bool { return r == NullRef || r == "" }

// MarshalJSON writes the zero Ref as NullRef: no client expects an empty one.
func (r Ref) MarshalJSON() ([]byte, error) {
	if r == "" {
		r = NullRef
	}
	return json.Marshal(string(r))
}

// Time travels as XenAPI's dateTime.iso8601, "20260102T15:04:05Z", in UTC.
type Time struct{ time.Time }

const timeForm = "20060102T15:04:05Z"

// MarshalJSON writes the zero time as XenAPI's epoch.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte(`"19700101T00:00:00Z"`), nil
	}
	return json.Marshal(t.UTC().Format(timeForm))
}

// UnmarshalJSON accepts what MarshalJSON writes; the epoch is the zero time.
func (t *Time) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.Parse(timeForm, s)
	if err != nil {
		return fmt.Errorf("read time %q: %w", s, err)
	}
	if v.Unix() == 0 {
		v = time.Time{}
	}
	t.Time = v
	return nil
}

// Request is a JSON-RPC 2.0 call with positional parameters. The first
// parameter of every method but session.login_* is the session's Ref.
type Request struct {
	Version string            `json:"jsonrpc"`
	Method  string            `json:"method"`
	Params  []json.RawMessage `json:"params"`
	ID      json.RawMessage   `json:"id"`
}

// Response is the answer; exactly one of Result and Error is set.
type Response struct {
	Version string          `json:"jsonrpc"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *WireError      `json:"error,omitempty"`
	ID      json.RawMessage `json:"id"`
}

// WireError is XenAPI's form of JSON-RPC 2.0's error: code 1, the message is the
// error code and data its parameters.
type WireError struct {
	Code    int      `json:"code"`
	Message string   `json:"message"`
	Data    []string `json:"data"`
}

// ContentType is the exact header of answers: one client in the field falls
// back to XML-RPC when it sees a charset.
const ContentType = "application/json"

// HTTP paths.
const (
	PathRPC      = "/jsonrpc"
	PathConsole  = "/console"     // CONNECT ?ref=CONSOLE: raw bytes of the console (RFB, or a terminal for vt100)
	PathSnapshot = "/vncsnapshot" // GET ?uuid=VM: the screen as PNG
)

// SessionHeader carries the session's Ref on HTTP handlers (XenAPI takes it as
// a cookie or query parameter session_id as well).
const SessionHeader = "Session-Id"

// Error codes, XenAPI's own. The parameters are in the comments.
const (
	ErrInternal               = "INTERNAL_ERROR"                   // text
	ErrMethodUnknown          = "MESSAGE_METHOD_UNKNOWN"           // method
	ErrParameterCount         = "MESSAGE_PARAMETER_COUNT_MISMATCH" // method, expected, received
	ErrFieldType              = "FIELD_TYPE_ERROR"                 // field
	ErrHandleInvalid          = "HANDLE_INVALID"                   // class, ref
	ErrUUIDInvalid            = "UUID_INVALID"                     // class, uuid
	ErrSessionInvalid         = "SESSION_INVALID"                  // ref
	ErrAuthFailed             = "SESSION_AUTHENTICATION_FAILED"
	ErrPermissionDenied       = "PERMISSION_DENIED"                 // text
	ErrVMBadPowerState        = "VM_BAD_POWER_STATE"                // ref, expected, actual
	ErrDeviceAttached         = "DEVICE_ALREADY_ATTACHED"           // VBD or VIF
	ErrDeviceDetached         = "DEVICE_ALREADY_DETACHED"           // likewise
	ErrVMIsTemplate           = "VM_IS_TEMPLATE"                    // vm, operation
	ErrOperationNotAllowed    = "OPERATION_NOT_ALLOWED"             // text
	ErrOtherOperation         = "OTHER_OPERATION_IN_PROGRESS"       // class, ref
	ErrHostNotEnoughMemory    = "HOST_NOT_ENOUGH_FREE_MEMORY"       // needed, available (bytes)
	ErrSRFull                 = "SR_FULL"                           // requested, maximum (bytes)
	ErrVDINotAvailable        = "VDI_NOT_AVAILABLE"                 // ref
	ErrVDIInUse               = "VDI_IN_USE"                        // ref, operation
	ErrVDIMissing             = "VDI_MISSING"                       // SR ref, VDI ref
	ErrVBDIsEmpty             = "VBD_IS_EMPTY"                      // ref
	ErrVBDNotEmpty            = "VBD_NOT_EMPTY"                     // ref
	ErrVBDNotRemovable        = "VBD_NOT_REMOVABLE_MEDIA"           // ref
	ErrVMShutdownTimeout      = "VM_SHUTDOWN_TIMEOUT"               // ref, timeout (s)
	ErrVMFailedShutdownAck    = "VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT" // ref
	ErrEventsLost             = "EVENTS_LOST"
	ErrEventFromTokenParse    = "EVENT_FROM_TOKEN_PARSE_FAILURE"   // token
	ErrEventSubscriptionParse = "EVENT_SUBSCRIPTION_PARSE_FAILURE" // subscription
	ErrTaskCancelled          = "TASK_CANCELLED"                   // task ref
	ErrDuplicateKey           = "MAP_DUPLICATE_KEY"                // class, field, ref, key
	ErrValueNotSupported      = "VALUE_NOT_SUPPORTED"              // field, value, reason
	ErrUnknownPlugin          = "XENAPI_MISSING_PLUGIN"            // plugin
	ErrPluginFailure          = "XENAPI_PLUGIN_FAILURE"            // function, kind, text
)

// HXEN's own error codes, for what XenAPI has no words for. The parameters are
// always: stage, what failed and why, what to do (may be empty).
const (
	ErrStartFailed = "HXEN_START_FAILED" // ref first, then the three
	ErrRefused     = "HXEN_REFUSED"      // a request that cannot be: bad media, bad name, ...
	// ErrNoAccelerator is ErrStartFailed for a guest whose type needs an accelerator
	// that cannot be used; a fifth parameter is the type as which it can be run here
	// (FnRetype), empty if there is none.
	ErrNoAccelerator = "HXEN_NO_ACCELERATOR"
)

// Error is a failed call as a Go error.
type Error struct {
	Code   string
	Params []string
}

// NewError makes an Error.
func NewError(code string, params ...string) *Error { return &Error{Code: code, Params: params} }

// Error says it in words for a person.
func (e *Error) Error() string {
	p := func(i int) string {
		if i < len(e.Params) {
			return e.Params[i]
		}
		return ""
	}
	switch e.Code {
	case ErrStartFailed, ErrNoAccelerator:
		return withCure("cannot start: "+withStage(p(1), p(2)), p(3))
	case ErrRefused:
		return withCure(withStage(p(0), p(1)), p(2))
	case ErrInternal, ErrPermissionDenied, ErrOperationNotAllowed:
		return p(0)
	case ErrVMBadPowerState:
		return fmt.Sprintf("the guest is %s; this needs it to be %s", strings.ToLower(p(2)), strings.ToLower(p(1)))
	case ErrOtherOperation:
		return "another operation on the same guest has not ended yet; wait for it or cancel it"
	case ErrHandleInvalid:
		return "there is no such " + p(0) + " (any more)"
	case ErrUUIDInvalid:
		return fmt.Sprintf("there is no %s with uuid %s", p(0), p(1))
	case ErrVMShutdownTimeout:
		return fmt.Sprintf("the guest did not shut down within %s s; try again, or power it off", p(1))
	case ErrHostNotEnoughMemory:
		return fmt.Sprintf("the guest needs %s of memory and this computer has %s free; close programs or other guests, or give the guest less memory", mebibytes(p(0)), mebibytes(p(1)))
	case ErrVDIInUse:
		return "the image is in use by a guest; eject or detach it first"
	case ErrVBDIsEmpty:
		return "the drive is empty already"
	case ErrVBDNotEmpty:
		return "there is something in the drive; eject it first"
	case ErrVBDNotRemovable:
		return "this is a disk, not a CD drive"
	case ErrValueNotSupported:
		return fmt.Sprintf("%s cannot be %q: %s", p(0), p(1), p(2))
	case ErrTaskCancelled:
		return "cancelled"
	case ErrPluginFailure:
		return p(2)
	}
	if len(e.Params) == 0 {
		return e.Code
	}
	return e.Code + ": " + strings.Join(e.Params, ", ")
}

// mebibytes writes a number of bytes for a person.
func mebibytes(bytes string) string {
	n, err := strconv.ParseUint(bytes, 10, 64)
	if err != nil {
		return bytes + " bytes"
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// Why is the reason without the stage and the cure, Stage the failing stage of a
// start, and Cure what to do; each is empty if it was not told.
func (e *Error) Why() string   { return e.part(2, 1) }
func (e *Error) Stage() string { return e.part(1, 0) }
func (e *Error) Cure() string  { return e.part(3, 2) }

// RunAs is the type as which a guest that cannot be started can be run here;
// empty if there is none.
func (e *Error) RunAs() string {
	if e.Code == ErrNoAccelerator && len(e.Params) > 4 {
		return e.Params[4]
	}
	return ""
}

func (e *Error) part(start, refused int) string {
	i := -1
	switch e.Code {
	case ErrStartFailed, ErrNoAccelerator:
		i = start
	case ErrRefused:
		i = refused
	}
	if i < 0 || i >= len(e.Params) {
		return ""
	}
	return e.Params[i]
}

func withStage(stage, text string) string {
	if stage == "" {
		return text
	}
	return stage + ": " + text
}

func withCure(text, cure string) string {
	if cure == "" {
		return text
	}
	return text + "; " + cure
}
