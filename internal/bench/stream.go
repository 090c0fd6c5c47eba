package bench

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc/xds"
)

// memoryStream is a delta ADS stream without a network: a client that asks for
// all clusters and acknowledges whatever it is sent, at once.
type memoryStream struct {
	grpc.ServerStream // nil: a server of ADS calls nothing but the methods below
	ctx               context.Context
	requests          chan *discoveryv3.DeltaDiscoveryRequest
	acks              *atomic.Pointer[tally]
	// ready are the ACKs of the client, made beforehand: what is allocated during
	// a change shall be the server's.
	ready []discoveryv3.DeltaDiscoveryRequest
}

func newMemoryStream(ctx context.Context, node string, acks *atomic.Pointer[tally]) *memoryStream {
	s := &memoryStream{ctx: ctx, requests: make(chan *discoveryv3.DeltaDiscoveryRequest, 4), acks: acks, ready: make([]discoveryv3.DeltaDiscoveryRequest, 1+changes)}
	s.requests <- &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: node}, TypeUrl: xds.Clusters.URL()}
	return s
}

func (s *memoryStream) Context() context.Context { return s.ctx }

func (s *memoryStream) Send(r *discoveryv3.DeltaDiscoveryResponse) error {
	ack := &discoveryv3.DeltaDiscoveryRequest{}
	if len(s.ready) > 0 {
		ack, s.ready = &s.ready[0], s.ready[1:]
	}
	ack.TypeUrl, ack.ResponseNonce = r.GetTypeUrl(), r.GetNonce()
	select {
	case s.requests <- ack:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// SendMsg takes what Send takes, in whatever form.
func (s *memoryStream) SendMsg(m any) error {
	return s.Send(m.(proto.Message).ProtoReflect().Interface().(*discoveryv3.DeltaDiscoveryResponse))
}

func (s *memoryStream) Recv() (*discoveryv3.DeltaDiscoveryRequest, error) {
	select {
	case r := <-s.requests:
		if r.GetResponseNonce() != "" {
			s.acks.Load().add()
		}
		return r, nil
	case <-s.ctx.Done():
		return nil, io.EOF
	}
}

// inProcess measures a rival without a network, as many streams as there are
// of each of so many nodes: how long one changed cluster takes to all, and what
// it costs.
func inProcess(ctx context.Context, c *Comparison, event, kind string, o XDSOptions, nodes int) (err error) {
	ctx, cancel := context.WithTimeout(ctx, stageLimit)
	defer cancel()
	streams := o.Streams
	if nodes > 1 {
		streams = nodes
	}
	r, err := newRival(ctx, kind)
	if err != nil {
		return err
	}
	clusters := newPlainClusters(o.Clusters)
	publish := func(rev int) error {
		set := clusters.revision(rev)
		for n := range nodes {
			if err := r.publish(nodeName(n), set); err != nil {
				return err
			}
		}
		return nil
	}
	if err := publish(0); err != nil {
		return err
	}
	before := heap()
	var acks atomic.Pointer[tally]
	first := newTally(streams)
	acks.Store(first)
	var g errgroup.Group
	streamed, stop := context.WithCancel(ctx)
	defer func() {
		stop()
		if ended := g.Wait(); err == nil {
			err = ended
		}
	}()
	begun := time.Now()
	for i := range streams {
		s := newMemoryStream(streamed, nodeName(i%nodes), &acks)
		g.Go(func() error {
			if err := r.DeltaAggregatedResources(s); err != nil && streamed.Err() == nil {
				return err
			}
			return nil
		})
	}
	if err := first.wait(ctx); err != nil {
		return fmt.Errorf("first set: %w", err)
	}
	c.add(event, "first set to all", "ms", kind, milliseconds(time.Since(begun)))
	c.add(event, "heap per stream", "kB", kind, float64(heap()-before)/float64(streams)/1000)
	for rev := range changes {
		done := newTally(streams)
		acks.Store(done)
		allocated, cpu, t0 := allocations(), ownCPU(), time.Now()
		if err := publish(rev + 1); err != nil {
			return err
		}
		if err := done.wait(ctx); err != nil {
			return fmt.Errorf("change %d: %w", rev+1, err)
		}
		took := time.Since(t0)
		c.add(event, "until all have ACKed", "ms", kind, milliseconds(took))
		c.add(event, "CPU", "ms", kind, milliseconds(ownCPU()-cpu))
		c.add(event, "allocated", "MB", kind, float64(allocations()-allocated)/1e6)
	}
	return nil
}

func nodeName(i int) string { return fmt.Sprintf("node-%03d", i) }

// heap is what is live after a collection, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// allocations are all bytes ever allocated.
func allocations() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// ownCPU is what this process has used of the processors.
func ownCPU() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
