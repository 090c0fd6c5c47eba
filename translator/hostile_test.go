package translator_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/translator"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	injectedv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/injected_resource/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/types/known/anypb"
)

// gateway starts sg-1, which delivers a/1 to handler.
func gateway(t *testing.T, handler http.HandlerFunc) (n *network, ingress string) {
	n = newNetwork(t, findEnvoy(t))
	n.serve(t, "pod", handler)
	n.start(t, n.expand(`
node: sg-1
addrs: {ingress: "{sg-1}", fabric: "{sg-1.fabric}", probe: "{sg-1.probe}"}
entries: [{prefix: a/1, local: true}]
services: [{prefix: a/1, address: "{pod}"}]
`))
	return n, n.states["sg-1"].Addrs.Ingress
}

// h2c is a client of its own connections, HTTP/2 from the first byte on.
func h2c(t *testing.T) *http.Transport {
	c := &http.Transport{Protocols: new(http.Protocols)}
	c.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func to(t *testing.T, ctx context.Context, ingress, prefix string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ingress, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("dmsc-service-prefix", prefix)
	return request
}

// Whoever sends too much, or too slowly, is told so, and learns nothing of the
// network by it: a dmsc-hop is for those who asked for one.
func TestHostileHeadersGetAClearAnswer(t *testing.T) {
	t.Parallel() // it takes 10 s
	n, ingress := gateway(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, len(r.Header)) })
	refused := func(t *testing.T, status int, header http.Header, body io.Reader, wantStatus int, code string) {
		t.Helper()
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		if status != wantStatus || header.Get("dmsc-error") != code+"; node=sg-1" || !strings.HasPrefix(string(text), "dmsc: ") {
			t.Errorf("got %d %v %q, want %d %s", status, header, text, wantStatus, code)
		}
		if hop := header["Dmsc-Hop"]; hop != nil {
			t.Errorf("dmsc-hop %q", hop)
		}
	}
	for name, fill := range map[string]func(http.Header){
		"large": func(h http.Header) { h.Set("x-large", strings.Repeat("x", 61<<10)) },
		"many": func(h http.Header) {
			for i := range 101 {
				h.Set(fmt.Sprintf("x-%d", i), "x")
			}
		},
	} {
		for proto, client := range map[string]http.RoundTripper{"h1": new(http.Transport), "h2": h2c(t)} {
			t.Run(name+" "+proto, func(t *testing.T) {
				request := to(t, t.Context(), ingress, "a/1")
				fill(request.Header)
				response, err := client.RoundTrip(request)
				var reset http2.StreamError
				if proto == "h2" && (errors.As(err, &reset) || err != nil && strings.Contains(err.Error(), "stream error")) {
					return // the codec never gives such a request to anybody who could answer
				}
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				refused(t, response.StatusCode, response.Header, response.Body, 431, "headers-too-large")
			})
		}
	}
	t.Run("slow", func(t *testing.T) {
		c, err := net.Dial("tcp", ingress)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET / HTTP/1.1\r\nhost: a\r\ndmsc-service-prefix: a/1\r\n")
		began, tick, done := time.Now(), time.NewTicker(500*time.Millisecond), make(chan struct{})
		go func() {
			for i := 0; ; i++ {
				select {
				case <-tick.C:
					fmt.Fprintf(c, "x-%d: slowly\r\n", i)
				case <-done:
					return
				}
			}
		}()
		defer close(done)
		c.SetReadDeadline(began.Add(20 * time.Second))
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, response.StatusCode, response.Header, response.Body, 408, "headers-timeout")
		if took := time.Since(began); took < 9*time.Second || took > 15*time.Second {
			t.Errorf("it took %v", took)
		}
	})
	if got := n.get(t, ingress, "/", "", "dmsc-service-prefix: a/1"); !strings.HasPrefix(got, "200") {
		t.Errorf("afterwards: %s", got)
	}
}

// A client that opens more streams than it may has the others refused, one by
// one; a second client does not notice.
func TestStreamsOfAClientAreBounded(t *testing.T) {
	hold := make(chan struct{})
	n, ingress := gateway(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("x-hold") != "" {
			<-hold
		}
	})
	defer close(hold)
	c, err := net.Dial("tcp", ingress)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprint(c, http2.ClientPreface)
	framer := http2.NewFramer(c, c)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a"}, {Name: ":path", Value: "/"},
		{Name: "dmsc-service-prefix", Value: "a/1"}, {Name: "x-hold", Value: "1"},
	}
	for i := range uint32(1010) {
		block.Reset()
		for _, f := range fields {
			if err := encoder.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true})
		if err != nil {
			t.Fatal(err)
		}
	}
	settings, refused := make(map[http2.SettingID]uint32), 0
	for refused < 10 {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("after %d refused streams: %v", refused, err)
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				frame.ForeachSetting(func(s http2.Setting) error { settings[s.ID] = s.Val; return nil })
			}
		case *http2.RSTStreamFrame:
			if refused++; frame.ErrCode != http2.ErrCodeRefusedStream {
				t.Errorf("stream %d ends with %v", frame.StreamID, frame.ErrCode)
			}
		case *http2.GoAwayFrame:
			t.Fatalf("GOAWAY %v %q", frame.ErrCode, frame.DebugData())
		}
	}
	if settings[http2.SettingMaxConcurrentStreams] != 1000 || settings[http2.SettingInitialWindowSize] != 256<<10 {
		t.Errorf("settings %v", settings)
	}
	if got := n.get(t, ingress, "/", "", "dmsc-service-prefix: a/1"); !strings.HasPrefix(got, "200") {
		t.Errorf("meanwhile: %s", got)
	}
}

// withResets gives a static configuration the bounds on resets that it would
// have by xDS; see Static.
func withResets(t *testing.T, resources translator.Resources) func(*bootstrapv3.Bootstrap) {
	manager := func(l *listenerv3.Listener) (*listenerv3.Filter, *hcmv3.HttpConnectionManager) {
		m := new(hcmv3.HttpConnectionManager)
		filter := l.FilterChains[0].Filters[0]
		if err := filter.GetTypedConfig().UnmarshalTo(m); err != nil {
			t.Fatal(err)
		}
		return filter, m
	}
	return func(boot *bootstrapv3.Bootstrap) {
		for _, l := range boot.StaticResources.Listeners {
			filter, m := manager(l)
			_, published := manager(resources.Listeners[l.Name])
			m.Http2ProtocolOptions = published.Http2ProtocolOptions
			if err := filter.GetTypedConfig().MarshalFrom(m); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// All requests from one node to the next share a connection. Clients that give
// up as many of theirs as they like must not have it closed.
func TestClientsThatGiveUpCutNobodyElse(t *testing.T) {
	n := newNetwork(t, findEnvoy(t))
	start := func(text string) { n.startAs(t, text, withResets(t, translate(t, parseScene(t, text)))) }
	var held atomic.Int64
	release := make(chan struct{})
	n.serve(t, "pod", func(w http.ResponseWriter, r *http.Request) {
		held.Add(1)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	start(n.expand(`
node: sg-2
addrs: {ingress: "{sg-2}", fabric: "{sg-2.fabric}", probe: "{sg-2.probe}"}
neighbours: [{link: sg-1, data: "{sg-1.fabric}"}]
entries: [{prefix: b/2, local: true}]
services: [{prefix: b/2, address: "{pod}"}]
`))
	start(n.expand(`
node: sg-1
addrs: {ingress: "{sg-1}", fabric: "{sg-1.fabric}", probe: "{sg-1.probe}"}
neighbours: [{link: sg-2, data: "{sg-2.fabric}"}]
entries: [{prefix: b/2, via: [sg-2]}]
`))
	ingress := n.states["sg-1"].Addrs.Ingress
	reached := func(want int64) {
		t.Helper()
		for late := time.Now().Add(20 * time.Second); held.Load() < want; time.Sleep(time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("%d of %d requests have reached the pod", held.Load(), want)
			}
		}
	}
	bystander := make(chan string, 1)
	go func() { bystander <- n.get(t, ingress, "/", "", "dmsc-service-prefix: b/2") }()
	reached(1)
	const rounds, each = 12, 150
	for i := range int64(rounds) {
		client := h2c(t)
		ctx, giveUp := context.WithCancel(t.Context())
		var requests sync.WaitGroup
		for range each {
			requests.Go(func() {
				if response, err := client.RoundTrip(to(t, ctx, ingress, "b/2")); err == nil {
					response.Body.Close()
				}
			})
		}
		reached(1 + (i+1)*each)
		giveUp()
		requests.Wait()
	}
	close(release)
	if got := <-bystander; !strings.HasPrefix(got, "200") {
		t.Errorf("the request of somebody else: %s", got)
	}
	if got := n.stats(t, "sg-2")["http.dmsc_fabric.downstream_cx_total"]; got != 1 {
		t.Errorf("%d connections from sg-1 to sg-2, want 1", got)
	}
}

// A pod that reads nothing of a large request costs its gateway a bounded
// amount of memory, and gets all of it in the end.
func TestABodyThatNobodyReadsDoesNotPileUp(t *testing.T) {
	const size, bound = 128 << 20, 8 << 20
	read := make(chan struct{}) // once for each request
	n, ingress := gateway(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			<-read
			got, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, got)
		}
	})
	for proto, client := range map[string]http.RoundTripper{"h1": new(http.Transport), "h2": h2c(t)} {
		before := n.allocated(t, "sg-1")
		body := &counted{left: size}
		request := to(t, t.Context(), ingress, "a/1")
		request.Method, request.Body, request.ContentLength = http.MethodPost, body, size
		answer := make(chan string, 1)
		go func() {
			response, err := client.RoundTrip(request)
			if err != nil {
				answer <- err.Error()
				return
			}
			defer response.Body.Close()
			text, _ := io.ReadAll(response.Body)
			answer <- fmt.Sprint(response.StatusCode, " ", string(text))
		}()
		// Until it stands still for a second: a machine that is busy pauses, too.
		for last, still := int64(0), 0; still < 5; time.Sleep(200 * time.Millisecond) {
			if sent := body.sent.Load(); sent == last && sent > 0 {
				still++
			} else {
				last, still = sent, 0
			}
		}
		if sent := body.sent.Load(); sent > size/2 {
			t.Errorf("%s: the client has got rid of %d of %d bytes that nobody reads", proto, sent, size)
		}
		grown := n.allocated(t, "sg-1") - before
		t.Logf("%s: stands still after %d KiB, Envoy has grown by %d KiB", proto, body.sent.Load()>>10, grown>>10)
		if grown > bound {
			t.Errorf("%s: Envoy keeps %d bytes, more than %d", proto, grown, bound)
		}
		read <- struct{}{}
		if got, want := <-answer, fmt.Sprint("200 ", size); got != want {
			t.Errorf("%s: %s, want %s", proto, got, want)
		}
	}
}

// allocated is what a node's Envoy has on its heap, in bytes.
func (n *network) allocated(t *testing.T, node string) int {
	t.Helper()
	var memory struct {
		Allocated int `json:"allocated,string"`
	}
	if err := json.Unmarshal(n.ask(t, node, "/memory"), &memory); err != nil {
		t.Fatal(err)
	}
	return memory.Allocated
}

// counted gives zeros and counts them.
type counted struct {
	left int
	sent atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := min(len(b), c.left)
	clear(b[:n])
	c.left -= n
	c.sent.Add(int64(n))
	return n, nil
}

func (c *counted) Close() error { return nil }

// An Envoy short of memory says so to clients, and goes on forwarding for its
// neighbours, who would take it for dead otherwise.
func TestAnOverloadedEnvoyRefusesClientsAndServesNeighbours(t *testing.T) {
	n := newNetwork(t, findEnvoy(t))
	n.pod(t, pod{name: "pod"})
	dir := t.TempDir()
	press := func(share string) {
		t.Helper()
		temporary := filepath.Join(dir, "next")
		if err := errors.Join(os.WriteFile(temporary, []byte(share), 0o600), os.Rename(temporary, filepath.Join(dir, "pressure"))); err != nil {
			t.Fatal(err)
		}
	}
	press("0.1")
	n.startAs(t, n.expand(`
node: sg-1
addrs: {ingress: "{sg-1}", fabric: "{sg-1.fabric}", probe: "{sg-1.probe}"}
entries: [{prefix: a/1, local: true}]
services: [{prefix: a/1, address: "{pod}"}]
`), func(boot *bootstrapv3.Bootstrap) {
		// A file says how full the heap is.
		packed, err := anypb.New(&injectedv3.InjectedResourceConfig{Filename: filepath.Join(dir, "pressure")})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range boot.OverloadManager.ResourceMonitors {
			if m.Name == "envoy.resource_monitors.fixed_heap" {
				m.ConfigType = &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: packed}
			}
		}
	})
	addrs := n.states["sg-1"].Addrs
	const refusal = "503 dmsc-error=overloaded; node=sg-1\ndmsc: the Envoy of sg-1 is short of memory\n"
	answers := func(want func(string) bool) {
		t.Helper()
		for late := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			got := n.get(t, addrs.Ingress, "/", "", "dmsc-service-prefix: a/1")
			if want(got) {
				return
			}
			if time.Now().After(late) {
				t.Fatalf("the ingress answers %s", got)
			}
		}
	}
	served := func(got string) bool { return strings.HasPrefix(got, "200") }
	neighbours := func() {
		t.Helper()
		for range 10 {
			if got := n.get(t, addrs.Fabric, "/", "", "dmsc-service-prefix: dmsc/hello"); !served(got) {
				t.Errorf("hello: %s", got)
			}
			if got := n.get(t, addrs.Fabric, "/", "", "dmsc-service-prefix: a/1"); !served(got) {
				t.Errorf("a neighbour's request: %s", got)
			}
		}
	}
	answers(served)
	press("0.96")
	answers(func(got string) bool { return got == refusal })
	neighbours()
	press("0.99")
	answers(func(got string) bool { return !served(got) && got != refusal }) // closed at once
	neighbours()
	press("0.1")
	answers(served)
}
