package api

import (
	"encoding/json"
	"strings"
)

// Event says that an object came, changed or went.
type Event struct {
	ID        int64           `json:"id"`
	Timestamp string          `json:"timestamp"` // always "0.0", as in xapi
	Class     string          `json:"class"`     // in lower case, as in xapi: "vm"; see Is
	Operation string          `json:"operation"` // EventAdd, EventMod, EventDel
	Ref       Ref             `json:"ref"`
	Snapshot  json.RawMessage `json:"snapshot,omitempty"` // the whole record; not for EventDel
}

// Event operations.
const (
	EventAdd = "add"
	EventMod = "mod"
	EventDel = "del"
)

// Is reports whether the event is about an object of the class (ClassVM, ...).
func (e Event) Is(class string) bool { return e.Class == WireClass(class) }

// WireClass is a class's name as events have it.
func WireClass(class string) string { return strings.ToLower(class) }

// EventBatch is the answer of event.from.
type EventBatch struct {
	Token          string           `json:"token"`
	Events         []Event          `json:"events"`
	ValidRefCounts map[string]int64 `json:"valid_ref_counts"` // class in lower case -> objects there are
}

// AllClasses stands for every class in event.from.
const AllClasses = "*"
