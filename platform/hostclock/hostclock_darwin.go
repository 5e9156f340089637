package hostclock

import (
	"errors"
	"time"
)

// Slept is not known: no guest's clock here stands still with the host.
func Slept() time.Duration { return 0 }

// Watch is not needed yet.
func Watch() (<-chan struct{}, error) { return nil, errors.ErrUnsupported }
