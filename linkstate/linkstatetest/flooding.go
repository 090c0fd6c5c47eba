package linkstatetest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// The verbs of dense networks.

// doClique adds SRs that all have links to each other: n00, n01 and so on.
//
// Example: clique n 10
func (s *Scene) doClique(a *arguments, _ *strings.Builder) {
	size, err := strconv.Atoi(a.word(1))
	a.errs = append(a.errs, err)
	name := func(n int) dmsc.NodeID { return dmsc.NodeID(fmt.Sprintf("%s%02d", a.word(0), n)) }
	for n := range size {
		s.AddNode(name(n), dmsc.RoleSR)
		for m := range n {
			s.AddLink(name(m), name(n), Link{})
		}
	}
}

// Example: mute n00 n01 (they pass on no records of others, and act as if they did)
func (s *Scene) doMute(a *arguments, _ *strings.Builder) {
	before := s.Tamper
	s.Tamper = func(from dmsc.NodeID, e linkstate.Envelope) linkstate.Message {
		if before != nil {
			e.Message = before(from, e)
		}
		u, ok := e.Message.(*linkstate.LSUpdate)
		if !ok || !slices.Contains(a.words, string(from)) {
			return e.Message
		}
		return &linkstate.LSUpdate{Seq: u.Seq, Records: slices.DeleteFunc(slices.Clone(u.Records), func(l *linkstate.LSA) bool {
			return l.Origin != from
		})}
	}
}

// doFlooding prints how nodes flood; of one node also its links in covers.
//
// Example: flooding n00
func (s *Scene) doFlooding(a *arguments, out *strings.Builder) {
	if len(a.words) > 0 {
		v := s.Instance(a.id(0)).View()
		fmt.Fprintf(out, "%s %s\n", v.Node, v.Flooding)
		for _, adj := range v.Adjacencies {
			if adj.Covers != 0 {
				fmt.Fprintf(out, "  %s in %s\n", adj.LinkKey, adj.Covers)
			}
		}
		return
	}
	groups := make(map[linkstate.Flooding][]dmsc.NodeID)
	for _, id := range s.alive() {
		f := s.Instance(id).View().Flooding
		groups[f] = append(groups[f], id)
	}
	for _, f := range slices.Sorted(maps.Keys(groups)) {
		fmt.Fprintf(out, "%s: %s\n", f, join(groups[f]))
	}
}

// Example: holders n05.prefix.119 (who has which version of a record)
func (s *Scene) doHolders(a *arguments, out *strings.Builder) {
	holders := make(map[string][]dmsc.NodeID)
	for _, id := range s.alive() {
		for l := range s.Instance(id).View().Records.All() {
			if l.Key.String() == a.word(0) {
				holders[l.Order.String()] = append(holders[l.Order.String()], id)
			}
		}
	}
	for _, o := range slices.Sorted(maps.Keys(holders)) {
		fmt.Fprintf(out, "%s: %s\n", o, join(holders[o]))
	}
}

// count counts the copies of records that are sent.
func (s *Scene) count(m linkstate.Message) {
	if u, ok := m.(*linkstate.LSUpdate); ok {
		for _, l := range u.Records {
			s.copies[fmt.Sprintf("%s@%s", l.Key, l.Order)]++
		}
	}
}

// doCopies prints how often the versions of records were sent since the last
// call, or those whose name contains the given word.
//
// Example: copies prefix
func (s *Scene) doCopies(a *arguments, out *strings.Builder) {
	for _, k := range slices.Sorted(maps.Keys(s.copies)) {
		if strings.Contains(k, strings.Join(a.words, " ")) {
			fmt.Fprintf(out, "%s: %d copies\n", k, s.copies[k])
		}
	}
	clear(s.copies)
}
