package xds_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// scenario is a client of one type, in one dialect, in front of a server that
// has resources of that type only.
type scenario struct {
	*xdstest.Client
	f     *fixture
	typ   xds.Type
	whole bool // responses carry all that is subscribed
	revs  map[string]int
}

// scenarios are those of the xDS conformance harness that the CNCF's working
// group began, as far as they are about a server and one stream.
var scenarios = []struct {
	name     string
	wildcard bool // for clusters and listeners only
	delta    bool // for the delta dialect only
	play     func(s *scenario)
}{
	{name: "a wildcard brings everything", wildcard: true, play: func(s *scenario) {
		s.Subscribe(s.typ)
		s.sees("A", "B", "C")
	}},
	{name: "a wildcard brings changes", wildcard: true, play: func(s *scenario) {
		s.Subscribe(s.typ)
		s.sees("A", "B", "C")
		s.publish("A")
		s.seesOf([]string{"A", "B", "C"}, "A")
	}},
	{name: "a wildcard brings what is added", wildcard: true, play: func(s *scenario) {
		s.Subscribe(s.typ)
		s.sees("A", "B", "C")
		s.publish("D")
		s.seesOf([]string{"A", "B", "C", "D"}, "D")
	}},
	{name: "names bring these resources only", play: func(s *scenario) {
		s.Subscribe(s.typ, "A", "C")
		s.sees("A", "C")
	}},
	{name: "names bring changes of theirs, and of no others", play: func(s *scenario) {
		s.Subscribe(s.typ, "A", "C")
		s.sees("A", "C")
		s.publish("A")
		s.seesOf([]string{"A", "C"}, "A")
		s.publish("B")
		s.ExpectNothing()
	}},
	{name: "what does not exist is sent when it is created", play: func(s *scenario) {
		s.Subscribe(s.typ, "A", "Z")
		s.seesWithout("Z", "A")
		s.publish("Z")
		s.seesOf([]string{"A", "Z"}, "Z")
	}},
	{name: "a name more brings that name", play: func(s *scenario) {
		s.Subscribe(s.typ, "A")
		s.sees("A")
		s.Subscribe(s.typ, "B")
		s.seesOf([]string{"A", "B"}, "B")
	}},
	{name: "who leaves some names gets no more of those", play: func(s *scenario) {
		s.Subscribe(s.typ, "A", "B")
		s.sees("A", "B")
		s.Unsubscribe(s.typ, "A")
		s.ExpectNothing()
		s.publish("A")
		s.ExpectNothing()
		s.publish("B")
		s.sees("B")
	}},
	{name: "who leaves all names gets nothing", play: func(s *scenario) {
		s.Subscribe(s.typ, "A", "B")
		s.sees("A", "B")
		s.Unsubscribe(s.typ, "A")
		s.Unsubscribe(s.typ, "B")
		s.ExpectNothing()
		s.publish("A", "B", "D")
		s.ExpectNothing()
	}},
	{name: "what is removed is told, and what is added again is sent", delta: true, play: func(s *scenario) {
		s.Subscribe(s.typ, "A", "B")
		s.sees("A", "B")
		delete(s.revs, "A")
		s.publish()
		s.ExpectAck(s.typ, "-A")
		s.publish("A")
		s.sees("A")
	}},
	{name: "a refusal ends with the next version", play: func(s *scenario) {
		s.Subscribe(s.typ, "A")
		s.sees("A")
		s.publish("A")
		s.Nack(s.Expect(s.typ, "+A"), "A is bad")
		s.ExpectNothing()
		s.publish("A")
		s.sees("A")
	}},
	{name: "several types share a stream, each by its own", play: func(s *scenario) {
		other := xds.Endpoints
		if s.typ == other {
			other = xds.Routes
		}
		s.Subscribe(s.typ, "A")
		s.sees("A")
		s.Subscribe(other, "nowhere")
		if !s.sotw() {
			s.ExpectAck(other, "-nowhere")
		}
		s.publish("A")
		s.sees("A")
	}},
}

func TestScenariosOfTheConformanceHarness(t *testing.T) {
	for _, sc := range scenarios {
		for typ := xds.Clusters; typ <= xds.Listeners; typ++ {
			root := typ == xds.Clusters || typ == xds.Listeners
			for _, dialect := range []xdstest.Dialect{xdstest.Delta, xdstest.SotW} {
				if sc.wildcard && !root || sc.delta && dialect != xdstest.Delta {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", sc.name, typ, dialect), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						f := serve(t, xds.Config{RetryListener: -1})
						s := &scenario{
							Client: xdstest.DialAs(t, xdstest.Serve(t, f.Server), dialect, "sg-1"),
							f:      f, typ: typ, whole: root && dialect == xdstest.SotW, revs: map[string]int{},
						}
						s.publish("A", "B", "C")
						sc.play(s)
						s.ExpectNothing() // least of all in answer to the last ACK
					})
				})
			}
		}
	}
}

// publish adds or changes resources.
func (s *scenario) publish(names ...string) {
	for _, n := range names {
		s.revs[n]++
	}
	set := xds.Set{Static: []string{"static"}}
	for _, n := range slices.Sorted(maps.Keys(s.revs)) {
		rev := s.revs[n]
		switch s.typ {
		case xds.Clusters:
			set.Clusters = append(set.Clusters, cluster(n, rev))
			set.Endpoints = append(set.Endpoints, endpoints(n, 8080))
		case xds.Endpoints:
			set.Endpoints = append(set.Endpoints, endpoints(n, 8080+rev))
		case xds.Routes:
			rc := route(n, "static")
			rc.VirtualHosts[0].Name = fmt.Sprint("revision ", rev)
			set.Routes = append(set.Routes, rc)
		case xds.Listeners:
			set.Listeners = append(set.Listeners, listener(n, "table", 15000+100*int(n[0])+rev))
		}
	}
	if s.typ == xds.Listeners {
		set.Routes = append(set.Routes, route("table", "static"))
	}
	s.f.publish("sg-1", set)
}

// sees takes a response with these resources.
func (s *scenario) sees(names ...string) { s.seesOf(names, names...) }

// seesOf takes a response with what changed, or with all if the dialect says
// all.
func (s *scenario) seesOf(subscribed []string, changed ...string) {
	if s.whole {
		changed = subscribed
	}
	var items []string
	for _, n := range changed {
		items = append(items, "+"+n)
	}
	s.ExpectAck(s.typ, items...)
}

// seesWithout is sees by a client that asked for a name that is not there,
// which only one of the dialects can say.
func (s *scenario) seesWithout(absent string, names ...string) {
	var items []string
	for _, n := range names {
		items = append(items, "+"+n)
	}
	if !s.sotw() {
		items = append(items, "-"+absent)
	}
	s.ExpectAck(s.typ, items...)
}

func (s *scenario) sotw() bool { return s.Dialect() == xdstest.SotW }
