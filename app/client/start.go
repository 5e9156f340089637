package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// ready is the line that a service prints when it answers.
const ready = "ready"

// StartService makes sure that the store's service runs, and logs in. It returns as
// soon as the service answers or has said why it cannot.
func (c *Client) StartService(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opt.Wait, fmt.Errorf("the service did not answer within %v; look into %s", c.opt.Wait, c.opt.Store.Log()))
	defer cancel()
	if _, err := c.relogin(ctx, c.currentOrNone()); !errors.Is(err, ErrNotRunning) {
		return err
	}
	said := c.launch(ctx)
	// Whatever was said: another client may have started a service at the same
	// moment, and then ours has ended because the store is served. It may not
	// listen yet, though; only then is there anything to wait for.
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		_, err := c.relogin(ctx, c.currentOrNone())
		switch {
		case err == nil:
			return nil
		case said != nil && ctx.Err() != nil:
			return said
		case !errors.Is(err, ErrNotRunning):
			return err
		case said != nil && !c.served():
			return said
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			if said != nil {
				return said
			}
			return fmt.Errorf("start HXEN's service: %w", context.Cause(ctx))
		}
	}
}

func (c *Client) currentOrNone() api.Ref {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// served reports whether some service holds the store.
func (c *Client) served() bool {
	held, err := proc.Held(c.opt.Store.Lock())
	return err == nil && held
}

// launch starts the service in a session of its own and waits for its one line.
func (c *Client) launch(ctx context.Context) error {
	program := c.opt.Service
	if program == "" {
		var err error
		if program, err = paths.Program("hxen"); err != nil {
			return fmt.Errorf("start HXEN's service: %w", err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start HXEN's service: %w", err)
	}
	env := append(os.Environ(), paths.HomeVar+"="+c.opt.Store.Root)
	_, err = proc.Start(proc.Command{Path: program, Args: []string{"service"}, Env: env, Stdout: w, Detach: true})
	w.Close()
	if err != nil {
		r.Close()
		return fmt.Errorf("start HXEN's service: %w", err)
	}
	line := make(chan string, 1)
	go func() {
		defer r.Close()
		s, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
		if s = strings.TrimSpace(s); s == "" && err != nil {
			s = "it ended without a word; look into " + c.opt.Store.Log()
		}
		line <- s
	}()
	select {
	case s := <-line:
		if s != ready {
			return fmt.Errorf("start HXEN's service: %s", s)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("start HXEN's service: %w", context.Cause(ctx))
	}
}
