package translator_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// distance starts sg-1 → sr-1 → sg-2. Everything is delivered at sg-2, two hops
// away: h/1 by HTTP/1.1, g/1 by gRPC, t/1 as raw TCP.
// The pods have to be there before, or their first health check fails.
func (n *network) distance(t *testing.T) (ingress string) {
	n.start(t, n.expand(`
node: sg-2
addrs: {ingress: "{sg-2}", fabric: "{sg-2.fabric}", probe: "{sg-2.probe}"}
neighbours: [{link: sr-1, data: "{sr-1.fabric}"}]
entries: [{prefix: h/1, local: true}, {prefix: g/1, local: true, protocol: grpc}, {prefix: t/1, local: true, protocol: tcp}]
services: [{prefix: h/1, address: "{http}"}, {prefix: g/1, address: "{grpc}", protocol: grpc}, {prefix: t/1, address: "{tcp}", protocol: tcp}]
`))
	n.start(t, n.expand(`
node: sr-1
addrs: {fabric: "{sr-1.fabric}", probe: "{sr-1.probe}"}
neighbours: [{link: sg-1, data: "{sg-1.fabric}"}, {link: sg-2, data: "{sg-2.fabric}"}]
entries: [{prefix: h/1, via: [sg-2]}, {prefix: g/1, via: [sg-2], protocol: grpc}, {prefix: t/1, via: [sg-2], protocol: tcp}]
`))
	n.start(t, n.expand(`
node: sg-1
addrs: {ingress: "{sg-1}", fabric: "{sg-1.fabric}", probe: "{sg-1.probe}"}
neighbours: [{link: sr-1, data: "{sr-1.fabric}"}]
entries: [{prefix: h/1, via: [sr-1]}, {prefix: g/1, via: [sr-1], protocol: grpc}, {prefix: t/1, via: [sr-1], protocol: tcp}]
`))
	return n.states["sg-1"].Addrs.Ingress
}

// A large body arrives as it left, and so do trailers, both ways, also of
// HTTP/1.1 at both ends.
func TestBodiesAndTrailersPassTwoHops(t *testing.T) {
	n := newNetwork(t, findEnvoy(t))
	n.serve(t, "http", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		size, err := io.Copy(sum, r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Trailer", "x-sum")
		fmt.Fprint(w, size, " ", r.Proto, " ", r.Trailer.Get("x-end"))
		w.Header().Set("x-sum", hex.EncodeToString(sum.Sum(nil)))
	})
	ingress := n.distance(t)
	data := make([]byte, 32<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	want := sha256.Sum256(data)
	for proto, client := range map[string]http.RoundTripper{"HTTP/1.1": new(http.Transport), "HTTP/2": h2c(t)} {
		request := to(t, t.Context(), ingress, "h/1")
		request.Method, request.Body, request.ContentLength = http.MethodPost, io.NopCloser(bytes.NewReader(data)), -1
		request.Trailer = http.Header{"X-End": {"over"}}
		response, err := client.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(body), fmt.Sprint(len(data), " HTTP/1.1 over"); got != want {
			t.Errorf("%s: the pod has got %q, want %q", proto, got, want)
		}
		if got := response.Trailer.Get("x-sum"); got != hex.EncodeToString(want[:]) {
			t.Errorf("%s: trailer %q", proto, got)
		}
	}
}

// tunnel opens a CONNECT to t/1 on HTTP/2, which can end one direction.
func tunnel(t *testing.T, ingress string) (io.WriteCloser, io.ReadCloser) {
	t.Helper()
	in, out := io.Pipe()
	request := to(t, t.Context(), ingress, "t/1")
	request.Method, request.Body, request.Host = http.MethodConnect, in, "db.example:5432"
	response, err := h2c(t).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", response.StatusCode, response.Header.Get("dmsc-error"))
	}
	return out, response.Body
}

// 100 MB go through a tunnel in each direction, one after the end of the other:
// the end of one direction is passed on and does not end the other.
func TestATunnelEndsOneDirectionAtATime(t *testing.T) {
	const size = 100 << 20
	n := newNetwork(t, findEnvoy(t))
	n.accept(t, "tcp", func(c net.Conn) { // first everything in, until its end; then everything out
		got, err := io.Copy(io.Discard, c)
		if err != nil || got == 0 { // a health check
			return
		}
		fmt.Fprintf(c, "%d\n", got)
		io.Copy(c, io.LimitReader(zeros{}, size))
	})
	out, in := tunnel(t, n.distance(t))
	began := time.Now()
	if _, err := io.Copy(out, io.LimitReader(zeros{}, size)); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(in)
	line, err := reader.ReadString('\n')
	if err != nil || line != fmt.Sprintln(size) {
		t.Fatalf("the server has read %q of %d, %v", line, size, err)
	}
	if got, err := io.Copy(io.Discard, reader); err != nil || got != size {
		t.Errorf("%d of %d bytes came back, %v", got, size, err)
	}
	t.Logf("2 × 100 MiB in %v", time.Since(began).Round(time.Millisecond))
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// The deadline of a gRPC client holds over two hops, and its end reaches the
// server; streams, metadata and the status in the trailers pass.
func TestGRPCPassesTwoHops(t *testing.T) {
	n := newNetwork(t, findEnvoy(t))
	l, err := net.Listen("tcp", n.address("grpc"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan time.Duration, 1)
	server := grpc.NewServer(grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		began := time.Now()
		s.SetTrailer(metadata.Pairs("x-trailer", "1"))
		err := handler(srv, s)
		ended <- time.Since(began)
		return err
	}))
	checks := health.NewServer()
	checks.SetServingStatus("shop", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, checks)
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-served })

	c, err := grpc.NewClient(n.distance(t), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx := metadata.AppendToOutgoingContext(t.Context(), "dmsc-service-prefix", "g/1")
	client := healthpb.NewHealthClient(c)
	if got, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: "shop"}); err != nil || got.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("%v %v", got, err)
	}
	if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: "nobody"}); status.Code(err) != codes.NotFound {
		t.Errorf("the server's status arrives as %v", err)
	}
	lost := metadata.AppendToOutgoingContext(t.Context(), "dmsc-service-prefix", "g/2")
	if _, err := client.Check(lost, new(healthpb.HealthCheckRequest)); status.Convert(err).Message() != "dmsc: no route at sg-1" {
		t.Errorf("a refusal of ours arrives as %q", status.Convert(err).Message())
	}
	const deadline = 400 * time.Millisecond
	timed, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	stream, err := client.Watch(timed, &healthpb.HealthCheckRequest{Service: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING} {
		got, err := stream.Recv()
		if err != nil || got.Status != want {
			t.Fatalf("%v %v, want %v", got, err, want)
		}
		checks.SetServingStatus("shop", healthpb.HealthCheckResponse_NOT_SERVING)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the stream ends with %v", err)
	}
	if took := <-ended; took > 5*deadline {
		t.Errorf("the server heard of the deadline after %v", took)
	}
}

// Bytes of a WebSocket pass two hops both ways.
func TestAWebSocketPassesTwoHops(t *testing.T) {
	n := newNetwork(t, findEnvoy(t))
	n.serve(t, "http", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			t.Errorf("the pod is asked to upgrade to %q", r.Header.Get("Upgrade"))
		}
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		w.WriteHeader(http.StatusSwitchingProtocols)
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.Copy(c, buffered)
	})
	c, err := net.Dial("tcp", n.distance(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(c, "GET /ws HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: eA==\r\nsec-websocket-version: 13\r\ndmsc-service-prefix: h/1\r\n\r\n")
	reader := bufio.NewReader(c)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", response, err)
	}
	frame := []byte(strings.Repeat("frame", 20000))
	for range 10 {
		sent := make(chan error, 1)
		go func() { _, err := c.Write(frame); sent <- err }()
		back := make([]byte, len(frame))
		if _, err := io.ReadFull(reader, back); errors.Join(err, <-sent) != nil || !bytes.Equal(back, frame) {
			t.Fatalf("an echo differs: %v", err)
		}
	}
}

// Whoever asks for a WebSocket by an extended CONNECT takes any 2xx for a yes. A
// pod that takes no notice has not said it.
func TestAnUpgradeOverHTTP2IsNotAnsweredByAPlain200(t *testing.T) {
	n := newNetwork(t, findEnvoy(t))
	n.pod(t, pod{name: "http", refuse: http.StatusOK})
	ingress := n.distance(t)
	for _, node := range []string{ingress, n.states["sg-2"].Addrs.Ingress} {
		status, code := extendedConnect(t, node, "h/1")
		if status != "501" || code != "not-upgraded; node=sg-2" {
			t.Errorf("%s answers %s %s", node, status, code)
		}
	}
}

// extendedConnect asks for a WebSocket as net/http cannot, and returns the status
// and the dmsc-error of the answer.
func extendedConnect(t *testing.T, ingress, prefix string) (status, code string) {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", ingress)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":path", "/"}, {":authority", "pod"}, {"dmsc-service-prefix", prefix},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprint(c, http2.ClientPreface)
	framer := http2.NewFramer(c, c)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := errors.Join(framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if answer, ok := frame.(*http2.MetaHeadersFrame); ok {
			for _, f := range answer.RegularFields() {
				if f.Name == "dmsc-error" {
					code = f.Value
				}
			}
			return answer.PseudoValue("status"), code
		}
	}
}
