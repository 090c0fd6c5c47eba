package scsc_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/scsc"
)

func line(t *testing.T) *network {
	t.Helper()
	n := newTestNetwork()
	if err := n.read("sg sg-1 sg-2\nsr sr-1 sr-2\nlink sg-1 sr-1 10\nlink sr-1 sg-2 10\nlink sg-1 sr-2 20\nlink sr-2 sg-2 20\nannounce sg-2 b/4"); err != nil {
		t.Fatal(err)
	}
	return n
}

func pinned(id string, nodes ...dmsc.NodeID) scsc.Policy {
	return scsc.Policy{
		ID: id, Rule: "r", Prefix: dmsc.MustParsePrefix("b/4"), Ingress: "sg-1",
		Paths: []scsc.Path{{Nodes: nodes, Weight: 100}},
	}
}

// Of two sets the higher (term, generation) is in force, whatever order they
// arrive in; an equal one only renews the TTL.
func TestOverlayKeepsTheNewestSet(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	set := func(term, generation uint64) scsc.PolicySet {
		return scsc.PolicySet{Term: term, Generation: generation, TTL: time.Minute}
	}
	var o scsc.Overlay
	for _, step := range []struct {
		term, generation uint64
		changed          bool
		wantTerm, want   uint64
	}{
		{1, 5, true, 1, 5},
		{1, 5, false, 1, 5}, // heartbeat
		{1, 4, false, 1, 5},
		{1, 7, true, 1, 7},
		{2, 1, true, 2, 1}, // a new term begins low and wins
		{1, 99, false, 2, 1},
	} {
		if got := o.Apply(now, set(step.term, step.generation)); got != step.changed {
			t.Errorf("Apply %d.%d = %v, want %v", step.term, step.generation, got, step.changed)
		}
		if term, generation := o.Order(); term != step.wantTerm || generation != step.want {
			t.Errorf("after %d.%d the set %d.%d is held, want %d.%d", step.term, step.generation, term, generation, step.wantTerm, step.want)
		}
	}
}

func TestOverlayExpiresToPlainSPF(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	view := line(t).view()
	set := scsc.PolicySet{Term: 3, Generation: 1, TTL: time.Minute, Policies: []scsc.Policy{pinned("p", "sg-1", "sr-2", "sg-2")}}
	var o scsc.Overlay
	o.Apply(now, set)
	o.Verify(view, "sg-1")
	if len(o.Active()) != 1 {
		t.Fatalf("active = %v, want the pin", o.Active())
	}
	now = now.Add(50 * time.Second)
	o.Apply(now, set) // heartbeat
	if o.Tick(now.Add(59*time.Second)) != nil || o.Until() != now.Add(time.Minute) {
		t.Fatalf("held until %v: the heartbeat did not renew it", o.Until())
	}
	if expired := o.Tick(o.Deadline()); len(expired) != 1 {
		t.Errorf("expired = %v, want the pin", expired)
	}
	if o.Verify(view, "sg-1"); len(o.Active()) != 0 || !o.Deadline().IsZero() {
		t.Errorf("active = %v after the TTL, want plain SPF", o.Active())
	}
	// An SCSC that has lost its term is heard once nothing of the old one is left.
	set.Term = 1
	if !o.Apply(now.Add(2*time.Minute), set) {
		t.Error("a lower term is ignored although nothing is held")
	}
}

// Without the SCSC the traffic of a domain returns to plain SPF name by name,
// within a tenth of the TTL; an SCSC that returns meanwhile has all of it again.
func TestPoliciesEndOneAfterTheOther(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const ttl, names = 10 * time.Minute, 50
	set := scsc.PolicySet{Term: 1, Generation: 1, TTL: ttl}
	for i := range names {
		p := pinned(fmt.Sprint(i), "sg-1", "sr-2", "sg-2")
		p.Prefix = dmsc.MustParsePrefix(fmt.Sprintf("b/%d", i/2))
		p.Ingress = []dmsc.NodeID{"sg-1", "sg-2"}[i%2]
		set.Policies = append(set.Policies, p)
	}
	var a, b scsc.Overlay // two nodes
	a.Apply(now, set)
	b.Apply(now, set)
	ended, most := 0, 0
	inTenth := map[int]int{} // of the time in which they end
	for a.Deadline() != (time.Time{}) {
		at := a.Deadline()
		if at != b.Deadline() {
			t.Fatalf("one node ends a policy at %v, another at %v", at, b.Deadline())
		}
		if late := at.Sub(now.Add(ttl)); late < 0 || late > ttl/10 {
			t.Errorf("a policy ends %v after the TTL", late)
		} else {
			inTenth[int(late/(ttl/100))]++
		}
		before := a.Until()
		some := len(a.Tick(at))
		if b.Tick(at); a.Until() != before && ended+some < names {
			t.Errorf("the set is gone with %d of %d policies", ended+some, names)
		}
		ended, most = ended+some, max(most, some)
		if ended == names/2 { // the heartbeat comes after all
			if again := a; !again.Apply(at, set) || again.Until() != at.Add(ttl) {
				t.Error("what has ended does not come back with the SCSC")
			}
		}
	}
	if ended != names || most > 2 || slices.Max(slices.Collect(maps.Values(inTenth))) > names/4 {
		t.Errorf("%d of %d policies ended, %d at once; in each tenth of the time: %v", ended, names, most, inTenth)
	}
}

// A pin is suspended at once when the LSDB contradicts it, and is back when it
// no longer does.
func TestOverlaySuspendsWhatTheLSDBContradicts(t *testing.T) {
	n := line(t)
	var o scsc.Overlay
	o.Apply(time.Time{}.Add(time.Hour), scsc.PolicySet{Term: 1, Generation: 1, TTL: time.Minute, Policies: []scsc.Policy{pinned("p", "sg-1", "sr-2", "sg-2")}})
	check := func(what string, self dmsc.NodeID, active, transit int, reason string) {
		t.Helper()
		o.Verify(n.view(), self)
		if o.Verify(n.view(), self) {
			t.Errorf("%s: Verify reports a change without one", what)
		}
		got := ""
		if len(o.Suspended()) > 0 {
			got = o.Suspended()[0].Reason
		}
		if len(o.Active()) != active || len(o.Transit()) != transit || got != reason {
			t.Errorf("%s: active %d transit %d suspended %q, want %d %d %q", what, len(o.Active()), len(o.Transit()), got, active, transit, reason)
		}
	}
	check("whole", "sg-1", 1, 0, "")
	check("on the path", "sr-2", 0, 1, "")
	n.cut[pair("sr-2", "sg-2")] = true
	check("cut", "sg-1", 0, 0, "there is no two-way link sr-2>sg-2")
	n.cut[pair("sr-2", "sg-2")] = false
	check("restored", "sg-1", 1, 0, "")
	n.prefixes["sg-2"] = nil
	check("withdrawn", "sg-1", 0, 0, "sg-2 does not announce b/4")
}
