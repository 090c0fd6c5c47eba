package xds_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// severable loses everything, without a word, once it is severed: its host is
// gone.
type severable struct {
	net.Conn
	severed *atomic.Bool
}

func (c severable) Write(b []byte) (int, error) {
	if c.severed.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func TestAClientWhoseHostIsGoneIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := serve(t, xds.Config{})
		lis := bufconn.Listen(1 << 20)
		g := grpc.NewServer(xds.ServerOptions()...)
		f.Register(g)
		done := make(chan struct{})
		go func() { defer close(done); _ = g.Serve(lis) }()
		var severed atomic.Bool
		conn, err := grpc.NewClient("passthrough:///gone",
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				c, err := lis.DialContext(ctx)
				return severable{c, &severed}, err
			}),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { conn.Close(); g.Stop(); <-done }()
		f.publish("sg-1", simple("a"))
		c := xdstest.Dial(t, conn, "sg-1")
		c.Subscribe(xds.Clusters)
		c.ExpectAck(xds.Clusters, "+a")
		time.Sleep(time.Hour)
		if st := f.status("sg-1"); !st.Connected {
			t.Error("a client that has nothing to say is given up")
		}
		severed.Store(true)
		start := time.Now()
		for f.status("sg-1").Connected && time.Since(start) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(start); took > 16*time.Second {
			t.Errorf("noticed after %v", took)
		}
	})
}

// gRPC answers more than two pings that come sooner than it expects with a GOAWAY.
func TestAnEnvoyThatPingsOftenKeepsItsStream(t *testing.T) {
	dir, err := os.MkdirTemp("", "xds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := serve(t, xds.Config{})
	t.Cleanup(listen(t, f.Server, filepath.Join(dir, "xds.sock")))
	set := simple("a")
	set.Listeners[0] = listener("in", "table", freePort(t))
	version := f.publish("sg-1", set)
	boot := bootstrap(t, dir, translator.Source{})
	options := boot.StaticResources.Clusters[0].TypedExtensionProtocolOptions
	for name, packed := range options {
		http := &httpv3.HttpProtocolOptions{}
		if err := packed.UnmarshalTo(http); err != nil {
			t.Fatal(err)
		}
		http.GetExplicitHttpConfig().GetHttp2ProtocolOptions().ConnectionKeepalive = &corev3.KeepaliveSettings{
			Interval: durationpb.New(200 * time.Millisecond), Timeout: durationpb.New(5 * time.Second),
		}
		options[name] = pack(http)
	}
	text, err := translator.YAML(boot)
	if err != nil {
		t.Fatal(err)
	}
	envoy := launchEnvoy(t, dir, text)
	f.expect(xds.Acked, version)
	time.Sleep(2 * time.Second) // ten pings
	if n := envoy.stat(t, "cluster.dmsc/xds.upstream_cx_total"); n != 1 {
		t.Errorf("Envoy has connected %d times", n)
	}
}
