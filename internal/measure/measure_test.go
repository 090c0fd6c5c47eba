package measure

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func link(remote dmsc.NodeID, id dmsc.LinkID) Link {
	return Link{LinkKey: linkstate.LinkKey{Remote: remote, ID: id}, Class: dmsc.LAN}
}

// envoy stands for the probe listener of our Envoy.
type envoy struct {
	*httptest.Server
	connections atomic.Int32
	mu          sync.Mutex
	answer      http.HandlerFunc
}

func startEnvoy(t *testing.T, lis net.Listener, answer http.HandlerFunc) *envoy {
	t.Helper()
	e := &envoy{answer: answer}
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		h := e.answer
		e.mu.Unlock()
		h(w, r)
	}))
	e.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			e.connections.Add(1)
		}
	}
	if lis != nil {
		e.Listener.Close()
		e.Listener = lis
	}
	e.Start()
	t.Cleanup(e.Close)
	return e
}

func (e *envoy) set(answer http.HandlerFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func as(node string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("dmsc-node", node)
		w.Header().Set("dmsc-generation", "7")
	}
}

// startProber returns the results and a function that stops the Prober.
func startProber(t *testing.T, listener string, links ...Link) (*Prober, <-chan Result) {
	t.Helper()
	results := make(chan Result)
	ctx, cancel := context.WithCancel(t.Context())
	p := NewProber(ProberConfig{Listener: listener, OnResult: func(r Result) {
		select {
		case results <- r:
		case <-ctx.Done():
		}
	}})
	p.SetLinks(links)
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return p, results
}

func await(t *testing.T, results <-chan Result) Result {
	t.Helper()
	select {
	case r := <-results:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("no result in 10s")
		return Result{}
	}
}

func TestProbeAsksTheFarEndThroughOneConnectionThatStays(t *testing.T) {
	lis, err := net.Listen("unix", filepath.Join(t.TempDir(), "p.sock"))
	if err != nil {
		t.Fatal(err)
	}
	var paths sync.Map
	e := startEnvoy(t, lis, func(w http.ResponseWriter, r *http.Request) {
		paths.Store(r.URL.Path, true)
		as(strings.Split(r.URL.Path, "/")[1])(w, r)
	})
	_, results := startProber(t, "unix://"+lis.Addr().String(), link("sr-1", "0"), link("sr-1", "b"))
	seen := make(map[linkstate.LinkKey]int)
	for range 10 {
		r := await(t, results)
		if !r.OK || r.Peer != "sr-1" || r.Generation != "7" || r.RTT <= 0 {
			t.Fatalf("result = %+v, want an answer of sr-1", r)
		}
		if r.Cold != (seen[r.Link] == 0) {
			t.Errorf("result %d of %s: cold = %v, only the first is", seen[r.Link], r.Link, r.Cold)
		}
		seen[r.Link]++
	}
	if _, ok := paths.Load("/sr-1"); !ok {
		t.Error("link 0 was not asked for by /sr-1")
	}
	if _, ok := paths.Load("/sr-1/b"); !ok {
		t.Error("link b was not asked for by /sr-1/b")
	}
	if n := e.connections.Load(); n > 2 {
		t.Errorf("%d connections for two links, want one each at most", n)
	}
}

// A reply with another id is a failure, like a 404 of an Envoy without FIB, and
// like no Envoy at all.
func TestProbeFailsUnlessTheRightNodeAnswersOutOfItsFIB(t *testing.T) {
	e := startEnvoy(t, nil, as("sr-9"))
	_, results := startProber(t, e.Listener.Addr().String(), link("sr-1", "0"))
	if r := await(t, results); r.OK || r.Peer != "sr-9" || !strings.Contains(r.Err.Error(), "sr-9 answered") {
		t.Errorf("wrong node: %+v", r)
	}
	until := func(what string, ok func(Result) bool) {
		t.Helper()
		for range 100 {
			if ok(await(t, results)) {
				return
			}
		}
		t.Errorf("no result of 100 shows: %s", what)
	}
	e.set(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("dmsc-error", "starting")
		w.WriteHeader(http.StatusNotFound)
	})
	until("404 is a failure with its reason", func(r Result) bool {
		return !r.OK && !r.Refused && strings.Contains(fmt.Sprint(r.Err), "404 starting")
	})
	e.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	until("503 of our own Envoy is a refusal of the far one", func(r Result) bool { return !r.OK && r.Refused })
	e.set(func(http.ResponseWriter, *http.Request) {})
	until("an answer without node is a failure", func(r Result) bool { return !r.OK && strings.Contains(fmt.Sprint(r.Err), "without node") })
	e.set(as("sr-1"))
	until("and it recovers, cold first", func(r Result) bool { return r.OK && r.Cold })
	until("then warm", func(r Result) bool { return r.OK && !r.Cold })
	e.CloseClientConnections()
	e.Listener.Close()
	until("no listener is a failure, of our own Envoy", func(r Result) bool { return !r.OK && r.Err != nil && !r.Refused })
}

// An immediate probe does not wait for the regular one in flight.
func TestProbeNowOvertakesAStuckProbe(t *testing.T) {
	stuck, release := make(chan struct{}, 1), make(chan struct{})
	var asked atomic.Int32
	e := startEnvoy(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			stuck <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		as("sr-1")(w, r)
	})
	wan := link("sr-1", "0")
	wan.Class = dmsc.WAN // 1 s until the stuck one is given up
	p, results := startProber(t, e.Listener.Addr().String(), wan)
	<-stuck
	p.ProbeNow(linkstate.LinkKey{Remote: "sr-7", ID: "0"}) // not probed: ignored
	begun := time.Now()
	p.ProbeNow(wan.LinkKey)
	if r := await(t, results); !r.OK || time.Since(begun) > 900*time.Millisecond {
		t.Errorf("%+v after %v, want an answer before the stuck probe times out", r, time.Since(begun))
	}
	close(release)
}

// A link that falls silent is found out within two intervals and one timeout,
// in each class, and a silence costs no more than two regular probes in flight.
func TestThreeMissesTakeTwoIntervalsAndATimeout(t *testing.T) {
	for _, class := range []dmsc.LinkClass{dmsc.LAN, dmsc.Metro, dmsc.WAN} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var silent bool
			var first, third time.Time
			var misses, flying, most int
			sr1 := link("sr-1", "0")
			sr1.Class = class
			p := NewProber(ProberConfig{Listener: "127.0.0.1:1", OnResult: func(r Result) {
				mu.Lock()
				defer mu.Unlock()
				if r.OK {
					return
				}
				if misses++; misses == 3 {
					third = time.Now()
				}
			}})
			p.client = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				mu.Lock()
				quiet := silent
				if quiet && first.IsZero() {
					first = time.Now()
				}
				flying++
				most = max(most, flying)
				mu.Unlock()
				defer func() {
					mu.Lock()
					defer mu.Unlock()
					flying--
				}()
				if quiet {
					<-r.Context().Done()
					return nil, r.Context().Err()
				}
				w := httptest.NewRecorder()
				as("sr-1")(w, r)
				return w.Result(), nil
			})}
			p.SetLinks([]Link{sr1})
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() {
				if err := p.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(10*class.ProbeInterval() + class.ProbeInterval()/2)
			mu.Lock()
			silent = true
			mu.Unlock()
			time.Sleep(10 * class.ProbeTimeout())
			cancel()
			running.Wait()
			if got, want := third.Sub(first), 2*class.ProbeInterval()+class.ProbeTimeout(); got != want {
				t.Errorf("%s: the third miss comes after %v, want %v", class, got, want)
			}
			if most != inFlight {
				t.Errorf("%s: up to %d probes in flight, want %d", class, most, inFlight)
			}
		})
	}
}

// A connection that ends takes all probes in flight with it: that is one miss.
func TestAConnectionThatEndsIsOneRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var mu sync.Mutex
		var refusals []time.Duration
		p := NewProber(ProberConfig{Listener: "127.0.0.1:1", OnResult: func(r Result) {
			mu.Lock()
			defer mu.Unlock()
			if r.Refused {
				refusals = append(refusals, time.Since(begun))
			}
		}})
		// Everything is held up until a moment at which the connection ends, and
		// then refused at once.
		const ends = 120 * time.Millisecond
		p.client = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			time.Sleep(ends - time.Since(begun))
			w := httptest.NewRecorder()
			w.WriteHeader(http.StatusServiceUnavailable)
			return w.Result(), nil
		})}
		sr1 := link("sr-1", "0")
		sr1.Class = dmsc.LAN
		p.SetLinks([]Link{sr1})
		ctx, cancel := context.WithTimeout(t.Context(), 4*sr1.Class.ProbeInterval()+time.Millisecond)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
		// Three were in flight; the fourth and fifth are asked at 150 and 200 ms.
		if want := []time.Duration{ends, 150 * time.Millisecond, 200 * time.Millisecond}; !slices.Equal(refusals, want) {
			t.Errorf("refusals after %v, want %v", refusals, want)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Dead is not slow: the timeout follows the smoothed RTT, and never falls below
// that of the class.
func TestTimeoutIsAtLeastFourTimesTheSmoothedRTT(t *testing.T) {
	r := &prober{link: link("sr-1", "0")}
	if got := r.timeout(); got != dmsc.LAN.ProbeTimeout() {
		t.Errorf("timeout without RTT = %v, want that of the class", got)
	}
	answered := func(rtt time.Duration) { r.note(Result{OK: true, RTT: rtt}) }
	answered(time.Hour) // cold: left out
	for range 10 {
		answered(time.Millisecond)
	}
	if got := r.timeout(); got != dmsc.LAN.ProbeTimeout() {
		t.Errorf("timeout at 1ms = %v, want that of the class", got)
	}
	for range 100 {
		answered(80 * time.Millisecond)
	}
	if got := r.timeout(); got < 319*time.Millisecond || got > 320*time.Millisecond {
		t.Errorf("timeout at 80ms = %v, want 320ms", got)
	}
}

func TestSetLinksStopsWhatIsNoLongerNamed(t *testing.T) {
	e := startEnvoy(t, nil, func(w http.ResponseWriter, r *http.Request) { as(strings.Trim(r.URL.Path, "/"))(w, r) })
	p, results := startProber(t, e.Listener.Addr().String(), link("sr-1", "0"), link("sr-2", "0"))
	for seen := map[dmsc.NodeID]bool{}; len(seen) < 2; {
		seen[await(t, results).Link.Remote] = true
	}
	p.SetLinks([]Link{link("sr-2", "0"), link("sr-3", "0")})
	var late int
	for seen := map[dmsc.NodeID]int{}; seen["sr-3"] < 3; {
		r := await(t, results)
		seen[r.Link.Remote]++
		switch {
		case r.Link.Remote == "sr-1":
			late++
		case r.Link.Remote == "sr-2" && r.Cold:
			t.Error("the link that stayed was started anew")
		}
	}
	if late > inFlight+1 { // they may have been waiting to be told
		t.Errorf("%d results of a link that is no longer probed", late)
	}
}

func TestProbeSelfAsksForTheHello(t *testing.T) {
	e := startEnvoy(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("dmsc-service-prefix") != "dmsc/hello" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		as("sg-1")(w, r)
	})
	node, generation, err := ProbeSelf(t.Context(), e.Listener.Addr().String())
	if err != nil || node != "sg-1" || generation != "7" {
		t.Errorf("ProbeSelf = %q %q %v", node, generation, err)
	}
	e.Close()
	if _, _, err := ProbeSelf(t.Context(), e.Listener.Addr().String()); err == nil {
		t.Error("ProbeSelf of nobody succeeds")
	}
}

func TestWindowSummarisesTheLastSpan(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := Window{Span: time.Second}
	if got := w.Quality(at); got != (Quality{}) {
		t.Errorf("empty window = %+v", got)
	}
	w.Add(at, time.Hour, false) // older than the span in the end
	at = at.Add(time.Second)
	w.Add(at, time.Hour, true) // answered, and its time is left out
	for i := range 19 {
		w.Add(at, time.Duration(i+1)*time.Millisecond, false)
	}
	w.Add(at, 100*time.Millisecond, false)
	w.AddLost(at)
	want := Quality{Probes: 22, Lost: 1, Min: time.Millisecond, Median: 10 * time.Millisecond, P95: 19 * time.Millisecond, Jitter: 18 * time.Millisecond}
	if got := w.Quality(at.Add(time.Second - 1)); got != want {
		t.Errorf("window = %+v, want %+v", got, want)
	}
	if got := w.Quality(at.Add(time.Second)); got != (Quality{}) {
		t.Errorf("window after its span = %+v, want nothing", got)
	}
	w.AddLost(at)
	if got := w.Quality(at); got != (Quality{Probes: 1, Lost: 1}) {
		t.Errorf("window of one lost probe = %+v", got)
	}
}

// quantile is the least value that at least that share of the values do not
// exceed.
func TestQuantileAgainstItsDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		v := make([]time.Duration, 1+rng.IntN(40))
		for i := range v {
			v[i] = time.Duration(rng.IntN(20))
		}
		slices.Sort(v)
		for _, percent := range []int{50, 95, 100} {
			var want time.Duration
			for _, x := range v {
				n := 0
				for _, y := range v {
					if y <= x {
						n++
					}
				}
				if want = x; n*100 >= percent*len(v) {
					break
				}
			}
			if got := quantile(v, percent); got != want {
				t.Fatalf("quantile(%v, %d) = %d, want %d", v, percent, got, want)
			}
		}
	}
}

func TestTrafficIsTheDifferenceOfTwoReadings(t *testing.T) {
	stats := func(values map[string]uint64) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/stats" || r.URL.Query().Get("format") != "json" || r.URL.Query().Get("filter") != statFilter {
				t.Errorf("Envoy is asked %s", r.URL)
			}
			type stat struct {
				Name  string `json:"name"`
				Value uint64 `json:"value"`
			}
			var list []stat
			for k, v := range values {
				list = append(list, stat{"cluster." + k + "_bytes_total", v})
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"stats": list})
		}
	}
	const one, two, other = "dmsc/group/sr-1", "dmsc/group/sr-1+sr-2", "dmsc/local/a/1"
	sr1, sr2 := linkstate.LinkKey{Remote: "sr-1", ID: "0"}, linkstate.LinkKey{Remote: "sr-2", ID: "0"}
	e := startEnvoy(t, nil, stats(map[string]uint64{one + ".upstream_cx_tx": 100, one + ".upstream_cx_rx": 1000}))
	traffic := NewTraffic(e.Listener.Addr().String(), func(cluster string) []linkstate.LinkKey {
		return map[string][]linkstate.LinkKey{one: {sr1}, two: {sr1, sr2}}[cluster]
	})
	defer traffic.Close()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	check := func(what string, values map[string]uint64, want map[linkstate.LinkKey]Rate) {
		t.Helper()
		e.set(stats(values))
		at = at.Add(2 * time.Second)
		got, err := traffic.Read(t.Context(), at)
		if err != nil || len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v %v, want %v", what, got, err, want)
		}
	}
	tx, rx := ".upstream_cx_tx", ".upstream_cx_rx"
	check("first", map[string]uint64{one + tx: 100, one + rx: 1000, other + tx: 5}, nil)
	check("second, a cluster is new", map[string]uint64{one + tx: 1100, one + rx: 1000, two + tx: 400, other + tx: 5000}, map[linkstate.LinkKey]Rate{sr1: {4000, 0}})
	check("two next hops share", map[string]uint64{one + tx: 1100, one + rx: 1000, two + tx: 2400}, map[linkstate.LinkKey]Rate{sr1: {4000, 0}, sr2: {4000, 0}})
	check("Envoy restarted", map[string]uint64{one + tx: 10, one + rx: 2000, two + tx: 2400}, map[linkstate.LinkKey]Rate{sr1: {}, sr2: {}})
	e.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	if _, err := traffic.Read(t.Context(), at); err == nil {
		t.Error("status 500 is no error")
	}
}

func TestTargetsDetectThemselves(t *testing.T) {
	var mu sync.Mutex
	code, body := http.StatusOK, `{"in_flight": 4}`
	http1 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path != "/healthz" || r.Method != http.MethodGet {
			t.Errorf("the target is asked %s %s", r.Method, r.URL)
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}))
	defer http1.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()

	changes := make(chan Detection, 64)
	d := NewDetector(func(c Detection) { changes <- c })
	a := Target{dmsc.MustParsePrefix("a/1"), http1.Listener.Addr().String(), dmsc.HTTP1, "/healthz"}
	c := Target{dmsc.MustParsePrefix("c/1"), tcp.Addr().String(), dmsc.TCP, ""}
	silent := Target{dmsc.MustParsePrefix("b/1"), "127.0.0.1:1", dmsc.HTTP1, ""}
	d.SetTargets([]Target{a, silent, c})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer cancel()
	next := func() Detection {
		t.Helper()
		select {
		case c := <-changes:
			return c
		case <-time.After(10 * time.Second):
			t.Fatal("no detection in 10s")
			return Detection{}
		}
	}
	first := map[dmsc.ServicePrefix]Detection{}
	for range 2 {
		f := next()
		first[f.Prefix] = f
	}
	if f := first[a.Prefix]; !f.Healthy || f.InFlight != 4 {
		t.Errorf("a/1 = %+v, want healthy with 4 in flight", f)
	}
	if f := first[c.Prefix]; !f.Healthy {
		t.Errorf("c/1 = %+v, want healthy by connecting", f)
	}
	if got := d.Detections(); len(got) != 2 || got[0].Prefix != a.Prefix || got[1].Prefix != c.Prefix {
		t.Errorf("detections = %+v, want a/1 and c/1", got)
	}
	mu.Lock()
	code, body = http.StatusServiceUnavailable, "no json"
	mu.Unlock()
	if f := next(); f.Prefix != a.Prefix || f.Healthy || !strings.Contains(f.Err.Error(), "503") {
		t.Errorf("after the 503: %+v", f)
	}
	mu.Lock()
	code = http.StatusNotFound
	mu.Unlock()
	if f := next(); f.Prefix != a.Prefix || f.Healthy || !strings.Contains(f.Err.Error(), "404") {
		t.Errorf("after the 404: %+v", f)
	}
	mu.Lock()
	code = http.StatusNoContent
	mu.Unlock()
	if f := next(); f.Prefix != a.Prefix || !f.Healthy || f.InFlight != 0 {
		t.Errorf("after the 204: %+v", f)
	}
	d.SetTargets([]Target{c})
	if got := d.Detections(); len(got) != 1 || got[0].Prefix != c.Prefix {
		t.Errorf("detections = %+v, want c/1 alone", got)
	}
}

// The words are for people: which check, where, and what came of it. They stay as
// long as the cause does, so nothing in them differs from one try to the next.
func TestAFailingCheckIsNamedWithItsAddress(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hangs":
			<-r.Context().Done()
		case "/ends":
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	there := s.Listener.Addr().String()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	d := NewDetector(nil)
	defer d.http1.CloseIdleConnections()
	defer d.http2.CloseIdleConnections()
	for _, c := range []struct {
		target Target
		want   string
	}{
		{Target{Address: there, HealthPath: "/healthz"}, "GET /healthz at " + there + ": it answers 404"},
		{Target{Address: there, HealthPath: "/ends"}, "GET /ends at " + there + ": EOF"},
		{Target{Address: there, HealthPath: "/hangs"}, "GET /hangs at " + there + ": no answer within 1s"},
		{Target{Address: nobody, HealthPath: "/healthz"}, "GET /healthz at " + nobody + ": connect: connection refused"},
		{Target{Address: nobody, Protocol: dmsc.GRPC, HealthPath: "/shop.Cart"}, "grpc.health.v1 /shop.Cart at " + nobody + ": connect: connection refused"},
		{Target{Address: nobody, Protocol: dmsc.TCP}, "connect at " + nobody + ": connect: connection refused"},
	} {
		if _, err := d.ask(t.Context(), c.target); fmt.Sprint(err) != c.want {
			t.Errorf("it says %q, want %q", fmt.Sprint(err), c.want)
		}
	}
}

func TestAProbeThatOutlivedItsLimitSaysNothingOfTheLink(t *testing.T) {
	const limit = 300 * time.Millisecond
	for took, want := range map[time.Duration]bool{limit: false, limit + 50*time.Millisecond: false, 2 * limit: false, 2 * time.Second: true} {
		if got := stalled(took, limit); got != want {
			t.Errorf("stalled(%v, %v) = %t", took, limit, got)
		}
	}
}
