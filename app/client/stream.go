package client

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/hxen-project/hxen/app/api"
)

// ConsoleOf returns a guest's console of a protocol, api.ProtocolRFB or
// api.ProtocolVT100.
func (c *Client) ConsoleOf(ctx context.Context, vm api.Ref, protocol string) (api.Ref, error) {
	var consoles []api.Ref
	if err := c.Call(ctx, "VM.get_consoles", &consoles, vm); err != nil {
		return "", err
	}
	for _, ref := range consoles {
		var p string
		if err := c.Call(ctx, "console.get_protocol", &p, ref); err != nil {
			return "", err
		}
		if p == protocol {
			return ref, nil
		}
	}
	if protocol == api.ProtocolRFB {
		return "", api.NewError(api.ErrRefused, "screen", "the guest has no screen now", "start it, or give it a display in its settings")
	}
	return "", api.NewError(api.ErrRefused, "console", "the guest has no serial line now", "start it")
}

// Console opens a console: what comes back carries its raw bytes, RFB or a
// terminal's. ctx is for the opening only.
func (c *Client) Console(ctx context.Context, console api.Ref) (net.Conn, error) {
	session, err := c.current(ctx)
	if err != nil {
		return nil, err
	}
	nc, err := c.connect(ctx, console, session)
	if IsCode(err, api.ErrSessionInvalid) {
		if session, err = c.relogin(ctx, session); err == nil {
			nc, err = c.connect(ctx, console, session)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the console: %w", err)
	}
	return nc, nil
}

// connect makes one CONNECT request, by hand: net/http has it for proxies only.
func (c *Client) connect(ctx context.Context, console, session api.Ref) (net.Conn, error) {
	nc, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	r := bufio.NewReader(nc)
	err = func() error {
		_, err := fmt.Fprintf(nc, "CONNECT %s?ref=%s HTTP/1.1\r\nHost: hxen\r\n%s: %s\r\n\r\n",
			api.PathConsole, url.QueryEscape(string(console)), api.SessionHeader, session)
		if err != nil {
			return err
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
		if err != nil {
			return err
		}
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		body, _ := io.ReadAll(io.LimitReader(resp.Body, min(max(resp.ContentLength, 0), 64<<10)))
		return statusError(resp.Status, body)
	}()
	if !stop() { // ctx has ended and spoiled the deadline
		nc.Close()
		return nil, context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &bufferedConn{nc, r}, nil
}

// bufferedConn reads first what came together with the answer.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (b *bufferedConn) Read(p []byte) (int, error) {
	if b.r.Buffered() > 0 {
		return b.r.Read(p)
	}
	return b.Conn.Read(p)
}

// Screenshot returns a guest's screen as PNG.
func (c *Client) Screenshot(ctx context.Context, vm api.Ref) ([]byte, error) {
	session, err := c.current(ctx)
	if err != nil {
		return nil, err
	}
	png, err := c.get(ctx, api.PathSnapshot+"?uuid="+url.QueryEscape(vm.UUID()), session)
	if IsCode(err, api.ErrSessionInvalid) {
		if session, err = c.relogin(ctx, session); err == nil {
			png, err = c.get(ctx, api.PathSnapshot+"?uuid="+url.QueryEscape(vm.UUID()), session)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("take a picture of the screen: %w", err)
	}
	return png, nil
}

func (c *Client) get(ctx context.Context, path string, session api.Ref) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, baseURL+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(api.SessionHeader, string(session))
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, callError(ctx, path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, callError(ctx, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.Status, body)
	}
	return body, nil
}
