package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/peering"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
)

// A dead node is told of in as many records as it had neighbours, and each may
// change the FIB. A storm is another matter.
func TestAFewChangesAreComputedAtOnceAndAStormInASixthOfTheTime(t *testing.T) {
	const cost = 4 * time.Millisecond
	var l loopState
	start := time.Unix(1000, 0)
	now, computed, atOnce := start, time.Duration(0), 0
	for now.Before(start.Add(time.Minute)) { // there is always something to compute
		if now.Before(l.restless) {
			now = l.restless
		} else if now.Equal(start.Add(computed)) {
			atOnce++
		}
		l.spend(now, cost)
		now = now.Add(cost)
		computed += cost
	}
	if want := computeAhead / (computeShare + 1) / cost; atOnce < int(want) || atOnce > 2*int(want) {
		t.Errorf("%d changes of %v each were computed without a rest, want about %d", atOnce, cost, want)
	}
	if share := computed.Seconds() / 60; share < 0.16 || share > 0.18 {
		t.Errorf("a storm takes %.3f of the time, want a sixth", share)
	}
	// After a rest the next change finds everything paid for.
	now = now.Add(time.Minute)
	if now.Before(l.restless) {
		t.Error("a change after a quiet minute has to wait")
	}
}

func TestWhatChangesNoInputOfTheTranslationIsNotTranslated(t *testing.T) {
	full := func() *publication {
		nb := translator.Neighbour{Data: "127.0.0.1:1", Up: true}
		nb.LinkKey = linkstate.LinkKey{Remote: "sr-1", ID: "0"}
		return &publication{
			version: "1", rib: &rib.RIB{}, steering: []translator.Steering{{PolicyID: "p"}}, retired: []*rib.Group{{Name: "g"}},
			neighbours: []translator.Neighbour{nb}, offer: &offer{}, documents: &border.Set{},
		}
	}
	a := full()
	b := *a
	b.steering = full().steering // equal, not the same
	b.neighbours, b.at, b.version = full().neighbours, time.Now(), ""
	if !a.sameInput(&b) {
		t.Error("the same input is translated again")
	}
	for name, change := range map[string]func(p *publication){
		"routes":     func(p *publication) { p.rib = &rib.RIB{} },
		"steering":   func(p *publication) { p.steering = nil },
		"retired":    func(p *publication) { p.retired = nil },
		"neighbours": func(p *publication) { p.neighbours = full().neighbours; p.neighbours[0].Up = false },
		"pods":       func(p *publication) { p.offer = &offer{} },
		"clients":    func(p *publication) { p.closed = true },
		"documents":  func(p *publication) { p.documents = &border.Set{} },
	} {
		c := *a
		change(&c)
		if a.sameInput(&c) {
			t.Errorf("a change of %s is not translated", name)
		}
	}
}

// Nothing is published before the database is complete, and hundreds of turns
// that each bring a part of it would be computed in vain.
func TestNoRoutesAreComputedFromAPartOfTheDatabase(t *testing.T) {
	instance, err := linkstate.New(linkstate.Config{Node: "sr-1", Domain: "d", Role: dmsc.RoleSR, Incarnation: 1, Encode: peering.Encode}, t0)
	if err != nil {
		t.Fatal(err)
	}
	// The neighbour does not come.
	instance.Step(t0, linkstate.SetLinks{Links: []linkstate.LinkConfig{{LinkKey: linkstate.LinkKey{Remote: "sr-2", ID: "0"}, Metric: 10}}})
	instance.Tick(t0)
	n := &Node{instance: instance, started: t0, engine: rib.New("sr-1")}
	n.collect(instance.Ready(), t0)
	if change := n.compute(t0.Add(publishLimit - 1)); change != 0 || n.rib != nil || n.loop.pending == 0 {
		t.Errorf("computed too early: a change of %v, %v is pending", change, n.loop.pending)
	}
	if change := n.compute(t0.Add(publishLimit)); change == 0 || n.rib == nil || !n.loop.run.first {
		t.Errorf("not computed when the neighbour is given up: a change of %v", change)
	}
}

// The whole control plane was killed and starts at once: an Envoy goes on by the
// FIB of our last life until what we have heard names nobody we have not heard,
// and nothing more comes. One that is as new as we are does not wait.
func TestAnEnvoyThatForwardsKeepsItsFIBUntilTheNetworkHasTold(t *testing.T) {
	node := func(id, neighbour dmsc.NodeID) *linkstate.LSA {
		return &linkstate.LSA{
			Key:     linkstate.Key{Origin: id, Type: linkstate.TypeNode},
			Content: &linkstate.NodeLSA{Links: []linkstate.Link{{Remote: neighbour, ID: "0", Metric: 10}}},
		}
	}
	part := linkstate.NewRecords(node("sg-1", "sr-2"))
	whole := linkstate.NewRecords(node("sg-1", "sr-2"), node("sr-2", "sg-1"))
	type news struct {
		after   time.Duration // of the start
		records linkstate.Records
	}
	// published runs the turns of a loop, which gets these records and ends when it
	// may replace what Envoy runs; that long after the start.
	published := func(synced, forwards bool, comes ...news) time.Duration {
		n, now, view := &Node{started: t0}, t0, &linkstate.View{Synced: synced}
		n.loop.dataPlane, n.loop.dataPlaneKnown = forwards, true
		for {
			for len(comes) > 0 && !now.Before(t0.Add(comes[0].after)) {
				view.Records, n.loop.heard, comes = comes[0].records, now, comes[1:]
			}
			at := n.complete(view, now)
			if len(comes) == 0 && !now.Before(at) {
				return now.Sub(t0)
			}
			if now = now.Add(lull / 20); at.Before(now) && len(comes) > 0 {
				t.Fatalf("published %v after the start, before %v", at.Sub(t0), comes[0].after)
			}
		}
	}
	soon, later := publishLimit/10, publishLimit/5
	for promise, c := range map[string]struct{ got, want time.Duration }{
		"a neighbour that does not answer is given up":      {published(false, true, news{0, whole}), publishLimit},
		"an Envoy as new as its agent waits for nothing":    {published(true, false, news{0, part}), 0},
		"a node that others name and that has told nothing": {published(true, true, news{0, part}), publishLimit},
		"all have told, and nothing comes any more":         {published(true, true, news{0, whole}), lull},
		"a moment after the last one has told":              {published(true, true, news{0, part}, news{later, whole}), later + lull},
		"records that still come are waited for":            {published(true, true, news{soon, whole}, news{soon + lull/2, whole}), soon + 3*lull/2},
		"records that keep coming are not waited for, in the end": {published(true, true, func() (all []news) {
			for at := time.Duration(0); at < publishLimit; at += lull / 2 {
				all = append(all, news{at, whole})
			}
			return all
		}()...), publishLimit},
	} {
		if c.got != c.want {
			t.Errorf("%s: published %v after the start, not %v", promise, c.got, c.want)
		}
	}
}

// Each probe and each acknowledgement is a turn, and a database may be large.
func TestTheDatabaseIsWalkedOnceForEachChangeWhileItsEndIsAwaited(t *testing.T) {
	var links []linkstate.Link
	for i := range 100 {
		links = append(links, linkstate.Link{Remote: dmsc.NodeID(fmt.Sprintf("sr-%d", i)), ID: "0"})
	}
	records := linkstate.NewRecords(&linkstate.LSA{
		Key: linkstate.Key{Origin: "sg-1", Type: linkstate.TypeNode}, Content: &linkstate.NodeLSA{Links: links},
	})
	n, view := &Node{started: t0}, &linkstate.View{Synced: true, Records: records}
	n.loop.dataPlane, n.loop.dataPlaneKnown, n.loop.heard = true, true, t0
	walks := func(after time.Duration, turn func()) bool { // a walk of so many makes maps
		return testing.AllocsPerRun(1, func() {
			turn()
			n.complete(view, t0.Add(after))
		}) > 0
	}
	forget := func() { n.loop.toldAt = time.Time{} }
	if walks(lull-1, forget) {
		t.Error("walked while records may still come")
	}
	if !walks(lull, forget) {
		t.Error("not walked when none has come for a while: this test is blind")
	}
	if walks(lull, func() {}) {
		t.Error("walked again although nothing came")
	}
	n.loop.heard = t0.Add(lull)
	view.Records = linkstate.NewRecords()
	if at := n.complete(view, t0.Add(2*lull)); !at.Equal(t0.Add(2 * lull)) {
		t.Errorf("the change was not looked at: to be published at %v", at.Sub(t0))
	}
}
