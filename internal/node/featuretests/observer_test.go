package featuretests

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/observer"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

func TestAnObserverSeesEverythingAndIsNotSeen(t *testing.T) {
	n := prepare(t, line1, line2)
	n.withSCSC(time.Minute, "sg-1", "sr-1")
	n.start()
	n.pod("pod-1", "sg-1", service("a/1"))
	n.pod("pod-2", "sg-2", service("b/1"))
	n.everywhere("a/1", "b/1")
	n.seen("sg-1: sr-1", "sg-1: a/1", "sg-2: sr-1", "sg-2: b/1", "sr-1: sg-1 sg-2")
	for id, a := range n.nodes {
		if strings.Contains(a.lsdb(), `"scsc`) {
			t.Errorf("the database of %s has records of the observer", id)
		}
	}
	// One of the two it listens to ends: it still hears.
	n.nodes["sg-1"].stop()
	n.pod("pod-3", "sg-2", service("c/1"))
	n.seen("sg-1: sr-1", "sg-1: a/1", "sg-2: sr-1", "sg-2: b/1", "sg-2: c/1", "sr-1: sg-1 sg-2")
}

// seen waits until the observer knows exactly these links and prefixes.
func (n *network) seen(want ...string) {
	n.t.Helper()
	slices.Sort(want)
	n.until("the observer knows everything", func() error {
		var got []string
		if v := n.scsc.lsdb(); v != nil {
			for r := range v.Records.All() {
				var words []string
				switch c := r.Content.(type) {
				case *linkstate.NodeLSA:
					for _, l := range c.Links {
						words = append(words, string(l.Remote))
					}
				case *linkstate.PrefixLSA:
					for _, p := range c.Prefixes {
						words = append(words, p.Prefix.String())
					}
				}
				if len(words) > 0 {
					got = append(got, string(r.Key.Origin)+": "+strings.Join(words, " "))
				}
			}
		}
		slices.Sort(got)
		return when(slices.Equal(got, want), "it knows %q", got)
	})
}

func TestAnObserverOfAnotherDomainLearnsNothing(t *testing.T) {
	n := newNetwork(t, line1)
	refused := make(chan string, 64)
	log := slog.New(slog.NewTextHandler(writer(func(line string) {
		if strings.Contains(line, `is of domain \"other\"`) {
			select {
			case refused <- line:
			default:
			}
		}
	}), nil))
	o, err := observer.New(observer.Config{
		Node: "spy", Domain: "other", Addresses: []string{n.nodes["sg-1"].cfg.Listen.Peering}, Log: log,
		OnView: func(v *linkstate.View) {
			if v.Records.Len() > 0 {
				t.Errorf("the observer was told %d records", v.Records.Len())
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := o.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-refused:
	case <-time.After(patience):
		t.Error("the observer was not refused")
	}
	cancel()
	running.Wait()
}

// writer is a func that takes log lines.
type writer func(line string)

func (w writer) Write(b []byte) (int, error) {
	w(string(b))
	return len(b), nil
}

// design §3: "A domain is one flooding scope; other domains are refused".
func TestANodeOfAnotherDomainIsNoNeighbour(t *testing.T) {
	n := prepare(t, line1, line2)
	n.node("sg-2").cfg.Domain = "other"
	for _, a := range n.nodes {
		a.envoy.start()
		a.start()
	}
	n.converged("sg-2")
	n.pod("pod-1", "sg-1", service("a/1"))
	n.routed("sr-1", "a/1", "sg-1")
	n.until("sr-1 counts the refusal", func() error {
		page := n.nodes["sr-1"].metrics()
		return when(!strings.Contains(page, `dmsc_peering_ignored_total{what="refused_stream"} 0`), "it counts none:\n%s", page)
	})
	if s := n.nodes["sr-1"].adjacency("sg-2"); s != "down" {
		t.Errorf("sr-1's link to sg-2 is %s", s)
	}
	if strings.Contains(n.nodes["sg-2"].lsdb(), "a/1") || n.route("sg-2", "a/1") != "" {
		t.Error("sg-2 has learnt a/1")
	}
}
