package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// EnvoyConfig says how to run an Envoy.
type EnvoyConfig struct {
	Name      string
	Binary    string // from envoybin.Find
	Bootstrap string // file; its admin listens on the Unix socket Admin
	Admin     string
	Log       string        // file
	Drain     time.Duration // of listeners that go, in whole seconds; 0 is 30 s
	Args      []string      // added to the command line
}

// Envoy is a running Envoy and its admin interface.
type Envoy struct {
	*Process
	Admin
}

// StartEnvoy starts an Envoy with one worker and waits until it is live. ctx
// bounds the wait only.
func StartEnvoy(ctx context.Context, g *Group, c EnvoyConfig) (*Envoy, error) {
	e, err := LaunchEnvoy(g, c)
	if err != nil {
		return nil, err
	}
	return e, e.WaitLive(ctx)
}

// LaunchEnvoy is StartEnvoy without the wait, for Envoys that are to come up
// side by side or cannot be live before their xDS server is.
func LaunchEnvoy(g *Group, c EnvoyConfig) (*Envoy, error) {
	p, err := g.Start(Command{
		Name: c.Name, Path: c.Binary, Log: c.Log,
		Args: append([]string{"-c", c.Bootstrap, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning",
			"--drain-time-s", fmt.Sprint(int(cmp.Or(c.Drain, 30*time.Second).Seconds())), "--drain-strategy", "immediate"}, c.Args...),
	})
	if err != nil {
		return nil, err
	}
	return &Envoy{Process: p, Admin: adminAt(c.Admin)}, nil
}

// WaitLive waits until /ready says LIVE. When the process ends instead, the
// error has its last words.
func (e *Envoy) WaitLive(ctx context.Context) error {
	for {
		live, err := e.Ready(ctx)
		if live {
			return nil
		}
		select {
		case <-e.Done():
			return fmt.Errorf("%s ended before it was live: %w\n%s", e.Name, e.err, e.LogTail(10))
		case <-ctx.Done():
			return fmt.Errorf("%s is not live: %w (%v)\n%s", e.Name, ctx.Err(), err, e.LogTail(10))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Admin is the admin interface of an Envoy on a Unix socket.
type Admin struct{ client *http.Client }

// adminAt returns the admin interface at a Unix socket. Connections are not
// kept, so there is nothing to close.
func adminAt(socket string) Admin {
	return Admin{&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

// Get returns the body of GET path, for example "/clusters?format=json".
func (a Admin) Get(ctx context.Context, path string) ([]byte, error) {
	return a.do(ctx, http.MethodGet, path)
}

// Post orders what path says, for example "/runtime_modify?key=value".
func (a Admin) Post(ctx context.Context, path string) error {
	_, err := a.do(ctx, http.MethodPost, path)
	return err
}

func (a Admin) do(ctx context.Context, method, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("envoy admin: %s %s: %s: %.200s", method, path, resp.Status, body)
	}
	return body, err
}

// Ready reports whether the Envoy is live: its listeners are up.
func (a Admin) Ready(ctx context.Context) (bool, error) {
	_, err := a.Get(ctx, "/ready")
	return err == nil, err
}

// Counters returns counters and gauges whose name matches the regular
// expression, by name.
func (a Admin) Counters(ctx context.Context, filter string) (map[string]uint64, error) {
	body, err := a.Get(ctx, "/stats?format=json&filter="+url.QueryEscape(filter))
	if err != nil {
		return nil, err
	}
	var stats struct {
		Stats []struct {
			Name  string
			Value *uint64 // absent in the entry for histograms
		}
	}
	if err := json.Unmarshal(body, &stats); err != nil {
		return nil, fmt.Errorf("envoy admin: read stats: %w", err)
	}
	counters := make(map[string]uint64, len(stats.Stats))
	for _, s := range stats.Stats {
		if s.Value != nil {
			counters[s.Name] = *s.Value
		}
	}
	return counters, nil
}

// ConfigDump returns what the Envoy runs, endpoints included.
func (a Admin) ConfigDump(ctx context.Context) ([]byte, error) {
	return a.Get(ctx, "/config_dump?include_eds")
}
