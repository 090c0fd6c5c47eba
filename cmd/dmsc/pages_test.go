package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/scsc"
)

// testdata/pages holds the rows of the SCSC's pages, full and empty ones.
func TestPagesOfTheSCSC(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.FixedZone("", 3600))
	link := linkstate.LinkKey{Remote: "sr-2", ID: "1"}
	for name, rows := range map[string]any{
		"policies": pages([]scsc.Row{{
			Ingress: "sg-1", Prefix: dmsc.MustParsePrefix("b"), Rule: "b-fast", State: "VIOLATED",
			Quality:  scsc.Quality{Delay: 81 * time.Millisecond, Jitter: 1500 * time.Microsecond, Loss: 0.01, Available: 2e7, Uncertain: true},
			PolicyID: "7.3", Rollout: scsc.RolloutConfirmed, Reason: "delay", Live: []dmsc.NodeID{"sg-1", "sr-1"},
			Path: scsc.Path{Nodes: []dmsc.NodeID{"sg-1", "sr-1", "sg-4"}, Instance: dmsc.MustParsePrefix("b/4"), Weight: 100},
		}, {
			Ingress: "sg-2", Prefix: dmsc.MustParsePrefix("b/4"), Rule: "b-fast", State: "OK", Quality: scsc.Quality{Available: scsc.Unlimited},
			Rollout: scsc.RolloutHalted, Stopped: "the rollout is halted until the policy is changed: refused by sg-1",
		}}, policyPage),
		"nodes": pages([]scsc.NodeRow{{
			Node: "sg-1", Connected: true, Reported: at, Term: 7, Generation: 3, Policies: 1,
			Plan: scsc.Plan{Generation: 2, Interval: 5 * time.Second, SuspectInterval: time.Second, Suspects: []string{"sr-2#1"}},
		}, {Node: "sr-1"}}, nodePage),
		"links": pages([]scsc.LinkRow{{Node: "sg-1", Reported: at, LinkReport: scsc.LinkReport{
			Link: link, Probes: 20, Lost: 1, RTTMin: time.Millisecond, RTTMedian: 2 * time.Millisecond, RTTP95: 3 * time.Millisecond,
			Jitter: time.Millisecond, SentBPS: 8000, ReceivedBPS: 9000, CapacityBPS: 1e9,
		}}}, linkPage),
		"events": pages([]scsc.Event{{At: at, Kind: "issued", Policy: "7.3", Node: "sg-1", Text: "b from sg-1"}}, eventPage),
	} {
		text, err := json.MarshalIndent(rows, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		if bad := camel(name, v); len(bad) > 0 {
			t.Errorf("not lower_snake_case: %v", bad)
		}
		golden(t, "testdata/pages/"+name+".json", append(text, '\n'))
	}
	if text, _ := json.Marshal(pages([]scsc.Event(nil), eventPage)); string(text) != "[]" {
		t.Errorf("an empty page is %s", text)
	}
}
