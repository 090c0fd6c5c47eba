package scsc

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Overlay is what a node holds of the SCSC's policies. They outlive the session
// with the SCSC, and die with their TTL: then plain SPF is in force again, for
// one name at one ingress after the other, so that traffic does not move in the
// whole domain at once. The zero value holds nothing. It has no clock.
type Overlay struct {
	set       PolicySet
	until     time.Time // end of the TTL; zero = no set is held
	next      time.Time // the next policy ends
	ended     bool      // some have
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
// TTL. What has ended meanwhile is in force again.
func (o *Overlay) Apply(now time.Time, set PolicySet) bool {
	held := !o.until.IsZero()
	order := cmp.Or(cmp.Compare(set.Term, o.set.Term), cmp.Compare(set.Generation, o.set.Generation))
	if held && order < 0 {
		return false
	}
	o.until = now.Add(set.TTL)
	if held && order == 0 && !o.ended {
		o.schedule()
		return false
	}
	o.set, o.ended = set, false
	o.schedule()
	return true
}

// Tick drops the policies whose time has come and returns them: within a tenth
// of the TTL after it has run out, all. The order of the dead set is forgotten
// then, so that an SCSC that has lost its term can be heard again.
func (o *Overlay) Tick(now time.Time) (expired []Policy) {
	if o.until.IsZero() || now.Before(o.next) {
		return nil
	}
	var left []Policy
	for _, p := range o.set.Policies {
		if now.Before(o.end(p)) {
			left = append(left, p)
		} else {
			expired = append(expired, p)
		}
	}
	if len(left) == 0 {
		*o = Overlay{}
		return expired
	}
	o.set.Policies, o.ended = left, true
	o.schedule()
	return expired
}

// end is when a policy ends without a word of the SCSC. It is the same at every
// node that holds it.
func (o *Overlay) end(p Policy) time.Time {
	const share = 10
	h := sha256.Sum256([]byte(string(p.Ingress) + " " + p.Prefix.String()))
	return o.until.Add(time.Duration(float64(o.set.TTL) / share * float64(binary.BigEndian.Uint32(h[:])) / (1 << 32)))
}

func (o *Overlay) schedule() {
	o.next = o.until
	for i, p := range o.set.Policies {
		if end := o.end(p); i == 0 || end.Before(o.next) {
			o.next = end
		}
	}
}

// Until is the end of the TTL, when the policies begin to end; zero if none are
// held.
func (o *Overlay) Until() time.Time { return o.until }

// Deadline is when Tick has something to do; zero for never.
func (o *Overlay) Deadline() time.Time { return o.next }

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
