package rib

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// MaxGroups is the number of groups above which a RIB gives up alternates: each
// group is an Envoy cluster (design §4, Alternates).
const MaxGroups = 512

// noBackupCap is Entry.NoBackup where an alternate was given up.
const noBackupCap = "more groups than the limit"

// intern returns the one group with these members.
func (e *Engine) intern(primaries, backup []NextHop) *Group {
	name := GroupName(primaries, backup)
	g := e.groups[name]
	if g == nil {
		g = newGroup(primaries, backup)
		e.groups[name] = g
	}
	return g
}

// collectGroups fills r.Groups from the entries. Above limit it makes groups
// coarser, the rarest first, until they are few enough: first without backup,
// then with equal weights, at last with one primary. Each leaves a subset of
// the next hops there were, which cannot make a loop.
func (r *RIB) collectGroups(limit int) {
	uses := make(map[string][]*Entry)
	groups := make(map[string]*Group)
	for _, en := range r.entries {
		if en.Group != nil {
			groups[en.Group.Name] = en.Group
			uses[en.Group.Name] = append(uses[en.Group.Name], en)
		}
	}
	for _, coarser := range []func(*Group) *Group{withoutBackup, withoutWeights, firstPrimary} {
		if len(groups) <= limit {
			break
		}
		r.GroupCap = true
		rarest := slices.SortedFunc(maps.Values(groups), func(a, b *Group) int {
			return cmp.Or(cmp.Compare(len(uses[a.Name]), len(uses[b.Name])), strings.Compare(a.Name, b.Name))
		})
		for _, old := range rarest {
			if len(groups) <= limit {
				break
			}
			g := coarser(old)
			if g.Name == old.Name {
				continue
			}
			if same := groups[g.Name]; same != nil {
				g = same
			}
			for _, en := range uses[old.Name] {
				en.Group = g
				if !g.ECMP() && len(g.Backup) == 0 && en.NoBackup == "" {
					en.NoBackup = noBackupCap
				}
			}
			uses[g.Name] = append(uses[g.Name], uses[old.Name]...)
			groups[g.Name] = g
			delete(uses, old.Name)
			delete(groups, old.Name)
		}
	}
	r.Groups = slices.SortedFunc(maps.Values(groups), compareName)
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
