package xds_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// Without ADS an Envoy with 512 groups has 515 streams, which it opens at once.
// None is refused, and no update needs the clock: not even one that changes all
// clusters, for which Envoy opens 512 more before it closes the old ones.
func TestARealEnvoyWithAStreamForEachOf512Clusters(t *testing.T) {
	for _, source := range []translator.Source{{PerType: true}, {PerType: true, SotW: true}} {
		t.Run(fmt.Sprintf("state of the world %v", source.SotW), func(t *testing.T) { manyStreams(t, source) })
	}
}

func manyStreams(t *testing.T, source translator.Source) {
	const groups = 512
	dir, err := os.MkdirTemp("", "xds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := freePort(t)
	all := names("g", groups)
	state := func(change func(*xds.Set)) xds.Set {
		set := simple(all...)
		set.Listeners[0] = listener("in", "table", port)
		change(&set)
		return from(t, source, set)
	}
	var newest atomic.Uint64 // streams so far, refused ones too
	f := serve(t, xds.Config{
		MaxStreamsPerNode: 10_000, MaxStrangers: 1000, GateTimeout: time.Hour, // as the agent has it, but for the clock
		Record: func(r xds.Record) {
			for last := newest.Load(); r.Stream > last && !newest.CompareAndSwap(last, r.Stream); last = newest.Load() {
			}
		},
	})
	f.events = make(chan xds.Event, 10_000) // for the end, when nobody listens
	listen(t, f.Server, filepath.Join(dir, "xds.sock"))

	// accepted measures how long it takes until Envoy runs what is done.
	accepted := func(what string, change func() string) {
		t.Helper()
		start, cpu := time.Now(), cpuTime(t)
		version := change()
		for timeout := time.After(time.Minute); ; {
			var e xds.Event
			select {
			case e = <-f.events:
			case <-timeout:
				t.Fatalf("%s: not accepted: %+v", what, f.status("sg-1"))
			}
			if e.Kind == xds.Acked && e.Version == version {
				break
			}
		}
		t.Logf("%s: %d streams, accepted after %s; server's CPU %s", what, f.status("sg-1").Streams,
			time.Since(start).Round(100*time.Microsecond), (cpuTime(t) - cpu).Round(100*time.Microsecond))
	}
	publish := func(change func(*xds.Set)) func() string {
		return func() string { return f.publish("sg-1", state(change)) }
	}
	f.publish("sg-1", state(func(*xds.Set) {}))
	accepted("start", func() string {
		startEnvoy(t, dir, source)
		return f.status("sg-1").Wanted
	})
	if got := newest.Load(); got != groups+3 {
		t.Errorf("Envoy had to open %d streams for %d", got, groups+3)
	}
	accepted("one group's endpoints", publish(func(s *xds.Set) { s.Endpoints[groups/2] = endpoints(all[groups/2], 9000) }))
	accepted("one cluster", publish(func(s *xds.Set) { s.Clusters[groups/2] = cluster(all[groups/2], 1) }))
	accepted("the route", publish(func(s *xds.Set) { s.Routes[0] = route("table", all[7]) }))
	accepted("all clusters", publish(func(s *xds.Set) {
		for i := range s.Clusters {
			s.Clusters[i] = cluster(all[i], 2)
		}
	}))
	accepted("half of them go", publish(func(s *xds.Set) {
		s.Clusters, s.Endpoints = s.Clusters[:groups/2], s.Endpoints[:groups/2]
		for i := range s.Clusters {
			s.Clusters[i] = cluster(all[i], 2)
		}
	}))
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
