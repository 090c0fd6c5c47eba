package xds_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/dmsc-mesh/dmsc/xds"
)

func (f *fixture) history(node string) []xds.Published {
	f.t.Helper()
	h, err := f.History(node)
	if err != nil {
		f.t.Fatal(err)
	}
	return h
}

func TestHistoryHasTheLastSetsAndWhatChanged(t *testing.T) {
	f := serve(t, xds.Config{History: 3})
	for i := range 4 {
		f.publish("sg-1", simple("a", fmt.Sprint("x", i)))
	}
	set := simple("a", "y")
	set.Clusters[0] = cluster("a", 1)
	last := f.publish("sg-1", set)
	f.publish("sg-1", set) // nothing new
	h := f.history("sg-1")
	if len(h) != 3 || h[0].Version != last || h[0].Latest != last {
		t.Fatalf("history %+v", h)
	}
	c := h[0].Changes[xds.Clusters]
	if c.Added != 1 || c.Changed != 1 || c.Removed != 1 || !slices.Equal(c.Names, []string{"~a", "-x3", "+y"}) {
		t.Errorf("clusters: %+v", c)
	}
	if c := h[0].Changes[xds.Routes]; c.Names != nil || c.Added+c.Changed+c.Removed > 0 {
		t.Errorf("routes: %+v", c)
	}
}

func TestHealthDoesNotPushSetsOutOfTheHistory(t *testing.T) {
	f := serve(t, xds.Config{History: 2})
	first := f.publish("sg-1", simple("a"))
	second := f.publish("sg-1", simple("a", "b"))
	set, latest := simple("a", "b"), ""
	for port := range 20 {
		set.Endpoints[0] = endpoints("a", 9000+port)
		latest = f.publish("sg-1", set)
	}
	h := f.history("sg-1")
	if len(h) != 2 || h[0].Version != second || h[0].Latest != latest || h[1].Version != first {
		t.Errorf("history %+v", h)
	}
}

func TestRollbackServesAnEarlierSetUntilResume(t *testing.T) {
	f, c := settled(t, xds.Config{})
	first := f.status("sg-1").Wanted
	f.publish("sg-1", simple("a", "b"))
	c.ExpectAck(xds.Clusters, "+b")
	c.Subscribe(xds.Endpoints, "b")
	c.ExpectAck(xds.Endpoints, "+b")
	f.event(xds.Acked)

	served, err := f.Rollback("sg-1", first)
	if err != nil || served != first {
		t.Fatalf("served %s, %v", served, err)
	}
	c.ExpectAck(xds.Clusters, "-b")
	c.ExpectAck(xds.Endpoints, "-b")
	if e := f.event(xds.Acked); e.Version != first {
		t.Errorf("acked %s, want %s", e.Version, first)
	}

	// What is published now is recorded, and waits.
	newest := f.publish("sg-1", simple("a", "c"))
	c.ExpectNothing()
	st := f.status("sg-1")
	if p := st.Pinned; p == nil || p.Version != first || p.Waiting != 2 || p.Newest != newest || p.Since.IsZero() {
		t.Errorf("pinned %+v", p)
	}
	if !st.Converged || st.Wanted != first {
		t.Errorf("status %+v", st)
	}
	if h := f.history("sg-1"); len(h) != 3 || h[0].Version != newest || h[0].Pinned || !h[2].Pinned {
		t.Errorf("history %+v", h)
	}

	if served, err := f.Resume("sg-1"); err != nil || served != newest {
		t.Fatalf("served %s, %v", served, err)
	}
	c.ExpectAck(xds.Clusters, "+c")
	c.Subscribe(xds.Endpoints, "c")
	c.ExpectAck(xds.Endpoints, "+c")
	f.event(xds.Acked)
	if st := f.status("sg-1"); st.Pinned != nil || !st.Converged {
		t.Errorf("status %+v", st)
	}
}

func TestHealthFollowsTheNewestSetUnderAPin(t *testing.T) {
	f, c := settled(t, xds.Config{})
	first := f.status("sg-1").Wanted
	if _, err := f.Rollback("sg-1", first); err != nil { // to what it runs: a freeze
		t.Fatal(err)
	}
	set := simple("a", "b")
	set.Endpoints[0] = endpoints("a", 9000)
	f.publish("sg-1", set)
	moved := c.ExpectAck(xds.Endpoints, "+a")
	c.ExpectNothing() // and nothing of b
	if e := f.event(xds.Acked); e.Version != f.status("sg-1").Wanted || e.Version == first {
		t.Errorf("acked %s; pinned to %s", e.Version, first)
	}
	f.publish("sg-1", simple("b")) // no a: it keeps the newest endpoints it had
	c.ExpectNothing()
	if got := c.Held[xds.Endpoints]["a"]; got != moved.GetResources()[0].GetVersion() {
		t.Errorf("a's endpoints are %s", got)
	}
}

func TestAPinnedSetStaysInTheHistory(t *testing.T) {
	f := serve(t, xds.Config{History: 2})
	first := f.publish("sg-1", simple("a"))
	if _, err := f.Rollback("sg-1", first); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		f.publish("sg-1", simple("a", fmt.Sprint("x", i)))
	}
	if h := f.history("sg-1"); len(h) != 3 || h[2].Version != first || !h[2].Pinned {
		t.Errorf("history %+v", h)
	}
	if p := f.status("sg-1").Pinned; p.Waiting != 2 {
		t.Errorf("pinned %+v", p)
	}
}

func TestRollbackOfWhatIsNotThereChangesNothing(t *testing.T) {
	f, c := settled(t, xds.Config{})
	if _, err := f.Rollback("sg-1", "abc"); !errors.Is(err, xds.ErrUnknownVersion) {
		t.Error(err)
	}
	if _, err := f.Rollback("sg-2", "abc"); !errors.Is(err, xds.ErrUnknownNode) {
		t.Error(err)
	}
	if _, err := f.Resume("sg-2"); !errors.Is(err, xds.ErrUnknownNode) {
		t.Error(err)
	}
	if _, err := f.History("sg-2"); !errors.Is(err, xds.ErrUnknownNode) {
		t.Error(err)
	}
	c.ExpectNothing()
	if st := f.status("sg-1"); st.Pinned != nil || !st.Converged {
		t.Errorf("status %+v", st)
	}
}

// What an old set alone keeps alive counts; what the newest has too does not.
func TestLargeSetsLeaveTheHistoryBeforeTheirTime(t *testing.T) {
	f := serve(t, xds.Config{})
	large := func(rev int) xds.Set {
		set := simple("a")
		set.Clusters[0].Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			"large": {Fields: map[string]*structpb.Value{"is": structpb.NewStringValue(strings.Repeat(string(rune('a'+rev)), 20<<20))}},
		}}
		return set
	}
	var versions []string
	for rev := range 5 {
		versions = append(versions, f.publish("sg-1", large(rev)))
	}
	for i := range 3 { // the same large cluster, and one that is small
		set := large(4)
		small := simple(names("c", i+1)...)
		set.Clusters, set.Endpoints = append(set.Clusters, small.Clusters...), append(set.Endpoints, small.Endpoints...)
		versions = append(versions, f.publish("sg-1", set))
	}
	h := f.history("sg-1")
	slices.Reverse(h)
	var kept []string
	for _, p := range h {
		kept = append(kept, p.Version)
	}
	if !slices.Equal(kept, versions[1:]) {
		t.Errorf("kept %d of %d sets: %v of %v", len(kept), len(versions), kept, versions)
	}
}

// A link that flaps makes the same two sets over and over.
func TestSetsThatComeBackDoNotPushOthersOutOfTheHistory(t *testing.T) {
	f := serve(t, xds.Config{History: 4})
	wanted := f.publish("sg-1", simple("wanted"))
	up, down := simple("a", "b"), simple("b")
	for range 20 {
		f.publish("sg-1", up)
		// What requests under way still need is no difference.
		passing := simple("b", "a")
		passing.Passing = []string{"a"}
		f.publish("sg-1", passing)
		f.publish("sg-1", down)
	}
	h := f.history("sg-1")
	if len(h) != 3 || h[2].Version != wanted || h[2].Times != 1 {
		t.Fatalf("history %+v", h)
	}
	for _, p := range h[:2] {
		if p.Times != 20 || !p.Last.After(p.Time) || p.Last.Before(h[2].Last) {
			t.Errorf("%s came %d times, first at %v, last at %v", p.Version, p.Times, p.Time, p.Last)
		}
	}
	// What the way back to it changes, not the way there at first; and the oldest goes first still.
	last := f.publish("sg-1", up)
	if h = f.history("sg-1"); h[0].Latest != last || !slices.Equal(h[0].Changes[xds.Clusters].Names, []string{"+a"}) {
		t.Errorf("history %+v", h[0])
	}
	f.publish("sg-1", simple("x"))
	f.publish("sg-1", simple("y"))
	if h = f.history("sg-1"); len(h) != 4 || h[2].Latest != last || h[3].Version == wanted {
		t.Errorf("history %+v", h)
	}
}

func TestAPinnedSetThatIsTheNewestAgainLeavesNothingWaiting(t *testing.T) {
	f := serve(t, xds.Config{})
	first := f.publish("sg-1", simple("a"))
	f.publish("sg-1", simple("b"))
	if _, err := f.Rollback("sg-1", first); err != nil {
		t.Fatal(err)
	}
	if p := f.status("sg-1").Pinned; p.Waiting != 1 {
		t.Errorf("pinned %+v", p)
	}
	f.publish("sg-1", simple("a"))
	if p := f.status("sg-1").Pinned; p == nil || p.Waiting != 0 || p.Newest != first {
		t.Errorf("pinned %+v", p)
	}
	f.publish("sg-1", simple("c"))
	if p := f.status("sg-1"); p.Pinned.Waiting != 1 || p.Wanted != first {
		t.Errorf("%+v, pinned %+v", p, p.Pinned)
	}
}
