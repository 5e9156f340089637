// Package client is how HXEN's programs talk to its service: it finds the
// service of a store, starts it when asked to, logs in, calls its methods and
// watches its objects. It knows the API (app/api) and the local socket, nothing
// of guests' files, and shows nothing to anybody.
//
//	client.go  Open, Call
//	start.go   StartService: starting the service and waiting until it answers
//	task.go    Async calls, waiting for them, plugin functions
//	verbs.go   typed calls: List, Find, Start, Create, ...
//	stream.go  consoles and screenshots
//	watch.go   a snapshot of the objects, then every change, across restarts
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/platform/access"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
)

// ErrNotRunning says that no service answers for the store.
var ErrNotRunning = errors.New("HXEN's service is not running")

// Options say which service to talk to, and who talks.
type Options struct {
	Store   paths.Store
	NoStart bool          // do not start a service where none answers
	Program string        // who calls: "hxen", "hxen-desktop"
	Version string        // of the calling program
	Wait    time.Duration // how long a service may take to start; 30 s if 0

	// Service is the program that is started with the argument "service" and the
	// store in HXEN_HOME; the installed hxen if empty.
	Service string
}

// Client talks to one store's service. It is safe for concurrent use; calls go
// over connections of their own, so a long one holds up no other. It logs in
// again by itself after the service was restarted.
type Client struct {
	opt  Options
	http *http.Client

	login   sync.Mutex // one login at a time; taken before mu
	mu      sync.Mutex // guards the fields below
	session api.Ref
	host    api.Ref // the one host
}

// Open finds the store's service, starts it unless NoStart is set, and logs in.
func Open(ctx context.Context, o Options) (*Client, error) {
	if o.Wait == 0 {
		o.Wait = 30 * time.Second
	}
	c := &Client{opt: o}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     time.Minute,
	}}
	_, err := c.relogin(ctx, "")
	if errors.Is(err, ErrNotRunning) && !o.NoStart {
		err = c.StartService(ctx)
	}
	if err != nil {
		c.http.CloseIdleConnections()
		return nil, err
	}
	return c, nil
}

// Close logs out and lets the connections go.
func (c *Client) Close() error {
	c.mu.Lock()
	session := c.session
	c.session = ""
	c.mu.Unlock()
	defer c.http.CloseIdleConnections()
	if session == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	// A session that cannot be ended ends by itself.
	_ = c.post(ctx, "session.logout", nil, session)
	return nil
}

// lend makes the path of an image absolute. Where the service has an account of its
// own (Windows), it is allowed to use the file, which the user has named for it;
// that it could not be is told by the service, which then cannot read it.
func (c *Client) lend(path string, write bool) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", path, err)
	}
	if c.opt.Store.Owner() != "" {
		_ = access.Lend(abs, access.Service(), write)
	}
	return abs, nil
}

// Store is the store whose service this is.
func (c *Client) Store() paths.Store { return c.opt.Store }

// dial connects to whatever serves the store now.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	run, err := c.opt.Store.RunDir()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, c.notRunning()
	}
	if err != nil {
		return nil, err
	}
	nc, err := localsock.Dial(ctx, paths.Socket(run))
	if err != nil && localsock.Absent(err) {
		return nil, c.notRunning()
	}
	return nc, err
}

func (c *Client) notRunning() error {
	return fmt.Errorf("%w for %s: start it with `hxen service`", ErrNotRunning, c.opt.Store.Root)
}

// Call calls a method with positional parameters (the session is put first) and
// decodes its value into result, which may be nil. What the service refuses is
// an *api.Error; ErrNotRunning is in the chain when nobody answers.
func (c *Client) Call(ctx context.Context, method string, result any, params ...any) error {
	session, err := c.current(ctx)
	if err != nil {
		return err
	}
	err = c.post(ctx, method, result, append([]any{session}, params...)...)
	if !IsCode(err, api.ErrSessionInvalid) {
		return err
	}
	// The session has expired or is of a service that has gone: this one has not
	// looked at the call yet.
	if session, err = c.relogin(ctx, session); err != nil {
		return err
	}
	return c.post(ctx, method, result, append([]any{session}, params...)...)
}

// IsCode reports whether err is the API's error with this code.
func IsCode(err error, code string) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == code
}

func (c *Client) current(ctx context.Context) (api.Ref, error) {
	c.mu.Lock()
	session := c.session
	c.mu.Unlock()
	if session != "" {
		return session, nil
	}
	return c.relogin(ctx, "")
}

// relogin logs in unless somebody else already has since session was bad.
func (c *Client) relogin(ctx context.Context, bad api.Ref) (api.Ref, error) {
	c.login.Lock()
	defer c.login.Unlock()
	c.mu.Lock()
	session := c.session
	c.mu.Unlock()
	if session != "" && session != bad {
		return session, nil
	}
	// The kernel tells the service who we are; a password has no meaning here.
	err := c.post(ctx, "session.login_with_password", &session, "", "", c.opt.Version, c.opt.Program)
	if hungUp(err) {
		// It took the connection and died: nobody has seen the call.
		err = c.notRunning()
	}
	if err != nil {
		return "", fmt.Errorf("log in to HXEN's service: %w", err)
	}
	c.mu.Lock()
	c.session, c.host = session, ""
	c.mu.Unlock()
	return session, nil
}

// hungUp reports whether the other end is gone.
func hungUp(err error) bool {
	return localsock.Gone(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		// What net/http says, by no name of its own, when the end of a connection
		// is seen before the request was written.
		err != nil && strings.HasSuffix(err.Error(), "http: server closed idle connection")
}

// theHost returns the reference of the one host.
func (c *Client) theHost(ctx context.Context) (api.Ref, error) {
	c.mu.Lock()
	host := c.host
	c.mu.Unlock()
	if host != "" {
		return host, nil
	}
	var all []api.Ref
	if err := c.Call(ctx, "host.get_all", &all); err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "", errors.New("the service knows no host: it is not of HXEN, or of another version")
	}
	c.mu.Lock()
	c.host = all[0]
	c.mu.Unlock()
	return all[0], nil
}

// post makes one call and reads its answer.
func (c *Client) post(ctx context.Context, method string, result any, params ...any) error {
	body, err := json.Marshal(struct {
		Version string `json:"jsonrpc"`
		Method  string `json:"method"`
		Params  []any  `json:"params"`
		ID      int    `json:"id"`
	}{"2.0", method, params, 1})
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, baseURL+api.PathRPC, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	req.Header.Set("Content-Type", api.ContentType)
	resp, err := c.http.Do(req)
	if err != nil {
		return callError(ctx, method, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return callError(ctx, method, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("call %s: %w", method, statusError(resp.Status, raw))
	}
	var a api.Response
	if err := json.Unmarshal(raw, &a); err != nil {
		return fmt.Errorf("call %s: read the answer: %w", method, err)
	}
	if a.Error != nil {
		return &api.Error{Code: a.Error.Message, Params: a.Error.Data}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(a.Result, result); err != nil {
		return fmt.Errorf("call %s: read the answer: %w", method, err)
	}
	return nil
}

// baseURL is for HTTP's sake: the socket, not the name, says who answers.
const baseURL = "http://hxen"

// callError keeps what a caller branches on and drops the URL, which means
// nothing to a person.
func callError(ctx context.Context, method string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("call %s: %w", method, context.Cause(ctx))
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	if errors.Is(err, ErrNotRunning) {
		return err
	}
	return fmt.Errorf("call %s: the service does not answer: %w", method, err)
}

// statusError reads the error that an HTTP handler of the service answered.
func statusError(status string, body []byte) error {
	var e api.WireError
	if err := json.Unmarshal(body, &e); err == nil && e.Message != "" {
		return &api.Error{Code: e.Message, Params: e.Data}
	}
	return fmt.Errorf("the service answered %s: %s", status, bytes.TrimSpace(body))
}
