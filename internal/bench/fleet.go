package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc/xds"
)

// fleet is many scripted clients of delta ADS, each with a connection of its
// own. A client asks as an Envoy does (all clusters, then their endpoints, all
// listeners, then their routes), acknowledges all it is sent, and comes back
// with the versions it holds.
type fleet struct {
	ask       []subscription // in their order
	remember  bool           // keep the versions, for coming back
	synced    atomic.Int64   // clients that have been sent something of each type
	resources atomic.Int64   // received
	bytes     atomic.Int64
	back      atomic.Int64 // sessions that were opened with versions
	stop      context.CancelFunc
	group     errgroup.Group
}

// subscription is what a client asks for; no names are all of the type.
type subscription struct {
	url   string
	names []string
}

// subscriptions are those of an Envoy that runs a set.
func subscriptions(set xds.Set) (out []subscription) {
	for _, t := range askingOrder {
		s := subscription{url: t.URL()}
		switch t {
		case xds.Endpoints:
			for _, m := range set.Endpoints {
				s.names = append(s.names, m.ClusterName)
			}
		case xds.Routes:
			for _, m := range set.Routes {
				s.names = append(s.names, m.Name)
			}
		}
		if len(byType(set)[s.url]) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// startFleet connects n clients to the stage in dir.
func startFleet(ctx context.Context, dir string, n int, ask []subscription, remember bool) (*fleet, error) {
	f := &fleet{ask: ask, remember: remember}
	ctx, f.stop = context.WithCancel(ctx)
	for range n {
		conn, err := dialStage(dir)
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		c := &fleetClient{fleet: f, conn: conn, held: map[string]map[string]string{}}
		f.group.Go(func() error {
			err := c.run(ctx)
			return errors.Join(err, conn.Close())
		})
	}
	return f, nil
}

func (f *fleet) close() error {
	f.stop()
	return f.group.Wait()
}

// dialStage connects as an Envoy of ours does: again soon.
func dialStage(dir string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+filepath.Join(dir, "xds.sock"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: 250 * time.Millisecond}}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.ForceCodec(rawCodec{})))
}

type fleetClient struct {
	fleet *fleet
	conn  *grpc.ClientConn
	asked int                          // how many of fleet.ask
	done  bool                         // counted in synced
	held  map[string]map[string]string // type URL → name → version
}

// run keeps a stream open.
func (c *fleetClient) run(ctx context.Context) error {
	for ctx.Err() == nil {
		_ = c.session(ctx) // the server ended it, or is not there yet
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil
}

func (c *fleetClient) session(ctx context.Context) error {
	str, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	again := c.asked
	c.asked = 0
	if again > 0 {
		c.fleet.back.Add(1)
	}
	for range max(1, again) {
		if err := c.askNext(str); err != nil {
			return err
		}
	}
	for {
		var m rawMessage
		if err := str.RecvMsg(&m); err != nil {
			return err
		}
		r, err := scanDelta(m.data)
		if err != nil {
			return err
		}
		c.fleet.bytes.Add(int64(len(m.data)))
		c.fleet.resources.Add(int64(len(r.versions)))
		if c.fleet.remember {
			if c.held[r.url] == nil {
				c.held[r.url] = map[string]string{}
			}
			maps.Copy(c.held[r.url], r.versions)
		}
		if err := send(str, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.url, ResponseNonce: r.nonce}); err != nil {
			return err
		}
		switch {
		case r.url != c.fleet.ask[c.asked-1].url || c.done:
		case c.asked < len(c.fleet.ask):
			if err := c.askNext(str); err != nil {
				return err
			}
		default:
			c.done = true
			c.fleet.synced.Add(1)
		}
	}
}

// askNext subscribes to the next type.
func (c *fleetClient) askNext(str grpc.ClientStream) error {
	s := c.fleet.ask[c.asked]
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: s.url, ResourceNamesSubscribe: s.names, InitialResourceVersions: c.held[s.url]}
	if c.asked == 0 {
		r.Node = &corev3.Node{Id: stageNode}
	}
	c.asked++
	return send(str, r)
}

func send(str grpc.ClientStream, m proto.Message) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return str.SendMsg(&rawMessage{data})
}

// rawMessage is a message as it is on the wire: a client of the benchmark does
// not spend its time on reading what nobody looks at.
type rawMessage struct{ data []byte }

type rawCodec struct{}

func (rawCodec) Name() string                       { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error)      { return v.(*rawMessage).data, nil }
func (rawCodec) Unmarshal(data []byte, v any) error { v.(*rawMessage).data = data; return nil }

// fields yields the fields of bytes of a message.
func fields(b []byte, f func(number protowire.Number, value []byte) error) error {
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, typ, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := f(number, value); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// scanned is what a client looks at of a response.
type scanned struct {
	url, nonce string
	versions   map[string]string // delta: name → version

}

// scanDelta reads a DeltaDiscoveryResponse.
func scanDelta(b []byte) (s scanned, err error) {
	s.versions = map[string]string{}
	err = fields(b, func(number protowire.Number, v []byte) error {
		switch number {
		case 2: // resources
			var name, version string
			err := fields(v, func(number protowire.Number, v []byte) error {
				switch number {
				case 1:
					version = string(v)
				case 3:
					name = string(v)
				}
				return nil
			})
			s.versions[name] = version
			return err
		case 4:
			s.url = string(v)
		case 5:
			s.nonce = string(v)
		}
		return nil
	})
	return s, err
}

// refuse connects one client of the dialect state of the world that refuses
// every response with the bad cluster, as Envoy does, and counts its refusals.
func refuse(ctx context.Context, dir string, refusals *atomic.Int64) error {
	conn, err := dialStage(dir)
	if err != nil {
		return err
	}
	defer conn.Close()
	str, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		discoveryv3.AggregatedDiscoveryService_StreamAggregatedResources_FullMethodName, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	answer := &discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: stageNode}, TypeUrl: xds.Clusters.URL()}
	for {
		var m rawMessage
		if err := errors.Join(send(str, answer), str.RecvMsg(&m)); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		var r discoveryv3.DiscoveryResponse
		if err := proto.Unmarshal(m.data, &r); err != nil {
			return err
		}
		answer = &discoveryv3.DiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), VersionInfo: answer.GetVersionInfo()}
		if holdsBad(&r) {
			refusals.Add(1)
			answer.ErrorDetail = &status.Status{Code: 3, Message: fmt.Sprintf("Error adding/updating cluster(s) %s: refused", badCluster)}
		} else {
			answer.VersionInfo = r.GetVersionInfo()
		}
	}
}

func holdsBad(r *discoveryv3.DiscoveryResponse) (bad bool) {
	for _, res := range r.GetResources() {
		_ = fields(res.GetValue(), func(number protowire.Number, v []byte) error {
			bad = bad || number == 1 && string(v) == badCluster
			return nil
		})
	}
	return bad
}
