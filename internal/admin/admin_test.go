package admin_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dmsc-mesh/dmsc/internal/admin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// get asks a handler and returns status and body.
func get(cfg admin.Config, target string) (int, string) {
	w := httptest.NewRecorder()
	admin.Handler(cfg).ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w.Code, w.Body.String()
}

func TestReadyIsAllOfItsChecks(t *testing.T) {
	checks := []admin.Check{{Name: "lsdb", OK: true, Detail: "3 records"}, {Name: "envoy", Detail: "no answer"}}
	ready := admin.Config{Ready: func() []admin.Check { return checks[:1] }}
	not := admin.Config{Ready: func() []admin.Check { return checks }}
	for _, c := range []struct {
		cfg    admin.Config
		target string
		code   int
		body   string
	}{
		{ready, "/livez", 200, "ok\n"},
		{not, "/livez", 200, "ok\n"}, // alive is not ready
		{ready, "/readyz", 200, "ok\n"},
		{ready, "/readyz?verbose", 200, "ok  lsdb: 3 records\n"},
		{not, "/readyz", 503, "ok  lsdb: 3 records\nnot envoy: no answer\n"}, // why not, unasked
		{not, "/readyz?verbose", 503, "ok  lsdb: 3 records\nnot envoy: no answer\n"},
		{admin.Config{}, "/readyz", 200, "ok\n"},
	} {
		if code, body := get(c.cfg, c.target); code != c.code || body != c.body {
			t.Errorf("%s answers %d %q, want %d %q", c.target, code, body, c.code, c.body)
		}
	}
}

func TestPagesAreJSONOfTheMoment(t *testing.T) {
	n := 0
	cfg := admin.Config{JSON: map[string]admin.Page{"/api/v1/status": admin.Whole(func() any { n++; return map[string]int{"asked": n} })}}
	for want := 1; want < 3; want++ {
		var got map[string]int
		if code, body := get(cfg, "/api/v1/status"); code != 200 || json.Unmarshal([]byte(body), &got) != nil || got["asked"] != want {
			t.Errorf("it answers %d %q", code, body)
		}
	}
	if code, _ := get(cfg, "/api/v1/other"); code != 404 {
		t.Errorf("an unknown page answers %d", code)
	}
	w := httptest.NewRecorder()
	admin.Handler(cfg).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/status", strings.NewReader("{}")))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("a POST answers %d; pages are read only", w.Code)
	}
}

func TestMetricsAreServedWhenThereAreAny(t *testing.T) {
	if code, body := get(admin.Config{Metrics: admin.NewMetrics()}, "/metrics"); code != 200 || !strings.Contains(body, "go_goroutines") || !strings.Contains(body, "process_") {
		t.Errorf("it answers %d %.80q", code, body)
	}
	if code, _ := get(admin.Config{}, "/metrics"); code != 404 {
		t.Errorf("without metrics it answers %d", code)
	}
}

// A reader that never finishes must not keep a process from ending.
func TestServeEndsWithItsContextWhoeverIsConnected(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- admin.Serve(ctx, l, admin.Config{}) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: x\r\n"); err != nil { // and no more
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Serve returns %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Serve goes on")
	}
}

func TestServeSaysWhyItCannot(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := admin.Serve(t.Context(), l, admin.Config{}); err == nil || !strings.HasPrefix(err.Error(), "serve health: ") {
		t.Errorf("Serve returns %v", err)
	}
}

func TestAListIsOneItemALineAndReadBackAsAnArray(t *testing.T) {
	list := func(n int) admin.Page {
		return func(url.Values) (any, error) {
			return admin.List(func(yield func(any) bool) {
				for i := range n {
					if !yield(map[string]int{"i": i}) {
						return
					}
				}
			}), nil
		}
	}
	cfg := admin.Config{JSON: map[string]admin.Page{"/none": list(0), "/two": list(2)}}
	for path, want := range map[string]string{"/none": "[]\n", "/two": "[\n{\"i\":0},\n{\"i\":1}\n]\n"} {
		if code, body := get(cfg, path); code != 200 || body != want {
			t.Errorf("%s answers %d %q", path, code, body)
		}
	}
}

// A newer client must not get the answer to another question.
func TestAPageRefusesParametersItDoesNotKnow(t *testing.T) {
	cfg := admin.Config{JSON: map[string]admin.Page{
		"/whole": admin.Whole(func() any { return 1 }),
		"/some":  func(q url.Values) (any, error) { return 1, admin.Known(q, "limit") },
	}}
	for path, want := range map[string]int{"/whole": 200, "/whole?x=1": 400, "/some?limit=1": 200, "/some?limit=1&origin=a": 400} {
		if code, body := get(cfg, path); code != want || code == 400 && !strings.Contains(body, "is not known here") {
			t.Errorf("%s answers %d %q", path, code, body)
		}
	}
}

// A database of 100,000 records takes a reader a second of a processor. Whoever
// waits for that processor, the loop of the process above all, waits for a few
// records only.
func TestALongListGivesWayToWhoeverWaits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var made atomic.Int64
	seen := make(chan int64, 1)
	list := admin.List(func(yield func(any) bool) {
		go func() { seen <- made.Load() }()
		for made.Add(1) < 1000 && yield("item") {
		}
	})
	cfg := admin.Config{JSON: map[string]admin.Page{"/list": func(url.Values) (any, error) { return list, nil }}}
	if code, _ := get(cfg, "/list"); code != 200 || made.Load() != 1000 {
		t.Fatalf("it answers %d with %d items", code, made.Load())
	}
	if n := <-seen; n > 100 {
		t.Errorf("who waits has its turn after %d items", n)
	}
}
