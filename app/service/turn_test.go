package service

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestTakeTurn: as many guests are launched at once as there are turns; the next one
// waits for one of them, for its own cancellation, or for as long as is bearable.
func TestTakeTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Service{launching: make(chan struct{}, 2)}
		take := func(ctx context.Context) (waited time.Duration, release func(), err error) {
			began := time.Now()
			stage := ""
			release, err = s.takeTurn(ctx, func(now string, _ float64) { stage = now })
			if (stage != "") != (time.Since(began) > 0) {
				t.Errorf("its task says %q after %v", stage, time.Since(began))
			}
			return time.Since(began), release, err
		}
		_, first, _ := take(t.Context())
		if waited, _, err := take(t.Context()); waited != 0 || err != nil {
			t.Errorf("with a turn free: %v, %v", waited, err)
		}
		time.AfterFunc(5*time.Second, first)
		if waited, _, err := take(t.Context()); waited != 5*time.Second || err != nil {
			t.Errorf("with a turn that comes free: %v, %v", waited, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if waited, _, err := take(ctx); waited != time.Second || !errors.Is(err, gone) {
			t.Errorf("cancelled: %v, %v", waited, err)
		}
		waited, late, err := take(t.Context())
		if waited != turnWait || err != nil {
			t.Errorf("with no turn: %v, %v", waited, err)
		}
		if late(); len(s.launching) != 2 {
			t.Errorf("who had no turn gave one back: %d are taken", len(s.launching))
		}
	})
}
