package linkstate

import (
	"slices"
	"testing"
)

// A change of prefixes is computed at once. That computation must not find the
// good news that waits: it would be by the links of a node that nobody else
// counts on yet.
func TestGoodNewsThatWaitsIsNotNamedWithOtherChanges(t *testing.T) {
	f := newFoe(t)
	f.update(f.node("foe", "sg-1", "sr-2"), f.node("sr-2", "foe"))
	f.wait(goodNewsDelay)

	better, prefixes := f.node("sr-2", "foe", "sr-3"), f.lsa("sr-2", TypePrefix, 0, "x")
	better.Seq, prefixes.Content = 2, &PrefixLSA{}
	rd := f.update(better, prefixes)
	if rd.Changed != ChangedPrefixes || !slices.Equal(rd.Records, []Key{prefixes.Key}) {
		t.Errorf("change %b of %v is to be computed at once, want only %s", rd.Changed, rd.Records, prefixes.Key)
	}
	f.Tick(f.now.Add(goodNewsDelay))
	if rd := f.Ready(); rd.Changed != ChangedTopology || !slices.Equal(rd.Records, []Key{better.Key}) {
		t.Errorf("change %b of %v is to be computed 20 ms later, want only %s", rd.Changed, rd.Records, better.Key)
	}

	// What cannot wait takes along what could.
	again, lost := f.node("sr-2", "foe", "sr-3", "sr-4"), f.node("foe", "sg-1")
	again.Seq, lost.Seq = 3, 2
	f.update(again)
	if rd := f.update(lost); rd.Changed != ChangedTopology || !slices.Equal(rd.Records, []Key{lost.Key, again.Key}) {
		t.Errorf("change %b of %v is to be computed with the bad news", rd.Changed, rd.Records)
	}
}
