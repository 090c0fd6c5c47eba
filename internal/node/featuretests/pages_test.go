package featuretests

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// read reads a page of the agent as the reading verbs do.
func read[T any](a *agent, path string, q url.Values) (out T) {
	a.n.t.Helper()
	if err := (admin.Client{Address: a.cfg.Listen.Health}).Read(a.n.t.Context(), path, q, &out); err != nil {
		a.n.t.Fatal(err)
	}
	return out
}

// The log of computations says which record changed, and how: a link, a
// metric's way, a prefix, a neighbour; and what that moved.
func TestTheLogSaysWhyRoutesWereComputed(t *testing.T) {
	n := newNetwork(t, line1, line2)
	a := n.nodes["sg-1"]
	log := func() []node.Computation { return read[[]node.Computation](a, "/api/v1/spf-log", nil) }
	if c := log(); c[len(c)-1].Kind != "first" {
		t.Errorf("the first computation is %+v", c[len(c)-1])
	}
	said := func(want string) {
		t.Helper()
		n.until("the log says "+want, func() error {
			for _, c := range log() {
				for _, cause := range c.Causes {
					if strings.HasPrefix(cause.Record+cause.Link+": "+strings.Join(cause.What, ", "), want) {
						return nil
					}
				}
			}
			return when(false, "it says %+v", log())
		})
	}
	p := n.pod("pod-2", "sg-2", service("b/1"))
	n.routed("sg-1", "b/1", "sr-1")
	said(bucket("sg-2", "b/1") + ": new, prefix b/1 added")
	c := log()[0]
	if c.Entries == 0 || c.ComputeMicros < 0 || c.Version == "" || c.Failed {
		t.Errorf("the last computation is %+v", c)
	}
	p.withdraw()
	n.routed("sg-1", "b/1", "")
	said(bucket("sg-2", "b/1") + ": withdrawn")
	n.nodes["sr-1"].order("cost")
	said("sr-1.node: last resort")
	n.nodes["sg-2"].envoy.kill()
	n.until("sr-1 has lost sg-2", func() error {
		state := n.nodes["sr-1"].adjacency("sg-2")
		return when(state != "full", "it is %s", state)
	})
	said("sr-1.node: link to sg-2 down")
	n.until("sr-1 says so of its neighbour", func() error {
		for _, c := range read[[]node.Computation](n.nodes["sr-1"], "/api/v1/spf-log", nil) {
			if slices.ContainsFunc(c.Causes, func(c node.Cause) bool { return c.Link == "sg-2" && strings.HasPrefix(c.What[0], "full → ") }) {
				return nil
			}
		}
		return when(false, "it does not")
	})
	if c := read[[]node.Computation](a, "/api/v1/spf-log", url.Values{"limit": {"1"}}); len(c) != 1 {
		t.Errorf("?limit=1 answers %d computations", len(c))
	}
}

// What was computed, what was published and what Envoy runs are three things.
func TestTheFIBPageTellsWhatEnvoyRuns(t *testing.T) {
	n := newNetwork(t, line1, line2)
	n.pod("pod-2", "sg-2", service("b/1"))
	n.routed("sg-1", "b/1", "sr-1")
	n.settled("sg-1")
	a := n.nodes["sg-1"]
	entry := func(path, name string) (e node.EntryStatus) {
		for _, e = range read[[]node.EntryStatus](a, path, nil) {
			if e.Prefix == name {
				return e
			}
		}
		return node.EntryStatus{}
	}
	if e := entry("/api/v1/rib", "b/1"); e.Group != "sr-1" || e.NoBackup == "" || e.InEnvoy != "" {
		t.Errorf("the RIB has %+v", e)
	}
	if e := entry("/api/v1/fib", "b/1"); e.Group != "sr-1" || e.InEnvoy != "acked" {
		t.Errorf("the FIB has %+v", e)
	}
	a = n.nodes["sg-2"] // which delivers b/1 whatever happens
	n.settled("sg-2")
	a.envoy.kill()
	n.until("nothing is known of the Envoy", func() error {
		e := entry("/api/v1/fib", "b/1")
		return when(e.InEnvoy == "unknown", "%+v", e)
	})
	s := a.Status()
	if s.FIBStatus.Unacked == 0 || s.FIBStatus.Unpublished != 0 {
		t.Errorf("the summary is %+v", s.FIBStatus)
	}
}

func TestALookupSaysWhoAnswersAndWhy(t *testing.T) {
	n := newNetwork(t, line1, line2)
	n.pod("pod-2", "sg-2", service("b/1"))
	n.routed("sg-1", "b/1", "sr-1")
	for name, want := range map[string]string{
		"b/1":            "b/1 announced as such",
		"b/1/x":          "b/1 the longest announced prefix of b/1/x",
		"b":              "b the pool of the instances directly below b",
		"dmsc/node/sg-2": "dmsc/node/sg-2 the name of a node",
		"b/2":            " nobody announces it; b is a pool, which answers its exact name only",
		"c":              " nobody announces it, nor a prefix of it",
	} {
		l := read[node.Lookup](n.nodes["sg-1"], "/api/v1/lookup", url.Values{"name": {name}})
		prefix := ""
		if l.Computed != nil {
			prefix = l.Computed.Prefix
		}
		if got := prefix + " " + l.Why; got != want {
			t.Errorf("%s is answered by %q, want %q", name, got, want)
		}
		if owners := strings.HasPrefix(name, "b") && name != "b/2"; owners != (len(l.Owners) == 1 && l.Owners[0].Chosen && l.Owners[0].Node == "sg-2") {
			t.Errorf("%s has the owners %+v", name, l.Owners)
		}
	}
	// The gateway goes; what it announced stays in the database for a while.
	n.nodes["sg-2"].envoy.kill()
	n.routed("sg-1", "b/1", "")
	l := read[node.Lookup](n.nodes["sg-1"], "/api/v1/lookup", url.Values{"name": {"b/1"}})
	if l.Computed != nil || l.Why != "announced, but by no node that can be reached" || len(l.Owners) != 1 || l.Owners[0].Why != "it cannot be reached" {
		t.Errorf("b/1 is answered by %+v", l)
	}
}

// bucket is the key of the record that holds a prefix of a node.
func bucket(origin dmsc.NodeID, prefix string) string {
	return linkstate.Key{Origin: origin, Type: linkstate.TypePrefix, Fragment: linkstate.Bucket(dmsc.MustParsePrefix(prefix))}.String()
}
