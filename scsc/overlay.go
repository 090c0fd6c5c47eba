package scsc

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Overlay is what a node holds of the SCSC's policies. They outlive the session
// with the SCSC, and die with their TTL: then plain SPF is in force again. The
// zero value holds nothing. It has no clock.
type Overlay struct {
	set       PolicySet
	deadline  time.Time // zero = no set is held
	active    []Policy
	transit   []Policy
	suspended []Suspension
}

// Suspension is a policy that the LSDB contradicts.
type Suspension struct {
	Policy Policy
	Reason string
}

// Apply takes in a set and reports whether the policies have changed: call
// Verify then. Of two sets the one with the higher (Term, Generation) is in
// force; an older one is ignored, an equal one is the heartbeat and renews the
// TTL.
func (o *Overlay) Apply(now time.Time, set PolicySet) bool {
	held := !o.deadline.IsZero()
	order := cmp.Or(cmp.Compare(set.Term, o.set.Term), cmp.Compare(set.Generation, o.set.Generation))
	if held && order < 0 {
		return false
	}
	o.deadline = now.Add(set.TTL)
	if held && order == 0 {
		return false
	}
	o.set = set
	return true
}

// Tick drops the policies when their TTL has run out and returns those that
// expired with it. The order of the dead set is forgotten, so that an SCSC that
// has lost its term can be heard again.
func (o *Overlay) Tick(now time.Time) (expired []Policy) {
	if o.deadline.IsZero() || now.Before(o.deadline) {
		return nil
	}
	expired = o.set.Policies
	*o = Overlay{}
	return expired
}

// Deadline is when Tick has something to do; zero for never.
func (o *Overlay) Deadline() time.Time { return o.deadline }

// Order returns the (Term, Generation) of the set that is held, zeros for none.
func (o *Overlay) Order() (term, generation uint64) { return o.set.Term, o.set.Generation }

// Verify checks every policy against the LSDB and reports whether Active,
// Transit or Suspended have changed. A policy is suspended as soon as a link of
// its path is not two-way or the egress no longer owns what it is to deliver,
// and is back in force when that has passed. Call it after Apply and after each
// change of the LSDB.
func (o *Overlay) Verify(view *linkstate.View, self dmsc.NodeID) bool {
	var active, transit []Policy
	var suspended []Suspension
	if len(o.set.Policies) > 0 {
		net := newNetwork(view.Records)
		for _, p := range o.set.Policies {
			switch reason := net.contradicts(p); {
			case reason != "":
				suspended = append(suspended, Suspension{p, reason})
			case p.Ingress == self:
				active = append(active, p)
			default:
				transit = append(transit, p)
			}
		}
	}
	slices.SortFunc(active, func(a, b Policy) int { return a.Prefix.Compare(b.Prefix) })
	changed := !slices.EqualFunc(active, o.active, Policy.equal) || !slices.EqualFunc(transit, o.transit, Policy.equal) ||
		!slices.EqualFunc(suspended, o.suspended, func(a, b Suspension) bool { return a.Reason == b.Reason && a.Policy.equal(b.Policy) })
	o.active, o.transit, o.suspended = active, transit, suspended
	return changed
}

// contradicts says why the LSDB does not support a policy, "" if it does.
func (n *network) contradicts(p Policy) string {
	if n.local(p.Ingress, p.Prefix) {
		return fmt.Sprintf("%s delivers %s itself", p.Ingress, p.Prefix)
	}
	for _, path := range p.Paths {
		if path.Nodes[0] != p.Ingress {
			return fmt.Sprintf("the path begins at %s, not at the ingress %s", path.Nodes[0], p.Ingress)
		}
		for i := range len(path.Nodes) - 1 {
			if len(n.links(path.Nodes[i], path.Nodes[i+1])) == 0 {
				return fmt.Sprintf("there is no two-way link %s>%s", path.Nodes[i], path.Nodes[i+1])
			}
		}
		wanted := p.Prefix
		if !path.Instance.IsZero() {
			wanted = path.Instance
		}
		if !slices.ContainsFunc(n.owners[wanted], func(o owner) bool { return o.node == path.Egress() && o.instance == wanted }) {
			return fmt.Sprintf("%s does not announce %s", path.Egress(), wanted)
		}
	}
	return ""
}

// Active are the policies in force whose ingress is this node, sorted by
// Prefix.
func (o *Overlay) Active() []Policy { return o.active }

// Transit are the other policies in force: this node is on their paths. They
// need no state in the data plane; the node only reports whether it is ready.
func (o *Overlay) Transit() []Policy { return o.transit }

// Suspended are the policies that the LSDB contradicts.
func (o *Overlay) Suspended() []Suspension { return o.suspended }
