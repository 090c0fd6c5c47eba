package toy

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dmsc-mesh/dmsc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, protocol dmsc.Protocol) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, Config{Listener: l, Pod: "pod-1", Prefix: "a/1", Protocol: protocol}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// client speaks HTTP/1.1 or HTTP/2 without TLS.
func client(t *testing.T, http2 bool) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetUnencryptedHTTP2(http2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestBothHTTPsEchoTheRequest(t *testing.T) {
	addr := serve(t, dmsc.HTTP2)
	for _, http2 := range []bool{false, true} {
		const size = 64 << 20
		r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/x//y?z=1", io.LimitReader(zeros{}, size))
		r.Host = "shop.example"
		r.Header["Dmsc-Via"] = []string{"sg-1", "sr-1,sg-4"}
		r.Header.Set("dmsc-service-prefix", "a/1")
		r.Header.Set("authorization", "secret")
		resp, err := client(t, http2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var e Echo
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if e.Pod != "pod-1" || e.Prefix != "a/1" || e.Method != "POST" || e.Path != "/x//y?z=1" || e.BodyBytes != size || e.Headers["host"][0] != "shop.example" || len(e.Headers) != 3 {
			t.Errorf("http2=%v: %+v", http2, e)
		}
		if got := resp.Header.Get("x-echo-via"); got != "sg-1,sr-1,sg-4" {
			t.Errorf("via %q", got)
		}
		if got := resp.Trailer.Get("x-echo-body-bytes"); got != "67108864" {
			t.Errorf("trailer %q", got)
		}
	}
}

func TestBytesAndSleep(t *testing.T) {
	addr, c := serve(t, dmsc.HTTP1), client(t, false)
	for path, want := range map[string]int64{"/bytes?n=5000000": 5_000_000, "/healthz": 3} {
		resp, err := c.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if n != want {
			t.Errorf("%s: %d bytes", path, n)
		}
	}
	resp, err := c.Get("http://" + addr + "/sleep?ms=x")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 400 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestHTTP1PodSpeaksNoHTTP2(t *testing.T) {
	addr := serve(t, dmsc.HTTP1)
	if resp, err := client(t, true).Get("http://" + addr + "/"); err == nil {
		_ = resp.Body.Close()
		t.Error("it answered HTTP/2")
	}
}

func TestGRPCEchoesWithTrailers(t *testing.T) {
	conn, err := grpc.NewClient("passthrough:///"+serve(t, dmsc.GRPC), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "dmsc-via", "sg-1", "dmsc-via", "sr-1")

	var header, trailer metadata.MD
	out := new(wrapperspb.StringValue)
	if err := conn.Invoke(ctx, UnaryMethod, wrapperspb.String("hi"), out, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
		t.Fatal(err)
	}
	if out.GetValue() != "pod-1 a/1 hi" || header.Get("x-echo-via")[0] != "sg-1,sr-1" || trailer.Get("x-echo-pod")[0] != "pod-1" {
		t.Errorf("%v, header %v, trailer %v", out, header, trailer)
	}

	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, StreamMethod)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.SendMsg(wrapperspb.String("x")); err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(out); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.CloseSend()
	if err := s.RecvMsg(out); err != io.EOF {
		t.Fatal(err)
	}
	if got := s.Trailer().Get("x-echo-count"); len(got) != 1 || got[0] != "3" {
		t.Errorf("trailer %v", s.Trailer())
	}

	answer, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	if err != nil || answer.Status != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("health %v, %v", answer, err)
	}
}

func TestTCPSendsBackWhatComes(t *testing.T) {
	c, err := net.Dial("tcp", serve(t, dmsc.TCP))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("ping"))
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "ping" {
		t.Errorf("%q, %v", b, err)
	}
}
