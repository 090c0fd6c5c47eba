package rib

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
)

// MaxGroups is the number of groups above which a RIB gives up alternates: each
// group is an Envoy cluster (design §4, Alternates).
const MaxGroups = 512

// groups are the next-hop groups that owner sets share.
type groups struct {
	byMembers map[string]*groupUse
	unused    []*groupUse // perhaps
	regrouped bool        // other groups are in use than in the last turn
	recounted bool        // or a group is used by more or fewer names
	capped    bool        // there are more than the limit
	coarse    map[string]*Group
	members   []byte // scratch
}

// groupUse is a group with the number of names that go by it.
type groupUse struct {
	*Group
	members string
	names   int
	final   *Group // that readers see: the group itself, or a coarser one
}

func newGroups() groups { return groups{byMembers: make(map[string]*groupUse)} }

// intern returns the one group with these primaries, weighed by e.weights, and
// this backup; likely is a guess.
func (e *Engine) intern(likely *groupUse, exits []int, backup *exit) *groupUse {
	key := e.members[:0]
	member := func(x *exit, weight uint32) {
		key = binary.BigEndian.AppendUint32(key, uint32(x.To))
		key = binary.BigEndian.AppendUint32(key, uint32(x.Link))
		key = binary.BigEndian.AppendUint32(key, weight)
	}
	for _, i := range exits {
		member(&e.exits[i], uint32(e.weights[i]))
	}
	if backup != nil {
		member(backup, 0)
	}
	e.members = key
	if likely != nil && likely.members == string(key) {
		return likely
	}
	g := e.byMembers[string(key)]
	if g == nil {
		var primaries, backups []NextHop
		for _, i := range exits {
			primaries = append(primaries, NextHop{LinkKey: e.linkKey(e.exits[i].Arc), Weight: uint32(e.weights[i])})
		}
		if backup != nil {
			backups = []NextHop{{LinkKey: e.linkKey(backup.Arc), Weight: 1}}
		}
		g = &groupUse{Group: newGroup(primaries, backups), members: string(key)}
		g.final = g.Group
		e.byMembers[g.members] = g
		e.regrouped = true
	}
	return g
}

// use notes that so many more names go by a group, nil for none.
func (e *Engine) use(g *groupUse, names int) {
	if g == nil {
		return
	}
	e.recounted = true
	if g.names += names; g.names == 0 {
		e.unused = append(e.unused, g)
	}
}

// settleGroups forgets the groups that no name has any more, applies the limit,
// and writes down where the sets go that were evaluated.
func (e *Engine) settleGroups() {
	for _, g := range e.unused {
		if g.names == 0 && e.byMembers[g.members] == g {
			delete(e.byMembers, g.members)
			e.regrouped = true
		}
	}
	e.unused = e.unused[:0]
	if e.recounted && (e.capped || len(e.byMembers) > e.maxGroups) {
		e.capGroups()
		e.todo = append(e.todo[:0], e.bySlot...) // any of them may be affected
	}
	e.recounted = false
	e.changed = e.changed[:0]
	for _, s := range e.todo {
		if s != nil && len(s.names) > 0 {
			e.write(s)
		}
	}
	e.todo = e.todo[:0]
}

// capGroups chooses what readers see of each group. Above the limit it makes
// groups coarser, the rarest first, until they are few enough: first without
// backup, then with equal weights, at last with one primary. Each leaves a
// subset of the next hops there were, which cannot make a loop.
func (e *Engine) capGroups() {
	e.regrouped = true
	type merged struct {
		*Group
		names int
		from  []*groupUse
	}
	left := make(map[string]*merged, len(e.byMembers))
	for _, g := range e.byMembers {
		left[g.Name] = &merged{g.Group, g.names, []*groupUse{g}}
	}
	e.capped = len(left) > e.maxGroups
	coarse := make(map[string]*Group)
	for _, coarser := range []func(*Group) *Group{withoutBackup, withoutWeights, firstPrimary} {
		if len(left) <= e.maxGroups {
			break
		}
		rarest := slices.SortedFunc(maps.Values(left), func(a, b *merged) int {
			return cmp.Or(cmp.Compare(a.names, b.names), compareName(a.Group, b.Group))
		})
		for _, old := range rarest {
			if len(left) <= e.maxGroups {
				break
			}
			g := coarser(old.Group)
			if g.Name == old.Name {
				continue
			}
			delete(left, old.Name)
			same := left[g.Name]
			if same == nil {
				if e.coarse[g.Name] != nil {
					g = e.coarse[g.Name] // as in the last turn
				}
				coarse[g.Name] = g
				same = &merged{Group: g}
				left[g.Name] = same
			}
			same.names += old.names
			same.from = append(same.from, old.from...)
		}
	}
	e.coarse = coarse
	for _, m := range left {
		for _, g := range m.from {
			g.final = m.Group
		}
	}
}

func newGroup(primaries, backup []NextHop) *Group {
	return &Group{Name: GroupName(primaries, backup), Primaries: primaries, Backup: backup}
}

func withoutBackup(g *Group) *Group { return newGroup(g.Primaries, nil) }

func withoutWeights(g *Group) *Group {
	hops := slices.Clone(g.Primaries)
	for i := range hops {
		hops[i].Weight = 1
	}
	return newGroup(hops, g.Backup)
}

func firstPrimary(g *Group) *Group {
	return newGroup([]NextHop{{LinkKey: g.Primaries[0].LinkKey, Weight: 1}}, g.Backup)
}
