package client

import (
	"context"
	"time"

	"github.com/hxen-project/hxen/app/api"
)

// Batch is what Watch tells at a time.
type Batch struct {
	// Connected is false when the service has just been lost, with Err saying why;
	// it has been found again with the next batch.
	Connected bool
	Err       error

	// Reset says that Events are all objects there are: forget all known before.
	Reset  bool
	Events []api.Event // in the order of the changes; see Decode
}

// redial bounds how long Watch waits before it looks for a lost service again.
const (
	redialFirst = 50 * time.Millisecond
	redialMost  = time.Second
)

// Watch tells about every change of the objects of some classes (api.ClassVM,
// ..., or api.AllClasses): first a Reset batch with all there are, then what
// changes. When the service goes away it says so, once, and looks for it until
// it is back; a restarted service begins with a Reset again. It calls tell from
// this goroutine only and returns when ctx ends, with its cause. It never starts
// a service; StartService does.
func (c *Client) Watch(ctx context.Context, classes []string, tell func(Batch)) error {
	token, lost, pause := "", false, redialFirst
	for ctx.Err() == nil {
		poll := pollTime
		if lost {
			poll = 0 // only to see whether it is back
		}
		b, err := c.from(ctx, classes, token, poll)
		switch {
		case ctx.Err() != nil:
		case IsCode(err, api.ErrEventsLost) && token != "", IsCode(err, api.ErrEventFromTokenParse) && token != "":
			token = "" // another epoch, or we were away for too long: begin anew
		case err != nil:
			if !lost {
				tell(Batch{Err: err})
			}
			lost = true
			wait(ctx, pause)
			pause = min(2*pause, redialMost)
		default:
			if token == "" || len(b.Events) > 0 || lost {
				tell(Batch{Connected: true, Reset: token == "", Events: b.Events})
			}
			token, lost, pause = b.Token, false, redialFirst
		}
	}
	return context.Cause(ctx)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
