package node

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/config"
)

// A reader gets what Envoy says, word for word, or learns why not; never a part
// that looks like the whole.
func TestTheConfigDumpIsEnvoysOrAnError(t *testing.T) {
	for _, c := range []struct {
		name    string
		envoy   http.HandlerFunc
		refused string
		length  int // of what is read before the end, if all is well
		broken  bool
	}{
		{name: "whole", envoy: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/config_dump" || !r.URL.Query().Has("include_eds") {
				t.Errorf("Envoy is asked for %s", r.URL)
			}
			io.WriteString(w, `{"configs": []}`)
		}, length: 15},
		{name: "refused", envoy: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not today", 500) },
			refused: "the Envoy of sg-1: ADDRESS: answers 500: not today"},
		{name: "late", envoy: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			refused: "the Envoy of sg-1: ADDRESS has not answered within 2s"},
		{name: "broken off", envoy: func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, strings.Repeat(" ", 1<<20))
			panic(http.ErrAbortHandler)
		}, broken: true},
		{name: "too long", envoy: func(w http.ResponseWriter, _ *http.Request) {
			for range dumpMax>>20 + 1 {
				io.WriteString(w, strings.Repeat(" ", 1<<20))
			}
		}, broken: true},
		{name: "not there", refused: "the Envoy of sg-1: ADDRESS: cannot be reached: connect: connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			envoy := httptest.NewServer(c.envoy)
			defer envoy.Close()
			if c.envoy == nil {
				envoy.Close()
			}
			address := envoy.Listener.Addr().String()
			n := &Node{cfg: &config.Node{Node: "sg-1", Envoy: config.Envoy{Admin: address}}}
			agent := httptest.NewServer(http.HandlerFunc(n.configDump))
			defer agent.Close()
			page, err := admin.Client{Address: agent.URL}.Open(t.Context(), "/api/v1/envoy/config_dump", nil)
			if c.refused != "" {
				var refused *admin.RefusedError
				if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable {
					t.Fatalf("the answer is %v", err)
				}
				want(t, strings.ReplaceAll(refused.Text, address, "ADDRESS"), c.refused)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer page.Close()
			text, err := io.ReadAll(page)
			if c.broken && err == nil || !c.broken && (err != nil || len(text) != c.length) {
				t.Errorf("read %d bytes, then %v", len(text), err)
			}
		})
	}
}
