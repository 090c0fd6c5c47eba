package translator_test

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// wheel is n0 with five neighbours n1 … n5 in a ring around it, to which the
// prefixes belong in turn, ten to a function.
type wheel struct {
	records map[linkstate.Key]*linkstate.LSA
	engine  *rib.Engine
	touched []linkstate.Key
}

func newWheel(prefixes int) *wheel {
	w := &wheel{records: make(map[linkstate.Key]*linkstate.LSA), engine: rib.New("n0")}
	for i := range 6 {
		w.rim(i, false)
	}
	for i := range prefixes {
		w.announce(i, 1+i%5)
	}
	return w
}

func node(i int) dmsc.NodeID { return dmsc.NodeID(fmt.Sprintf("n%d", i)) }

// rim describes a node; cut leaves out its link to n0.
func (w *wheel) rim(i int, cut bool) {
	n := &linkstate.NodeLSA{Transit: true}
	link := func(to int) {
		n.Links = append(n.Links, linkstate.Link{Remote: node(to), ID: "0", Metric: 10})
	}
	switch {
	case i == 0:
		for to := 1; to <= 5; to++ {
			link(to)
		}
	default:
		if !cut {
			link(0)
		}
		link(i%5 + 1)
		link((i+3)%5 + 1)
	}
	slices.SortFunc(n.Links, func(a, b linkstate.Link) int {
		return linkstate.LinkKey{Remote: a.Remote}.Compare(linkstate.LinkKey{Remote: b.Remote})
	})
	w.set(linkstate.Key{Origin: node(i), Type: linkstate.TypeNode}, n)
}

func (w *wheel) key(i, owner int) linkstate.Key {
	return linkstate.Key{Origin: node(owner), Type: linkstate.TypePrefix, Fragment: linkstate.Bucket(crowdPrefix(i))}
}

func (w *wheel) announce(i, owner int) {
	k, p := w.key(i, owner), linkstate.Prefix{Prefix: crowdPrefix(i)}
	var prefixes []linkstate.Prefix
	if r := w.records[k]; r != nil {
		prefixes = slices.Clone(r.Content.(*linkstate.PrefixLSA).Prefixes)
	}
	at, _ := slices.BinarySearchFunc(prefixes, p, func(a, b linkstate.Prefix) int { return a.Prefix.Compare(b.Prefix) })
	w.set(k, &linkstate.PrefixLSA{Prefixes: slices.Insert(prefixes, at, p)})
}

func (w *wheel) withdraw(i, owner int) {
	k := w.key(i, owner)
	w.set(k, &linkstate.PrefixLSA{Prefixes: slices.DeleteFunc(slices.Clone(w.records[k].Content.(*linkstate.PrefixLSA).Prefixes),
		func(p linkstate.Prefix) bool { return p.Prefix == crowdPrefix(i) })})
}

func (w *wheel) set(k linkstate.Key, content linkstate.Content) {
	w.records[k] = &linkstate.LSA{Key: k, Content: content}
	w.touched = append(w.touched, k)
}

// state computes the state of n0.
func (w *wheel) state() translator.State {
	var records []*linkstate.LSA
	for _, r := range w.records {
		records = append(records, r)
	}
	view := &linkstate.View{Node: "n0", Synced: true, Records: linkstate.NewRecords(records...)}
	s := translator.State{
		Node:  "n0",
		Addrs: translator.Addrs{Ingress: "127.0.0.1:1", Fabric: "127.0.0.1:2", Probe: "127.0.0.1:3"},
	}
	for i := 1; i <= 5; i++ {
		k := linkstate.LinkKey{Remote: node(i), ID: "0"}
		view.Adjacencies = append(view.Adjacencies, linkstate.Adjacency{LinkConfig: linkstate.LinkConfig{LinkKey: k}, State: linkstate.StateFull})
		s.Neighbours = append(s.Neighbours, translator.Neighbour{NextHop: rib.NextHop{LinkKey: k}, Data: fmt.Sprintf("127.0.0.1:%d", 100+i), Up: true})
	}
	s.RIB, _ = w.engine.Update(view, linkstate.ChangedTopology|linkstate.ChangedPrefixes, w.touched)
	w.touched = nil
	return s
}

// BenchmarkTranslate is what a state costs its node, from the RIB to the bytes
// that its Envoy is sent: one made from nothing, and one that comes after
// another that differs in nothing, in the health of a next hop, in the owner of
// one prefix, in a link. The time to look at is cpu-ms/op; translate-ms is the
// part of this package in it.
func BenchmarkTranslate(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		w := newWheel(n)
		base := w.state()
		unhealthy := base
		unhealthy.Neighbours = slices.Clone(base.Neighbours)
		unhealthy.Neighbours[0].Up = false
		w.withdraw(n/2, 1+n/2%5)
		w.announce(n/2, 1+(n/2+1)%5)
		moved := w.state()
		w.rim(1, true)
		cut := w.state()
		for _, bc := range []struct {
			name   string
			states []translator.State
		}{
			{"same", []translator.State{base}},
			{"health", []translator.State{base, unhealthy}},
			{"prefix", []translator.State{base, moved}},
			{"link", []translator.State{moved, cut}},
		} {
			b.Run(fmt.Sprintf("%s/prefixes=%d", bc.name, n), func(b *testing.B) {
				var tr translator.Translator
				benchmarkStates(b, bc.states, func() (*translator.Translator, *xds.Server) { return &tr, nil })
			})
		}
		b.Run(fmt.Sprintf("new/prefixes=%d", n), func(b *testing.B) {
			benchmarkStates(b, []translator.State{base}, func() (*translator.Translator, *xds.Server) {
				return new(translator.Translator), xds.New(xds.Config{})
			})
		})
	}
}

func benchmarkStates(b *testing.B, states []translator.State, with func() (*translator.Translator, *xds.Server)) {
	kept := xds.New(xds.Config{})
	var translating time.Duration
	publish := func(i int) {
		tr, server := with()
		if server == nil {
			server = kept
		}
		begun := cpuTime()
		r, err := tr.Translate(states[i%len(states)])
		if err != nil {
			b.Fatal(err)
		}
		translating += cpuTime() - begun
		if _, err := server.Publish("n0", xds.SetOf(r)); err != nil {
			b.Fatal(err)
		}
	}
	publish(0)
	runtime.GC() // not what that leaves behind
	translating = 0
	begun, i := cpuTime(), 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		publish(i)
	}
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(i) }
	b.ReportMetric(per(cpuTime()-begun), "cpu-ms/op")
	b.ReportMetric(per(translating), "translate-ms/op")
}

// cpuTime is what this process has used of the processors so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
