package translator_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// crowd is a node with three neighbours and many names.
type crowd struct {
	translator.State
	groups  []*rib.Group
	entries map[string]*rib.Entry
}

func newCrowd(prefixes int) *crowd {
	c := &crowd{
		State: translator.State{
			Node:  "n0",
			Addrs: translator.Addrs{Ingress: "127.0.0.1:1", Fabric: "127.0.0.1:2", Probe: "127.0.0.1:3"},
		},
		entries: make(map[string]*rib.Entry),
	}
	for i := range 5 {
		hop := rib.NextHop{LinkKey: linkstate.LinkKey{Remote: dmsc.NodeID(fmt.Sprintf("n%d", i+1)), ID: "0"}, Weight: 1}
		c.Neighbours = append(c.Neighbours, translator.Neighbour{NextHop: hop, Data: fmt.Sprintf("127.0.0.1:%d", 100+i), Up: true})
		g := &rib.Group{Primaries: []rib.NextHop{hop}}
		g.Name = rib.GroupName(g.Primaries, nil)
		c.groups = append(c.groups, g)
	}
	for i := range prefixes {
		c.put(&rib.Entry{Prefix: crowdPrefix(i), Group: c.groups[i%5]})
	}
	return c
}

func crowdPrefix(i int) dmsc.ServicePrefix {
	return dmsc.MustParsePrefix(fmt.Sprintf("service-%d/%d", i/10, i%10))
}

func (c *crowd) put(e *rib.Entry) { c.entries[e.Prefix.String()] = e }

// state is the State of now; RIBs that were given out do not change.
func (c *crowd) state() translator.State {
	var entries []*rib.Entry
	for _, e := range c.entries {
		entries = append(entries, e)
	}
	s := c.State
	s.RIB = rib.NewRIB(c.Node, entries...)
	return s
}

// Whatever names come, go and move, what is made of a RIB after another is byte
// for byte what is made of it alone, and a name that moves leaves all but a few
// virtual hosts as they were.
func TestTablesThatFollowTheRIBAreTheTablesMadeAnew(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := newCrowd(0)
	var tr translator.Translator
	server := xds.New(xds.Config{})
	var last translator.Resources
	var spread []bool
	for step := range 40 {
		moved := []int{1, 1, 1, 300, 1500}[random.IntN(5)]
		fewer := step%20 >= 10
		if step%10 == 0 {
			moved = 4000
		}
		for range moved {
			p := crowdPrefix(random.IntN(2500))
			switch {
			case random.IntN(10) == 0:
				c.put(&rib.Entry{Prefix: p, Kind: rib.Kind(random.IntN(2)), Local: true})
			case random.IntN(5) > 0 == fewer:
				delete(c.entries, p.String())
			default:
				c.put(&rib.Entry{
					Prefix: p, Kind: rib.Kind(random.IntN(2)), Group: c.groups[random.IntN(4)/3],
					Protocol: dmsc.Protocol(random.IntN(4) / 3 * int(dmsc.TCP)),
				})
			}
		}
		c.put(&rib.Entry{Prefix: dmsc.MustParsePrefix(fmt.Sprintf("dmsc/node/n%d", random.IntN(9))), Kind: rib.Node, Group: c.groups[0]})
		steeringMoved := random.IntN(4) == 0
		if steeringMoved {
			c.Steering = nil
			for range random.IntN(3) {
				c.Steering = append(c.Steering, translator.Steering{Prefix: crowdPrefix(random.IntN(2500)), PolicyID: "p", Paths: []translator.WeightedPath{
					{Nodes: []dmsc.NodeID{"n0", "n1", "n9"}, Weight: 50},
				}})
			}
			slices.SortFunc(c.Steering, func(x, y translator.Steering) int { return x.Prefix.Compare(y.Prefix) })
			c.Steering = slices.CompactFunc(c.Steering, func(x, y translator.Steering) bool { return x.Prefix == y.Prefix })
		}
		if random.IntN(4) == 0 {
			c.Aliases = []translator.Alias{{Host: "h.example", Prefix: crowdPrefix(random.IntN(2500)), From: translator.Pods}}
		}
		s := c.state()
		got, err := tr.Translate(s)
		if err != nil {
			t.Fatal(err)
		}
		want := translate(t, s)
		if got.Generation != want.Generation {
			t.Fatalf("step %d: generation %s, want %s", step, got.Generation, want.Generation)
		}
		equalMessages(t, got.Routes, want.Routes)
		version, err := server.Publish("n0", xds.SetOf(got))
		if err != nil {
			t.Fatal(err)
		}
		if alone, err := xds.New(xds.Config{}).Publish("n0", xds.SetOf(want)); version != alone {
			t.Fatalf("step %d: version %s, want %s (%v)", step, version, alone, err)
		}
		if moved == 1 && step > 0 && !steeringMoved {
			for name, table := range got.Routes {
				if n := newHosts(table, last.Routes[name]); n > 2+2*2+3 { // two parts; one more has split or joined; hello, alias, another node
					t.Errorf("step %d: %d of %d virtual hosts of %s are made anew", step, n, len(table.VirtualHosts), name)
				}
			}
		}
		last = got
		spread = append(spread, slices.ContainsFunc(got.Routes["dmsc/fabric"].VirtualHosts, func(h *routev3.VirtualHost) bool {
			return h.Name == "dmsc/group/n1/once/1"
		}))
	}
	if !slices.Contains(spread, true) || !slices.Contains(spread[slices.Index(spread, true):], false) {
		t.Error("no bundle was ever spread over two virtual hosts and joined again")
	}
}

func newHosts(table, last *routev3.RouteConfiguration) (n int) {
	for _, h := range table.GetVirtualHosts() {
		if !slices.Contains(last.GetVirtualHosts(), h) {
			n++
		}
	}
	return n
}

func TestHealthTouchesNoTable(t *testing.T) {
	c := newCrowd(3000)
	var tr translator.Translator
	s := c.state()
	up, err := tr.Translate(s)
	if err != nil {
		t.Fatal(err)
	}
	s.Neighbours = slices.Clone(s.Neighbours)
	s.Neighbours[0].Up = false
	down, err := tr.Translate(s)
	if err != nil {
		t.Fatal(err)
	}
	for name, table := range down.Routes {
		if table != up.Routes[name] {
			t.Errorf("%s is made anew", name)
		}
	}
	if down.Endpoints["dmsc/group/n1"] == up.Endpoints["dmsc/group/n1"] {
		t.Error("nothing has changed")
	}
}

// A Translator makes no table when nothing that routes follow from has changed:
// whatever changes, it gives what is made from nothing.
func TestTablesFollowWhateverChanges(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := newCrowd(20)
	c.put(&rib.Entry{Prefix: crowdPrefix(0), Local: true})
	links := slices.Clone(c.Neighbours)
	changes := []func(s *translator.State){
		func(s *translator.State) {
			c.put(&rib.Entry{Prefix: crowdPrefix(random.IntN(20)), Local: random.IntN(9) == 0, Group: c.groups[random.IntN(5)]})
			s.RIB = c.state().RIB
		},
		func(s *translator.State) { s.Neighbours[0].Up = !s.Neighbours[0].Up },
		func(s *translator.State) { s.Neighbours[1].Data = fmt.Sprintf("127.0.0.1:%d", 200+random.IntN(9)) },
		func(s *translator.State) { s.Neighbours[1].Class = dmsc.LinkClass(random.IntN(3)) },
		func(s *translator.State) { s.Neighbours[1].Data = "no address" },
		func(s *translator.State) {
			s.Neighbours = append(slices.Clone(links), translator.Neighbour{NextHop: rib.NextHop{LinkKey: linkstate.LinkKey{Remote: "n9", ID: "0"}}})
		},
		func(s *translator.State) { s.Neighbours = slices.Clone(links) },
		func(s *translator.State) {
			s.Steering = []translator.Steering{{Prefix: crowdPrefix(random.IntN(3)), Paths: []translator.WeightedPath{
				{Nodes: []dmsc.NodeID{"n0", dmsc.NodeID(fmt.Sprintf("n%d", 8+random.IntN(2))), "n7"}, Weight: 50},
			}}}
		},
		func(s *translator.State) { s.Steering = nil },
		func(s *translator.State) {
			s.Aliases = []translator.Alias{{Host: pick(random, "h.example", "i.example", "bad/"), Prefix: crowdPrefix(random.IntN(2)), From: translator.Side(1 + random.IntN(3))}}
		},
		func(s *translator.State) {
			s.Externals = []translator.External{{Name: "x", Host: "x.example", Port: uint16(random.IntN(3))}}
		},
		func(s *translator.State) { s.Externals = nil },
		func(s *translator.State) { s.Outside.Address = pick(random, "", "127.0.0.1:9") },
		func(s *translator.State) {
			s.Services = []translator.Service{{Prefix: crowdPrefix(0), Address: fmt.Sprintf("127.0.0.1:%d", 300+random.IntN(9))}}
		},
		func(s *translator.State) {
			s.Strict, s.Closed, s.OnDemand = random.IntN(2) > 0, random.IntN(2) > 0, random.IntN(2) > 0
		},
		func(s *translator.State) { s.AccessLog.Fabric = !s.AccessLog.Fabric },
		func(s *translator.State) { s.Addrs.Ingress = pick(random, "", "127.0.0.1:1") },
		func(s *translator.State) { s.Retired = pick(random, nil, []*rib.Group{{Name: "old"}}) },
	}
	var tr translator.Translator
	s := c.state()
	faults := 0
	for step := range 300 {
		s.Neighbours = slices.Clone(s.Neighbours)
		for range 1 + random.IntN(2) {
			changes[random.IntN(len(changes))](&s)
		}
		got, err := tr.Translate(s)
		want, wantErr := translator.Translate(s)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("step %d: %v, want %v", step, err, wantErr)
		}
		if err != nil {
			faults++
			continue
		}
		if got.Generation != want.Generation {
			t.Fatalf("step %d: generation %s, want %s", step, got.Generation, want.Generation)
		}
		equalMessages(t, got.Routes, want.Routes)
		equalMessages(t, got.Clusters, want.Clusters)
		equalMessages(t, got.Endpoints, want.Endpoints)
		equalMessages(t, got.Listeners, want.Listeners)
	}
	if faults == 0 || faults > 280 {
		t.Errorf("%d of 300 states have a fault", faults)
	}
}

func pick[T any](random *rand.Rand, from ...T) T { return from[random.IntN(len(from))] }

// Many names of one bundle are spread over virtual hosts of a size that can be
// sent again for one name; each name is in one.
func TestABundleOfManyNamesHasManyVirtualHosts(t *testing.T) {
	c := newCrowd(20_000)
	r := translate(t, c.state())
	hosts, names := 0, 0
	for _, h := range r.Routes["dmsc/fabric"].VirtualHosts {
		if !strings.HasPrefix(h.Name, "dmsc/group/") {
			continue
		}
		hosts++
		names += len(h.Domains)
		if len(h.Domains) > 1024 {
			t.Errorf("%s has %d domains", h.Name, len(h.Domains))
		}
	}
	if hosts != 5*8 || names != 20_000 {
		t.Errorf("%d names in %d hosts", names, hosts)
	}
}
