package hostsvc

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/sys/windows/svc/eventlog"
)

// OwnLog reports whether the service manager keeps a log.
func OwnLog() bool { return true }

// Event numbers of the messages.
const (
	eventWarning = 2
	eventError   = 3
)

// eventHandler writes what an administrator should see into the event log.
type eventHandler struct {
	log   *eventlog.Log
	attrs []slog.Attr
}

// EventLog returns a handler for warnings and errors; the service's file has the rest.
func EventLog(source string) (slog.Handler, error) {
	l, err := eventlog.Open(source)
	if err != nil {
		return nil, err
	}
	return eventHandler{log: l}, nil
}

func (h eventHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (h eventHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	add := func(a slog.Attr) bool {
		fmt.Fprintf(&b, "\n%s: %v", a.Key, a.Value)
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	if r.Level >= slog.LevelError {
		return h.log.Error(eventError, b.String())
	}
	return h.log.Warning(eventWarning, b.String())
}

func (h eventHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.attrs = append(append([]slog.Attr{}, h.attrs...), attrs...)
	return h
}

func (h eventHandler) WithGroup(string) slog.Handler { return h }
