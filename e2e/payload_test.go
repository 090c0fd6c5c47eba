package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/toy"
)

// dial opens a gRPC channel to a gateway. What is called on it goes to a name.
func (n *network) dial(t *testing.T, gateway dmsc.NodeID, name string) (context.Context, *grpc.ClientConn) {
	t.Helper()
	c, err := grpc.NewClient(n.Node(gateway).Ingress, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "dmsc-service-prefix", name), c
}

func TestGRPCUnaryCallsKeepTheirTrailers(t *testing.T) {
	n := shared(t)
	for _, gw := range gateways {
		ctx, c := n.dial(t, gw, "g/1")
		var header, trailer metadata.MD
		out := new(wrapperspb.StringValue)
		if err := c.Invoke(ctx, toy.UnaryMethod, wrapperspb.String("hello"), out, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
			t.Fatalf("at %s: %v", gw, err)
		}
		via := strings.Join(header.Get("x-echo-via"), "")
		if out.GetValue() != "pod-3 g/1 hello" || !slices.Equal(trailer.Get("x-echo-pod"), []string{"pod-3"}) ||
			!strings.HasPrefix(via, "<"+string(gw)+">") || !strings.HasSuffix(via, "<sg-3>") {
			t.Errorf("at %s: %q, header %v, trailer %v", gw, out.GetValue(), header, trailer)
		}
	}
}

// Each answer comes before the next message is sent, so nothing on the way may
// keep a message back.
func TestGRPCStreamsFlowBothWays(t *testing.T) {
	n := shared(t)
	ctx, c := n.dial(t, "sg-2", "g/1")
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, toy.StreamMethod)
	if err != nil {
		t.Fatal(err)
	}
	const messages = 100
	for i := range messages {
		out := new(wrapperspb.StringValue)
		if err := errors.Join(s.SendMsg(wrapperspb.String(strconv.Itoa(i))), s.RecvMsg(out)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if want := fmt.Sprintf("pod-3 g/1 %d", i); out.GetValue() != want {
			t.Fatalf("got %q, want %q", out.GetValue(), want)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
	if got := s.Trailer().Get("x-echo-count"); !slices.Equal(got, []string{strconv.Itoa(messages)}) {
		t.Errorf("trailer x-echo-count %v, want %d", got, messages)
	}
}

// What the fabric refuses is a gRPC status for a gRPC client, with the reason.
func TestGRPCClientsLearnWhyTheyAreRefused(t *testing.T) {
	n := shared(t)
	ctx, c := n.dial(t, "sg-1", "g/99")
	var header metadata.MD
	var trailer metadata.MD
	err := c.Invoke(ctx, toy.UnaryMethod, wrapperspb.String("hello"), new(wrapperspb.StringValue), grpc.Header(&header), grpc.Trailer(&trailer))
	if got := append(header.Get("dmsc-error"), trailer.Get("dmsc-error")...); status.Code(err) != codes.Unimplemented || !slices.Contains(got, "no-route; node=sg-1") {
		t.Errorf("%v, dmsc-error %v", err, got)
	}
}

const big = 64 << 20

// Bodies of 64 MiB pass three Envoys. What these may keep is what the windows
// of their connections hold, whatever passes.
func TestBodiesOf64MiBPass(t *testing.T) {
	n := shared(t)
	url := "http://" + n.Node("sg-1").Ingress
	before := n.peaks(t)
	for _, c := range []struct {
		what, name string
		client     *http.Client
	}{{"HTTP/1.1", "a/4", h1}, {"HTTP/2", "a/4", h2}, {"HTTP/2 to gRPC pod", "g/1", h2}} {
		at := time.Now()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/upload", io.LimitReader(zeros{}, big))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("dmsc-service-prefix", c.name)
		resp, err := c.client.Do(req)
		if err != nil {
			t.Fatalf("%s upload: %v", c.what, err)
		}
		var echo toy.Echo
		err = json.NewDecoder(resp.Body).Decode(&echo)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || echo.BodyBytes != big {
			t.Errorf("%s upload: %s, the pod got %d of %d bytes, %v", c.what, resp.Status, echo.BodyBytes, big, err)
		}
		up := since(at)

		at = time.Now()
		if req, err = http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/bytes?n=%d", url, big), nil); err != nil {
			t.Fatal(err)
		}
		req.Header.Set("dmsc-service-prefix", c.name)
		if resp, err = c.client.Do(req); err != nil {
			t.Fatalf("%s download: %v", c.what, err)
		}
		got, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || got != big {
			t.Errorf("%s download: %s, %d of %d bytes, %v", c.what, resp.Status, got, big, err)
		}
		t.Logf("measured: 64 MiB over 3 Envoys, %s: up %v, down %v", c.what, up, since(at))
	}
	for id, peak := range n.peaks(t) {
		grown := peak - before[id]
		t.Logf("measured: peak memory of %s's Envoy %d MiB, %d MiB more than before the bodies", id, peak>>20, grown>>20)
		if passed := int64(6 * big); grown > passed/3 {
			t.Errorf("%s's Envoy grew by %d MiB while %d MiB passed: it keeps bodies", id, grown>>20, passed>>20)
		}
	}
}

// The pod has the first byte before the client has sent the last, and the
// client the answer's first before the pod has sent its last.
func TestBodiesFlowAsTheyCome(t *testing.T) {
	n := shared(t)
	n.announce(t, "sg-4", "test/flow", func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if err := errors.Join(control.EnableFullDuplex(), control.Flush()); err != nil {
			t.Error(err)
		}
		for in := bufio.NewReader(r.Body); ; {
			b, err := in.ReadByte()
			if err != nil {
				return
			}
			if _, err := w.Write([]byte{b}); err != nil || control.Flush() != nil {
				return
			}
		}
	})
	n.reachable(t, "sg-1", "test/flow", 200)
	upload, client := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+n.Node("sg-1").Ingress, upload)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("dmsc-service-prefix", "test/flow")
	resp, err := h2.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for i := range byte(50) {
		back := make([]byte, 1)
		if _, err := client.Write([]byte{i}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, back); err != nil || back[0] != i {
			t.Fatalf("byte %d came back as %d, %v", i, back[0], err)
		}
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Errorf("the answer ends with %q, %v", rest, err)
	}
}

// peaks is the largest resident memory that each Envoy has had.
func (n *network) peaks(t *testing.T) map[dmsc.NodeID]int64 {
	t.Helper()
	peaks := map[dmsc.NodeID]int64{}
	for _, id := range n.IDs() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.Node(id).Envoy.PID()))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); f[0] == "VmHWM:" {
				kb, err := strconv.ParseInt(f[1], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				peaks[id] = kb << 10
			}
		}
	}
	return peaks
}

// TCP rides the same FIB by CONNECT.
func TestTCPGoesByConnect(t *testing.T) {
	n := shared(t)
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	for _, gw := range gateways {
		c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", n.Node(gw).Ingress)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "CONNECT t.example:1 HTTP/1.1\r\nHost: t.example:1\r\ndmsc-service-prefix: t/1\r\n\r\n")
		in := bufio.NewReader(c)
		resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("at %s: %s %s", gw, resp.Status, resp.Header.Get("dmsc-error"))
		}
		written := make(chan error, 1)
		go func() {
			_, err := c.Write(data)
			written <- err
		}()
		back := make([]byte, len(data))
		_, err = io.ReadFull(in, back)
		if err = errors.Join(err, <-written); err != nil || !bytes.Equal(back, data) {
			t.Errorf("at %s: 1 MiB did not come back as it went: %v", gw, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
