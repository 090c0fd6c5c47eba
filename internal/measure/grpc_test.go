package measure

import (
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dmsc-mesh/dmsc"
)

// A pod that is a plain gRPC server answers by grpc.health.v1 and nothing else.
func TestAGRPCTargetIsAskedByTheHealthProtocol(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, h := grpc.NewServer(), health.NewServer()
	healthv1.RegisterHealthServer(server, h)
	h.SetServingStatus("shop.Cart", healthv1.HealthCheckResponse_NOT_SERVING)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	defer func() {
		server.Stop()
		<-done
	}()
	d := NewDetector(nil)
	defer d.http2.CloseIdleConnections()
	for path, want := range map[string]string{"/": "", "/shop.Cart": "says 2, not serving", "/shop.Other": `grpc-status "5"`} {
		_, err := d.ask(t.Context(), Target{dmsc.MustParsePrefix("g/1"), l.Addr().String(), dmsc.GRPC, path})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("service %s: %v, want %q", path, err, want)
		}
	}
}

func TestHealthOfRefusesWhatIsNoAnswer(t *testing.T) {
	for _, frame := range []string{"", "\x00\x00\x00\x00\x09\x08\x01", "\x01\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x01\x08"} {
		if got, err := healthOf([]byte(frame)); err == nil {
			t.Errorf("%q is %d", frame, got)
		}
	}
	// Fields of a later version are skipped.
	if got, err := healthOf([]byte("\x00\x00\x00\x00\x05\x12\x01x\x08\x01")); got != serving || err != nil {
		t.Errorf("got %d, %v", got, err)
	}
}
