package xds

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// obedient is a delta client inside the process: it accepts all it is sent.
type obedient struct {
	deltaDialect
	in   chan *request
	sent int // bytes
}

func (o *obedient) recv() (*request, error) {
	if r, ok := <-o.in; ok {
		return r, nil
	}
	return nil, io.EOF
}

func (o *obedient) write(f *frame) error {
	o.sent += f.encoded().Len()
	o.in <- &request{typeURL: f.typ.URL(), nonce: f.nonce}
	return nil
}

// fleet is a server with in-process clients, of one node each, that are in step
// with a set of n clusters with endpoints.
type fleet struct {
	*Server
	names   []string
	clients []*obedient
	streams []*stream
	acked   chan struct{}
	set     Set
	stop    func() // ends the streams
}

func newFleet(tb testing.TB, streams, n int) *fleet {
	f := &fleet{acked: make(chan struct{}, streams), set: manyClusters(n)}
	f.Server = New(Config{MaxStrangers: streams, OnEvent: func(e Event) {
		if e.Kind == Acked {
			f.acked <- struct{}{}
		}
	}})
	for i := range streams {
		f.names = append(f.names, fmt.Sprintf("sg-%d", i))
	}
	f.publish(tb)
	var all []string
	for _, e := range f.set.Endpoints {
		all = append(all, e.GetClusterName())
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	for _, name := range f.names {
		o := &obedient{in: make(chan *request, 8)}
		f.clients = append(f.clients, o)
		st := newStream(f.Server, o, allTypes)
		f.admit(st)
		f.streams = append(f.streams, st)
		o.in <- &request{node: name, typeURL: Clusters.URL()}
		o.in <- &request{typeURL: Endpoints.URL(), subscribe: all}
		o.in <- &request{typeURL: Listeners.URL()}
		done.Go(func() {
			defer f.dismiss(st)
			_ = st.run(ctx)
		})
	}
	f.stop = sync.OnceFunc(func() {
		cancel()
		for _, o := range f.clients {
			close(o.in)
		}
		done.Wait()
	})
	tb.Cleanup(f.stop)
	f.wait()
	return f
}

// publish gives each node what is now the set of all.
func (f *fleet) publish(tb testing.TB) {
	tb.Helper()
	for _, name := range f.names {
		if _, err := f.Publish(name, f.set); err != nil {
			tb.Fatal(err)
		}
	}
}

func (f *fleet) wait() {
	for range f.names {
		<-f.acked
	}
}

// change gives one cluster's endpoints another port.
func (f *fleet) change(port int) {
	f.set.Endpoints[0] = assignment("c-0000", port)
}

func manyClusters(n int) (set Set) {
	for i := range n {
		name := fmt.Sprintf("c-%04d", i)
		set.Clusters = append(set.Clusters, &clusterv3.Cluster{
			Name: name, ConnectTimeout: durationpb.New(time.Second),
			ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
			EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
				ResourceApiVersion:    corev3.ApiVersion_V3,
				ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
			}},
		})
		set.Endpoints = append(set.Endpoints, assignment(name, 8080))
	}
	return set
}

func assignment(name string, port int) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: name,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
				}}},
			}},
		}}}},
	}
}

// BenchmarkOneChange is everything the server does from Publish until every
// stream's client has accepted the change; sockets excluded.
func BenchmarkOneChange(b *testing.B) {
	for _, what := range []string{"endpoints", "cluster"} {
		b.Run(fmt.Sprintf("%s/streams=1000/clusters=1000", what), func(b *testing.B) {
			f := newFleet(b, 1000, 1000)
			i := 0
			b.ReportAllocs()
			cpu := cpuTime()
			for b.Loop() {
				i++
				if what == "endpoints" {
					f.change(1000 + i%50000)
				} else {
					c := manyClusters(1).Clusters[0]
					c.ConnectTimeout.Nanos = int32(i)
					f.set.Clusters[0] = c
				}
				f.publish(b)
				f.wait()
			}
			b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// cpuTime is what this process has used: the machine may have other work.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPublish is Publish alone, to a node without clients.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("clusters=%d", n), func(b *testing.B) {
			s, set := New(Config{}), manyClusters(n)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i++
				set.Endpoints[0] = assignment("c-0000", 1000+i%50000)
				if _, err := s.Publish("sg-1", set); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStreamMemory reports what a stream in step costs the server, gRPC
// excluded.
func BenchmarkStreamMemory(b *testing.B) {
	for b.Loop() {
		before := heap()
		f := newFleet(b, 1000, 1000)
		used := heap() - before
		runtime.KeepAlive(f)
		b.ReportMetric(float64(used)/1000, "heap-B/stream")
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
