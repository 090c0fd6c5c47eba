package rib_test

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// TestScenes runs testdata/*.txt. A scene draws a network and asks for RIBs:
//
//	network                     add to the network, or take away:
//	link sg-1 sr-1 10           metric both ways ("10 20": there and back; "#1": link id)
//	cut sg-1 sr-1
//	prefix sg-1 a/1 metric=5 preference=1 weight=2 safe
//	withdraw sg-1 a/1
//	drain sr-1                  transit only as a last resort, as every sg-*
//	algorithm sr-1 1
//	avoid sr-1 red blue         links with these tags, as part of its algorithm
//	tag sg-1 sr-1 red
//	held sr-1                   the root's link 0 to sr-1 is held
//	resumed                     held links are so because the root has restarted
//	remove sr-1
//
//	rib root=sg-1 [nodes]       entries, with dmsc/node/<id> only on request
//	delta root=sg-1 [change=…]  what an Engine kept since the last delta changed
//	lookup root=sg-1            one name per line
func TestScenes(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		net := newNetwork()
		engines := map[dmsc.NodeID]*rib.Engine{}
		last := map[dmsc.NodeID]*rib.RIB{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "network" {
				for line := range strings.Lines(d.Input) {
					net.apply(t, line)
				}
				return ""
			}
			var arg string
			d.ScanArgs(t, "root", &arg)
			root := dmsc.NodeID(arg)
			r := rib.Compute(net.view(root))
			var b strings.Builder
			switch d.Cmd {
			case "rib":
				for en := range r.All() {
					if en.Kind != rib.Node || d.HasArg("nodes") {
						fmt.Fprintln(&b, en)
					}
				}
			case "lookup":
				for name := range strings.FieldsSeq(d.Input) {
					if en := r.Lookup(name); en != nil {
						fmt.Fprintf(&b, "%s: %s\n", name, en)
					} else {
						fmt.Fprintf(&b, "%s: none\n", name)
					}
				}
			case "delta":
				if engines[root] == nil {
					engines[root] = rib.New(root)
				}
				change := linkstate.ChangedTopology
				if d.HasArg("prefixes") {
					change = linkstate.ChangedPrefixes
				} else if d.HasArg("neighbours") {
					change = linkstate.ChangedNeighbours
				}
				view := net.view(root)
				next, delta := engines[root].Update(view, change, net.changed(view))
				if next.String() != r.String() {
					t.Fatalf("the engine has\n%s\nwant\n%s", next, r)
				}
				if next == last[root] {
					return "the same RIB\n"
				}
				last[root] = next
				for _, part := range []struct {
					sign    string
					entries iter.Seq[*rib.Entry]
				}{{"-", delta.Removed()}, {"+", delta.Added()}, {"=", delta.Changed()}} {
					for en := range part.entries {
						fmt.Fprintln(&b, part.sign, en)
					}
				}
				for _, g := range delta.GroupsRemoved {
					fmt.Fprintln(&b, "- group", g.Name)
				}
				for _, g := range delta.GroupsAdded {
					fmt.Fprintln(&b, "+ group", g.Name)
				}
			default:
				t.Fatalf("unknown command %s", d.Cmd)
			}
			return b.String()
		})
	})
}

// A RIB may need more groups than Envoy should have clusters.
func TestGroupsStayBelowTheLimit(t *testing.T) {
	net := newNetwork()
	// Six neighbours in a ring, each with owners behind it, and names with
	// pairs of owners and of weights: many different groups.
	for i := range 6 {
		sr := dmsc.NodeID(fmt.Sprintf("sr-%d", i))
		net.link("sg-1", sr, "0", 10, 10)
		net.link(sr, dmsc.NodeID(fmt.Sprintf("sr-%d", (i+1)%6)), "0", 1, 1)
		sg := dmsc.NodeID(fmt.Sprintf("sg-%d", 10+i))
		net.link(sr, sg, "0", 10, 10)
		for j := range 6 {
			net.prefixes[sg] = append(net.prefixes[sg], linkstate.Prefix{
				Prefix: dmsc.MustParsePrefix(fmt.Sprintf("p%d", (i*j)%5)), Weight: uint32(1 + (i+j)%3),
			})
		}
	}
	free := rib.Compute(net.view("sg-1"))
	if free.GroupCap {
		t.Fatal("capped without need")
	}
	for limit := len(free.Groups); limit >= 6; limit-- {
		e := rib.New("sg-1")
		e.SetMaxGroups(limit)
		r, _ := e.Update(net.view("sg-1"), 0, nil)
		if len(r.Groups) > limit {
			t.Errorf("limit %d: %d groups", limit, len(r.Groups))
		}
		if r.GroupCap != (limit < len(free.Groups)) {
			t.Errorf("limit %d of %d: GroupCap is %v", limit, len(free.Groups), r.GroupCap)
		}
		inUse := map[string]*rib.Group{}
		for en := range r.All() {
			uncapped := free.Lookup(en.Prefix.String())
			inUse[en.Group.Name] = en.Group
			if got := rib.GroupName(en.Group.Primaries, en.Group.Backup); got != en.Group.Name {
				t.Errorf("limit %d: group %s is named %s", limit, got, en.Group.Name)
			}
			if !en.Group.ECMP() && (len(en.Group.Backup) == 0) != (en.NoBackup != "") {
				t.Errorf("limit %d: %s", limit, en)
			}
			for _, h := range en.Group.Primaries {
				was := uncapped.Group.Primaries
				if !slices.ContainsFunc(was, func(o rib.NextHop) bool { return o.LinkKey == h.LinkKey }) {
					t.Errorf("limit %d: %s uses %s, which is no primary in %s", limit, en, h, uncapped)
				}
			}
		}
		names := slices.Sorted(maps.Keys(inUse))
		if got := groupNames(r); !slices.Equal(got, names) {
			t.Errorf("limit %d: groups %v, in use %v", limit, got, names)
		}
	}
}

func groupNames(r *rib.RIB) []string {
	var names []string
	for _, g := range r.Groups {
		names = append(names, g.Name)
	}
	return names
}

// Above the limit alternates are the first to go, those of the rarest groups
// first; next hops go last.
func TestRareAlternatesGoFirst(t *testing.T) {
	net := newNetwork()
	for _, l := range [][2]dmsc.NodeID{{"sg-1", "sr-1"}, {"sg-1", "sr-2"}, {"sr-1", "sr-2"}, {"sr-1", "sg-2"}, {"sr-2", "sg-2"}, {"sr-1", "sg-3"}} {
		net.link(l[0], l[1], "0", 10, 10)
	}
	net.prefixes["sr-1"] = []linkstate.Prefix{{Prefix: dmsc.MustParsePrefix("x")}} // a second use of sr-1~sr-2
	for limit, want := range map[int]string{
		4: "sr-1 sr-1+sr-2 sr-1~sr-2 sr-2~sr-1",
		3: "sr-1 sr-1+sr-2 sr-2", // sr-2~sr-1 alone would only become sr-2
		2: "sr-1 sr-2",
	} {
		e := rib.New("sg-1")
		e.SetMaxGroups(limit)
		r, _ := e.Update(net.view("sg-1"), 0, nil)
		if got := strings.Join(groupNames(r), " "); got != want || r.GroupCap != (limit < 4) {
			t.Errorf("limit %d: groups %s, want %s; GroupCap %v", limit, got, want, r.GroupCap)
		}
	}
}

// With gives another RIB and leaves the one it was given alone.
func TestWithReplacesEntries(t *testing.T) {
	group := func(id dmsc.NodeID) *rib.Group {
		hops := []rib.NextHop{{LinkKey: linkstate.LinkKey{Remote: id, ID: "0"}, Weight: 1}}
		return &rib.Group{Name: rib.GroupName(hops, nil), Primaries: hops}
	}
	entry := func(prefix string, g *rib.Group) *rib.Entry {
		return &rib.Entry{Prefix: dmsc.MustParsePrefix(prefix), Group: g}
	}
	var entries []*rib.Entry
	for i := range 1000 {
		entries = append(entries, entry(fmt.Sprintf("a/%d", i), group("sr-1")))
	}
	base := rib.NewRIB("sg-1", entries...)
	was := base.String()
	other := base.With(entry("a/7", group("sr-2")), entry("b", group("sr-2")))
	if base.String() != was || len(base.Groups) != 1 {
		t.Error("the old RIB has changed")
	}
	if g := other.Lookup("a/7").Group.Name; g != "sr-2" || other.Len() != 1001 || len(other.Groups) != 2 {
		t.Errorf("a/7 goes to %s, %d entries, %d groups", g, other.Len(), len(other.Groups))
	}
	entries[7] = entry("a/7", group("sr-2"))
	if want := rib.NewRIB("sg-1", append(entries, entry("b", group("sr-2")))...); other.String() != want.String() || !rib.Diff(want, other).Empty() {
		t.Error("it is not the RIB of all entries")
	}
	if d := rib.Diff(base, other); d.Len() != 2 || len(d.GroupsAdded) != 1 {
		t.Errorf("the difference is %d entries", d.Len())
	}
	for was, is := range rib.Diff(base, other).All() {
		if is == nil || (was == nil) != (is.Prefix.String() == "b") {
			t.Errorf("%v has become %v", was, is)
		}
	}
}
