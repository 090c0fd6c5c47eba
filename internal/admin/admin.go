// Package admin is the HTTP side door of every dmsc process: health, metrics
// and what it believes, as JSON. It reads immutable views only and can never
// hold up the loop of the process.
//
//	err := admin.Serve(ctx, listener, admin.Config{
//		Ready: func() []admin.Check { … },
//		JSON:  map[string]func() any{"/api/v1/status": func() any { return view.Load() }},
//	})
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one condition of readiness.
type Check struct {
	Name   string
	OK     bool
	Detail string // why not, or a figure
}

// Config says what to serve; nil fields serve nothing.
type Config struct {
	// Ready lists what must hold before the process is of use. /readyz answers
	// 200 when all do, else 503; with ?verbose it lists them.
	Ready func() []Check
	// Metrics is served at /metrics.
	Metrics *prometheus.Registry
	// JSON maps a path to what is served there as JSON, on GET.
	JSON map[string]func() any
}

// NewMetrics returns a registry with the Go and process metrics in it.
func NewMetrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Handler returns what Serve serves.
func Handler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		var checks []Check
		if cfg.Ready != nil {
			checks = cfg.Ready()
		}
		code := http.StatusOK
		for _, c := range checks {
			if !c.OK {
				code = http.StatusServiceUnavailable
			}
		}
		w.WriteHeader(code)
		if !r.URL.Query().Has("verbose") && code == http.StatusOK {
			fmt.Fprintln(w, "ok")
			return
		}
		for _, c := range checks {
			mark := "ok "
			if !c.OK {
				mark = "not"
			}
			fmt.Fprintf(w, "%s %s: %s\n", mark, c.Name, c.Detail)
		}
	})
	if cfg.Metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{}))
	}
	for path, view := range cfg.JSON {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			_ = enc.Encode(view())
		})
	}
	return mux
}

// Serve serves on l until ctx ends.
func Serve(ctx context.Context, l net.Listener, cfg Config) error {
	s := &http.Server{Handler: Handler(cfg), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve health: %w", err)
	case <-ctx.Done():
		s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}
