package node

import (
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

func TestTheLogOfComputationsIsBounded(t *testing.T) {
	var log []*computation
	for i := range 3 * spfLogLength {
		before := log
		log = appended(log, &computation{coalesced: i})
		if len(before) > 0 && before[len(before)-1].coalesced != i-1 {
			t.Fatal("a reader's log changed under it")
		}
	}
	want(t, len(log), spfLogLength)
	want(t, log[0].coalesced, 2*spfLogLength)
	want(t, log[spfLogLength-1].coalesced, 3*spfLogLength-1)
}

func TestCausesAreWhatDiffersAndNoMoreThanCanBeListed(t *testing.T) {
	up := linkstate.Adjacency{LinkConfig: linkstate.LinkConfig{LinkKey: linkstate.LinkKey{Remote: "sr-1", ID: "0"}}, State: linkstate.StateFull}
	down := up
	down.State = linkstate.StateDown
	refreshed, moved := lsa("sg-1", 1, 2), lsa("sg-1", 2, 2)
	moved.Body = []byte("other")
	was := &linkstate.View{Adjacencies: []linkstate.Adjacency{up}, Records: linkstate.NewRecords(lsa("sg-1", 1, 1), lsa("sg-1", 2, 1))}
	is := &linkstate.View{Adjacencies: []linkstate.Adjacency{down}, Records: linkstate.NewRecords(refreshed, moved)}
	touched := []linkstate.Key{moved.Key, refreshed.Key, moved.Key}
	causes, omitted := causesOf(was, is, touched)
	want(t, len(causes), 2)
	want(t, omitted, 0)
	want(t, causes[0].page(t0), Cause{Link: "sr-1", What: []string{"full → down"}})
	want(t, causes[1].page(t0).Record, "sg-1.prefix.2")

	for f := range uint32(100) {
		touched = append(touched, linkstate.Key{Origin: dmsc.NodeID("x"), Type: linkstate.TypePrefix, Fragment: f})
	}
	causes, omitted = causesOf(was, is, touched)
	want(t, len(causes), maxCauses)
	want(t, omitted, 100-maxCauses+2)
	if causes, _ := causesOf(nil, is, touched); causes != nil {
		t.Errorf("the first computation has the causes %v", causes)
	}
	c := &computation{began: t0, first: true}
	want(t, c.page(t0.Add(time.Second)).Kind, "first")
}

func TestADifferenceIsToldInWords(t *testing.T) {
	is := func(c linkstate.Content) *Record {
		r := record(&linkstate.LSA{Key: linkstate.Key{Origin: "sr-1", Type: linkstate.TypeNode}, Content: c}, t0, true)
		return &r
	}
	link := func(to dmsc.NodeID, id dmsc.LinkID, m dmsc.Metric) linkstate.Link {
		return linkstate.Link{Remote: to, ID: id, Metric: m}
	}
	prefix := func(p string, m dmsc.Metric, weight uint32) linkstate.Prefix {
		return linkstate.Prefix{Prefix: dmsc.MustParsePrefix(p), Metric: m, Weight: weight}
	}
	gone := &Record{Tombstone: true}
	for _, c := range []struct {
		was, is *Record
		want    []string
	}{
		{nil, nil, nil},
		{nil, gone, nil},
		{is(&linkstate.NodeLSA{}), gone, []string{"withdrawn"}},
		{is(&linkstate.NodeLSA{Links: []linkstate.Link{link("a", "0", 1)}}), is(&linkstate.NodeLSA{Links: []linkstate.Link{link("a", "0", 1)}}), nil},
		{nil, is(&linkstate.NodeLSA{Links: []linkstate.Link{link("a", "0", 1)}}), []string{"new", "link to a up (metric 1)"}},
		{
			is(&linkstate.NodeLSA{Transit: true, Links: []linkstate.Link{link("a", "0", 1), link("a", "1", 1)}}),
			is(&linkstate.NodeLSA{Algorithm: 1, Links: []linkstate.Link{link("a", "1", dmsc.LastResort), link("b", "0", 2*dmsc.LastResort+5)}}),
			[]string{"last resort", "metric algorithm igp → delay", "link to a#1: metric 1 → last resort", "link to b up (metric 2 last resorts + 5)", "link to a down"},
		},
		{
			is(&linkstate.PrefixLSA{Prefixes: []linkstate.Prefix{prefix("a/1", 0, 1), prefix("b/1", 0, 1), prefix("c/1", 0, 1)}}),
			is(&linkstate.PrefixLSA{Prefixes: []linkstate.Prefix{prefix("a/1", 5, 1), prefix("c/1", 0, 2), prefix("d/1", 0, 1)}}),
			[]string{"prefix a/1: metric 0 → 5", "prefix c/1: weight 1 → 2", "prefix d/1 added", "prefix b/1 removed"},
		},
		{is(&linkstate.AuthLSA{POA: []byte{1}}), is(&linkstate.AuthLSA{POA: []byte{2}}), []string{"another authorization"}},
		{is(nil), &Record{BodySHA256: "other"}, []string{"another body, which is not understood here"}},
	} {
		want(t, Difference(c.was, c.is), c.want)
	}
}
