package rib_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// simulation is a network of protocol instances, each with an Engine that is
// told what the instance says has changed, and what the test knows to be true.
type simulation struct {
	*linkstatetest.Network
	engines   map[dmsc.NodeID]*rib.Engine
	ribs      map[dmsc.NodeID]*rib.RIB
	nodes     []dmsc.NodeID
	links     [][2]dmsc.NodeID
	dead      map[dmsc.NodeID]bool
	cut       map[[2]dmsc.NodeID]bool
	announced map[dmsc.NodeID][]string
}

func newSimulation(seed uint64, r *rand.Rand) *simulation {
	s := &simulation{
		Network: linkstatetest.NewNetwork(seed),
		engines: map[dmsc.NodeID]*rib.Engine{}, ribs: map[dmsc.NodeID]*rib.RIB{},
		dead: map[dmsc.NodeID]bool{}, cut: map[[2]dmsc.NodeID]bool{}, announced: map[dmsc.NodeID][]string{},
	}
	s.OnReady = func(id dmsc.NodeID, rd linkstate.Ready) {
		if rd.Changed == 0 {
			return
		}
		if s.engines[id] == nil {
			s.engines[id] = rib.New(id)
		}
		s.ribs[id], _ = s.engines[id].Update(s.Instance(id).View(), rd.Changed, rd.Records)
	}
	n := 4 + r.IntN(5)
	for i := range n {
		id, role := dmsc.NodeID(fmt.Sprintf("sr-%d", i)), dmsc.RoleSR
		if i%3 == 2 {
			id, role = dmsc.NodeID(fmt.Sprintf("sg-%d", i)), dmsc.RoleSG
		}
		s.nodes = append(s.nodes, id)
		s.AddNode(id, role)
	}
	for i := 1; i < n; i++ {
		s.link(i, r.IntN(i), r)
	}
	for range n {
		s.link(r.IntN(n), r.IntN(n), r)
	}
	for i, id := range s.nodes {
		for _, p := range []string{fmt.Sprintf("a/%d", i), fmt.Sprintf("b/%d", i%3), "c"} {
			if r.IntN(2) == 0 {
				s.announce(id, p)
			}
		}
	}
	return s
}

func (s *simulation) link(i, j int, r *rand.Rand) {
	key := [2]dmsc.NodeID{s.nodes[min(i, j)], s.nodes[max(i, j)]}
	if i != j && !slices.Contains(s.links, key) {
		s.links = append(s.links, key)
		s.AddLink(key[0], key[1], linkstatetest.Link{
			Metric: dmsc.Metric(1 + r.IntN(5)), Reverse: dmsc.Metric(1 + r.IntN(5)), Delay: time.Duration(1+r.IntN(10)) * time.Millisecond,
		})
	}
}

func (s *simulation) announce(id dmsc.NodeID, p string) {
	if !slices.Contains(s.announced[id], p) {
		s.announced[id] = append(s.announced[id], p)
	}
	s.Announce(id, linkstatetest.Prefix(p))
}

// fault does something to the network.
func (s *simulation) fault(r *rand.Rand) {
	id, link := s.nodes[r.IntN(len(s.nodes))], s.links[r.IntN(len(s.links))]
	switch r.IntN(9) {
	case 0:
		s.Kill(id)
		s.dead[id] = true
		delete(s.engines, id) // it died with the agent
	case 1:
		s.KillAgent(id)
		delete(s.engines, id)
		s.Run(time.Duration(r.IntN(2000)) * time.Millisecond)
		s.Restart(id)
		delete(s.dead, id)
	case 2, 3:
		s.Restart(id)
		delete(s.dead, id)
	case 4:
		s.Cut(link[0], link[1], "0")
		s.cut[link] = true
	case 5:
		s.CutSilently(link[0], link[1], "0")
		s.cut[link] = true
	case 6:
		s.Heal(link[0], link[1], "0")
		delete(s.cut, link)
	case 7:
		s.Change(link[0], link[1], "0", func(l *linkstatetest.Link) { l.Metric = dmsc.Metric(1 + r.IntN(9)) })
	case 8:
		if s.dead[id] {
			return
		}
		if len(s.announced[id]) > 0 {
			p := s.announced[id][0]
			s.announced[id] = s.announced[id][1:]
			s.Withdraw(id, p)
		}
		s.announce(id, fmt.Sprintf("d/%d", r.IntN(3)))
	}
}

// reachable returns the live nodes that have a live path to from.
func (s *simulation) reachable(from dmsc.NodeID) map[dmsc.NodeID]bool {
	found := map[dmsc.NodeID]bool{from: true}
	for range s.nodes {
		for _, l := range s.links {
			if (found[l[0]] || found[l[1]]) && !s.cut[l] && !s.dead[l[0]] && !s.dead[l[1]] {
				found[l[0]], found[l[1]] = true, true
			}
		}
	}
	return found
}

// TestSimulatedNetworkForwards runs the protocol with faults, waits, and walks
// from every live node to every name: no loop, no black hole for a name that a
// reachable node announces, and no entry for one that none does. Some nodes and
// links stay dead, so that networks may also be in parts.
func TestSimulatedNetworkForwards(t *testing.T) {
	walks, spared := 0, 0
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 8))
		s := newSimulation(seed, r)
		s.Run(3 * time.Second)
		for range r.IntN(12) {
			s.fault(r)
			s.Run(time.Duration(r.IntN(3000)) * time.Millisecond)
		}
		s.Run(90 * time.Second) // longer than hold and lease

		for _, from := range s.nodes {
			if s.dead[from] {
				continue
			}
			if got, want := s.ribs[from].String(), rib.Compute(s.Instance(from).View()).String(); got != want {
				t.Fatalf("seed %d: the engine of %s was not told of all changes:\n%s\nwant\n%s", seed, from, got, want)
			}
			owners := map[string][]dmsc.NodeID{}
			for id := range s.reachable(from) {
				for _, p := range s.announced[id] {
					owners[p] = append(owners[p], id)
				}
				if id != from {
					owners["dmsc/node/"+string(id)] = []dmsc.NodeID{id}
				}
			}
			for name := range owners {
				w := newWalker(s.ribs, name, failure{node: "nothing"})
				w.visit(from)
				if w.loop != nil || w.dropped != nil {
					t.Fatalf("seed %d: %s from %s loops at %v, is lost at %v\n%s", seed, name, from, w.loop, w.dropped, s.ribs[from])
				}
				walks++
			}
			for en := range s.ribs[from].All() {
				if en.Kind != rib.Function && owners[en.Prefix.String()] == nil {
					t.Fatalf("seed %d: %s has %s, which no reachable node announces", seed, from, en)
				}
				if en.Group != nil && len(en.Group.Backup) > 0 {
					spared++
				}
			}
		}
	}
	t.Logf("%d walks; %d entries with an alternate", walks, spared)
	if walks < 2000 || spared < 500 {
		t.Error("too few to prove much")
	}
}
