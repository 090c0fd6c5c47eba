package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Client reads the pages of one process.
type Client struct {
	// Address is host:port, a URL that begins with http:// or unix:///path.
	Address string
}

// Errors of a Client.
var (
	// ErrUnreachable: nobody answers there, or no dmsc does.
	ErrUnreachable = errors.New("cannot be reached")
	// ErrNoPage: somebody answers, and has no such page.
	ErrNoPage = errors.New("has no such page")
)

// RefusedError is an answer that says no: the status and its text.
type RefusedError struct {
	Status int
	Text   string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("answers %d: %s", e.Status, e.Text)
}

// Read decodes a page into v. The error wraps context.DeadlineExceeded if ctx
// ran out, ErrUnreachable, ErrNoPage or a RefusedError.
func (c Client) Read(ctx context.Context, path string, q url.Values, v any) error {
	return c.Do(ctx, http.MethodGet, path, q, v)
}

// Do is Read by another method.
func (c Client) Do(ctx context.Context, method, path string, q url.Values, v any) error {
	body, err := c.ask(ctx, method, path, q)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(v); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", c.Address, ctx.Err())
		}
		return fmt.Errorf("%s: %w: what it answers to %s is no page of ours: %w", c.Address, ErrUnreachable, path, err)
	}
	return nil
}

// Open returns a page as it is, to be closed; errors are those of Read.
func (c Client) Open(ctx context.Context, path string, q url.Values) (io.ReadCloser, error) {
	return c.ask(ctx, http.MethodGet, path, q)
}

func (c Client) ask(ctx context.Context, method, path string, q url.Values) (io.ReadCloser, error) {
	base, transport := c.transport()
	transport.DisableKeepAlives = true // one question, whose end closes the connection
	u := base + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", c.Address, ErrUnreachable, err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", c.Address, failure(ctx, err))
	case resp.StatusCode == http.StatusOK:
		return resp.Body, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s: %w: %s", c.Address, ErrNoPage, path)
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return nil, fmt.Errorf("%s: %w", c.Address, &RefusedError{resp.StatusCode, strings.TrimSpace(string(text))})
}

// transport returns the beginning of URLs and what carries them.
func (c Client) transport() (string, *http.Transport) {
	t := &http.Transport{} // no proxy, whatever the environment says
	path, unix := strings.CutPrefix(c.Address, "unix://")
	if unix {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return "http://dmsc", t
	}
	if strings.Contains(c.Address, "://") {
		return strings.TrimSuffix(c.Address, "/"), t
	}
	return "http://" + c.Address, t
}

// failure says in few words why nothing came back.
func failure(ctx context.Context, err error) error {
	var op *net.OpError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &op):
		return fmt.Errorf("%w: %w", ErrUnreachable, op.Err)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}
