package toy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/dmsc-mesh/dmsc"
)

// Config says what the service is.
type Config struct {
	Listen   string       // host:port; port 0 takes a free one
	Listener net.Listener // instead of Listen
	Pod      string
	Prefix   string        // the service prefix it serves; only echoed
	Delay    time.Duration // before each answer but /healthz; 0 = none
	// Protocol: TCP echoes bytes; the others are the same server, in which
	// HTTP1 refuses HTTP/2 and hence gRPC.
	Protocol dmsc.Protocol
	// Ready is told the address once the service listens; may be nil.
	Ready func(net.Addr)
}

// Echo is the answer to a request.
type Echo struct {
	Pod       string              `json:"pod"`
	Prefix    string              `json:"prefix"`
	Method    string              `json:"method"`
	Path      string              `json:"path"` // with the query
	Protocol  string              `json:"protocol"`
	Headers   map[string][]string `json:"headers"` // host, and what starts with dmsc, x-envoy or x-forwarded
	BodyBytes int64               `json:"body_bytes"`
}

// Serve runs the service until ctx ends.
func Serve(ctx context.Context, c Config) error {
	l := c.Listener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", c.Listen); err != nil {
			return fmt.Errorf("toy service %s: %w", c.Prefix, err)
		}
	}
	if c.Ready != nil {
		c.Ready(l.Addr())
	}
	if c.Protocol == dmsc.TCP {
		return serveTCP(ctx, l)
	}
	calls := newGRPC(c)
	defer calls.Stop()
	server := &http.Server{
		Handler:           c.handler(calls),
		ReadHeaderTimeout: 10 * time.Second,
		Protocols:         new(http.Protocols),
		// Many requests share the one connection of the Envoy in front.
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000, MaxReceiveBufferPerStream: 1 << 20, MaxReceiveBufferPerConnection: 8 << 20},
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(c.Protocol != dmsc.HTTP1)
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("toy service %s: %w", c.Prefix, err)
	}
	return nil
}

func (c Config) handler(calls *grpc.Server) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "n is not a number of bytes", http.StatusBadRequest)
			return
		}
		c.mark(w, r)
		w.Header().Set("content-length", strconv.FormatInt(n, 10))
		_, _ = io.CopyN(w, zeros{}, n)
	})
	mux.HandleFunc("/sleep", func(w http.ResponseWriter, r *http.Request) {
		ms, err := strconv.Atoi(r.FormValue("ms"))
		if err != nil || ms < 0 {
			http.Error(w, "ms is not a number of milliseconds", http.StatusBadRequest)
			return
		}
		wait(r.Context(), time.Duration(ms)*time.Millisecond)
		c.echo(w, r)
	})
	mux.HandleFunc("/", c.echo)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			wait(r.Context(), c.Delay)
		}
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("content-type"), "application/grpc") {
			calls.ServeHTTP(w, r)
			return
		}
		// Not through the mux's cleaning redirect: the path is echoed as it came.
		if h, pattern := mux.Handler(r); pattern == "/" {
			c.echo(w, r)
		} else {
			h.ServeHTTP(w, r)
		}
	})
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// mark sets the headers that every answer carries.
func (c Config) mark(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("x-echo-via", strings.Join(r.Header.Values("dmsc-via"), ","))
	h.Set("x-echo-prefix", strings.Join(r.Header.Values("dmsc-service-prefix"), ","))
	h.Set("x-echo-pod", c.Pod)
}

func (c Config) echo(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, fmt.Sprintf("body ends after %d bytes: %v", n, err), http.StatusBadRequest)
		return
	}
	e := Echo{
		Pod: c.Pod, Prefix: c.Prefix, Method: r.Method, Path: r.URL.RequestURI(), Protocol: r.Proto,
		Headers: map[string][]string{"host": {r.Host}}, BodyBytes: n,
	}
	for name, values := range r.Header {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "dmsc") || strings.HasPrefix(name, "x-envoy") || strings.HasPrefix(name, "x-forwarded") {
			e.Headers[name] = values
		}
	}
	c.mark(w, r)
	w.Header().Set("content-type", "application/json")
	w.Header().Set("trailer", "x-echo-body-bytes")
	_ = json.NewEncoder(w).Encode(e)
	w.Header().Set("x-echo-body-bytes", strconv.FormatInt(n, 10))
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
