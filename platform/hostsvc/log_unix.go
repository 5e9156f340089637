//go:build unix

package hostsvc

import (
	"log/slog"
	"os"
)

// OwnLog reports whether the service manager keeps a log of what the service
// writes to standard error: journald says so, systemd.exec(5).
func OwnLog() bool { return os.Getenv("JOURNAL_STREAM") != "" }

// EventLog is Windows' only.
func EventLog(string) (slog.Handler, error) { return nil, nil }
