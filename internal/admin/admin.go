// Package admin is the HTTP side door of every dmsc process: health, metrics
// and what it believes, as JSON. It reads immutable views only and can never
// hold up the loop of the process.
//
//	err := admin.Serve(ctx, listener, admin.Config{
//		Ready: func() []admin.Check { … },
//		JSON:  map[string]admin.Page{"/api/v1/status": admin.Whole(func() any { return view.Load() })},
//	})
//
// and, from the other side,
//
//	err := admin.Client{Address: "127.0.0.1:17805"}.Read(ctx, "/api/v1/status", nil, &status)
package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
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
	JSON map[string]Page
	// Other maps a path to what is served there as it is, on GET.
	Other map[string]http.HandlerFunc
}

// Page returns what is to be served now, by the parameters of the question. A
// List is served item by item. An error is the asker's: it is answered 400.
type Page func(url.Values) (any, error)

// List is served as one JSON array, in which each item has a line of its own. It
// is made while it is read, so that a long one is never in memory as a whole.
type List iter.Seq[any]

// Whole is a page without parameters.
func Whole(view func() any) Page {
	return func(q url.Values) (any, error) { return view(), Known(q) }
}

// Known refuses parameters other than those a page knows: an agent that left one
// out would answer something else than what was asked.
func Known(q url.Values, names ...string) error {
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("the parameter %q is not known here", name)
		}
	}
	return nil
}

// readLimit is how long a reader may take for a page: what it is shown is kept
// in memory until it has it.
const readLimit = 2 * time.Minute

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
	for path, page := range cfg.JSON {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			v, err := page(r.URL.Query())
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			WriteJSON(w, v)
		})
	}
	for path, serve := range cfg.Other {
		mux.HandleFunc("GET "+path, serve)
	}
	return mux
}

// WriteJSON answers with v.
func WriteJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if list, ok := v.(List); ok {
		_ = list.write(w) // the reader has gone
		return
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v)
}

// itemsInARow are made before whatever else waits for a processor has its turn:
// some 0.2 ms. Without, a goroutine keeps it for 10 ms, and with several readers
// of a large database the loop of the process would wait for all of them.
const itemsInARow = 32

func (l List) write(w io.Writer) error {
	b := bufio.NewWriter(w)
	before, items := "[", 0
	for v := range l {
		if items++; items%itemsInARow == 0 {
			runtime.Gosched()
		}
		item, err := json.Marshal(v)
		if err != nil {
			return err
		}
		b.WriteString(before)
		b.WriteByte('\n')
		if _, err := b.Write(item); err != nil {
			return err
		}
		before = ","
	}
	if before == "[" {
		b.WriteString("[")
	} else {
		b.WriteByte('\n')
	}
	b.WriteString("]\n")
	return b.Flush()
}

// Serve serves on l until ctx ends.
func Serve(ctx context.Context, l net.Listener, cfg Config) error {
	return ServeHandler(ctx, l, Handler(cfg))
}

// ServeHandler is Serve for other pages than those.
func ServeHandler(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: readLimit, MaxHeaderBytes: 64 << 10}
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
