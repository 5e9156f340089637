package model_test

import (
	"context"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/model/modeltest"
)

// loop is the goroutine that owns the library in tests: the test's own.
type loop chan func()

func newLoop() loop { return make(loop, 1024) }

func (l loop) run(f func()) { l <- f }

// until turns the loop until ok; the time only guards against a hang.
func (l loop) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	guard := time.After(5 * time.Minute)
	for !ok() {
		select {
		case f := <-l:
			f()
		case <-guard:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// online is a library that watches s.
func online(t *testing.T, s *modeltest.Service) (*model.Library, loop) {
	t.Helper()
	turn := newLoop()
	lib := model.NewLibrary(s, turn.run)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); lib.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for {
			select {
			case <-turn:
			case <-done:
				return
			}
		}
	})
	turn.until(t, "the library is online and knows its host", func() bool {
		state, _ := lib.State()
		return state == model.Online && lib.Host() != nil
	})
	return lib, turn
}

func names(lib *model.Library) (out []string) {
	for _, vm := range lib.VMs() {
		out = append(out, vm.Name())
	}
	return out
}
