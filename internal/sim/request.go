package sim

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// How requests behave (design §5).
const (
	perEvent       = 20                    // requests between two events
	ingressRetries = 4                     // on dmsc-error, by the ingress alone
	retryAfter     = 20 * time.Millisecond // at least, and at most twice that
	hopRetries     = 2                     // on a failed connection, by each node
	longestPath    = 16                    // nodes of an explicit path
)

// Requests counts what has become of requests.
type Requests struct {
	Sent int `json:"sent"`
	// Delivered at the first attempt; Retried: by a later one of the ingress.
	Delivered int `json:"delivered"`
	Retried   int `json:"retried"`
	// Lost after the last attempt: although there was a way over living nodes and
	// links at every attempt, or because there was none at some.
	LostWithPath    int `json:"lost_with_path"`
	LostWithoutPath int `json:"lost_without_path"`

	// Attempts that some node on the way repaired: another of the equal next
	// hops, or the alternate.
	Repaired int `json:"repaired"`
	// Requests that were given an explicit path; attempts that went it to its
	// end, and that left it for good because it broke; requests whose ingress
	// knew that it was broken.
	Pinned    int `json:"pinned"`
	PathsKept int `json:"paths_kept"`
	Demoted   int `json:"demoted"`
	Suspended int `json:"suspended"`
	// Attempts that failed, by dmsc-error.
	Loops     int `json:"loops"`
	NoRoute   int `json:"no_route"`
	NoHealthy int `json:"no_healthy"`
	Starting  int `json:"starting"`
}

func (r Requests) minus(o Requests) Requests {
	for _, f := range []struct {
		p *int
		n int
	}{
		{&r.Sent, o.Sent}, {&r.Delivered, o.Delivered}, {&r.Retried, o.Retried},
		{&r.LostWithPath, o.LostWithPath}, {&r.LostWithoutPath, o.LostWithoutPath}, {&r.Repaired, o.Repaired},
		{&r.Pinned, o.Pinned}, {&r.PathsKept, o.PathsKept}, {&r.Demoted, o.Demoted}, {&r.Suspended, o.Suspended},
		{&r.Loops, o.Loops}, {&r.NoRoute, o.NoRoute}, {&r.NoHealthy, o.NoHealthy}, {&r.Starting, o.Starting},
	} {
		*f.p -= f.n
	}
	return r
}

// verdict is what an attempt ends with: delivered, or the code of dmsc-error.
type verdict uint8

const (
	delivered verdict = iota
	loop
	noRoute
	noHealthy
	starting
)

// pin is an explicit path to a name, from its ingress to its owner.
type pin struct {
	name string
	path []dmsc.NodeID
}

// request is one request and its attempts.
type request struct {
	from     dmsc.NodeID
	name     string
	path     []dmsc.NodeID // nil = none
	attempts int
	cutOff   bool // at some attempt there was no way
}

// ask spreads requests over the time that a line lets pass.
func (n *network) ask(line string) {
	d, err := time.ParseDuration(strings.TrimPrefix(line, "run "))
	if err != nil || d <= 0 || len(n.wishes) == 0 {
		return
	}
	for range perEvent {
		w := pick(n.rand, n.wishes)
		r := &request{from: pick(n.rand, w.nodes), name: pick(n.rand, w.names)}
		if len(n.pins) > 0 && n.rand.IntN(4) == 0 {
			p := pick(n.rand, n.pins)
			r.from, r.name, r.path = p.path[0], p.name, p.path
		}
		n.After(time.Duration(n.rand.Int64N(int64(d))), func() { n.send(r) })
	}
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// send lets a request into the network, unless the pod finds no ingress.
func (n *network) send(r *request) {
	if !n.Runs(r.from) {
		return
	}
	n.requests.Sent++
	if r.path != nil {
		n.requests.Pinned++
	}
	n.attempt(r)
}

func (n *network) attempt(r *request) {
	path := r.path
	if path != nil && !n.verified(path) {
		path = nil
		n.requests.Suspended++
	}
	v := n.walk(r.from, r.name, path)
	r.attempts++
	if v == delivered {
		if r.attempts == 1 {
			n.requests.Delivered++
		} else {
			n.requests.Retried++
		}
		return
	}
	switch v {
	case loop:
		n.requests.Loops++
	case noRoute:
		n.requests.NoRoute++
	case noHealthy:
		n.requests.NoHealthy++
	case starting:
		n.requests.Starting++
	}
	r.cutOff = r.cutOff || !n.wayTo(r.from, r.name)
	switch {
	case r.attempts <= ingressRetries:
		n.After(retryAfter+time.Duration(n.rand.Int64N(int64(retryAfter))), func() { n.attempt(r) })
	case r.cutOff:
		n.requests.LostWithoutPath++
	default:
		n.requests.LostWithPath++
	}
}

// walk takes a request from its ingress to its end, in no time: the way is much
// shorter than the time in which nodes change their minds.
func (n *network) walk(at dmsc.NodeID, name string, path []dmsc.NodeID) verdict {
	var via []dmsc.NodeID
	repaired := false
	for {
		switch {
		case !n.Forwards(at) || n.node(at).fib == nil:
			return starting
		case slices.Contains(via, at):
			return loop
		}
		via = append(via, at)
		if i := slices.Index(path, at); i >= 0 && i < len(path)-1 {
			if next := path[i+1]; n.connected(at, next) {
				at = next
				if i+1 == len(path)-1 { // the last but one removes the path
					path = nil
					n.requests.PathsKept++
				}
				continue
			}
			// Demotion: from here an ordinary request, once and for all.
			path, via = nil, []dmsc.NodeID{at}
			n.requests.Demoted++
		}
		if name == "dmsc/node/"+string(at) {
			break
		}
		en := n.lookup(at, name)
		if en == nil {
			return noRoute
		}
		if en.Local {
			break
		}
		next, tries := n.nextHop(at, en.Group)
		if next == "" {
			return noHealthy
		}
		if tries > 1 && !repaired {
			repaired = true
			n.requests.Repaired++
		}
		at = next
	}
	return delivered
}

// lookup asks the FIB that an Envoy has at this moment.
func (n *network) lookup(at dmsc.NodeID, name string) *rib.Entry {
	if fib := n.node(at).fib; fib != nil {
		return fib.Lookup(name)
	}
	return nil
}

// nextHop is what the Envoy of a node chooses: a primary by weight, on a failed
// connection another one, else the alternate. "" when all fail.
func (n *network) nextHop(at dmsc.NodeID, g *rib.Group) (next dmsc.NodeID, tries int) {
	left := slices.Clone(g.Primaries)
	for tries = 1; tries <= 1+hopRetries; tries++ {
		if len(left) == 0 {
			if left = g.Backup; len(left) == 0 || tries > 1+len(g.Primaries) {
				break
			}
		}
		i := 0
		if len(left) > 1 {
			sum := uint32(0)
			for _, h := range left {
				sum += h.Weight
			}
			for w := n.rand.Uint32N(sum); w >= left[i].Weight; i++ {
				w -= left[i].Weight
			}
		}
		if n.connects(at, left[i]) {
			return left[i].Remote, tries
		}
		left = slices.Delete(slices.Clone(left), i, i+1)
	}
	return "", tries
}

// connects reports whether the Envoy at the far end of a link answers.
func (n *network) connects(at dmsc.NodeID, hop rib.NextHop) bool {
	return n.Passes(at, hop.Remote, hop.ID) && n.Runs(hop.Remote)
}

// connected is connects over any of the links between two neighbours.
func (n *network) connected(at, next dmsc.NodeID) bool {
	for _, l := range n.Links(at) {
		if l.Remote == next && n.connects(at, rib.NextHop{LinkKey: l}) {
			return true
		}
	}
	return false
}

// wayTo reports whether living Envoys and links lead to a node that has the
// name announced, whatever anybody knows of it.
func (n *network) wayTo(from dmsc.NodeID, name string) bool {
	seen := map[dmsc.NodeID]bool{from: true}
	for queue := []dmsc.NodeID{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if !n.Forwards(at) {
			continue
		}
		if n.owns(at, name) {
			return true
		}
		for _, l := range n.Links(at) {
			if !seen[l.Remote] && n.connects(at, rib.NextHop{LinkKey: l}) {
				seen[l.Remote] = true
				queue = append(queue, l.Remote)
			}
		}
	}
	return false
}

// owns reports whether a node delivers a name, or an instance of the pool.
func (n *network) owns(at dmsc.NodeID, name string) bool {
	if name == "dmsc/node/"+string(at) {
		return true
	}
	return slices.ContainsFunc(n.Announced(at), func(p linkstate.Prefix) bool {
		f, ok := p.Prefix.Function()
		return p.Prefix.String() == name || strings.HasPrefix(name, p.Prefix.String()+"/") || ok && f.String() == name
	})
}

// verified is what an ingress asks its database before it sends a request along
// a path: whether both ends of every link of it advertise it.
func (n *network) verified(path []dmsc.NodeID) bool {
	inst := n.Instance(path[0])
	if inst == nil {
		return true // Envoy does as it was told last
	}
	records := inst.View().Records
	advertises := func(a, b dmsc.NodeID) bool {
		l := records.Get(linkstate.Key{Origin: a, Type: linkstate.TypeNode})
		if l == nil {
			return false
		}
		c, ok := l.Content.(*linkstate.NodeLSA)
		return ok && slices.ContainsFunc(c.Links, func(k linkstate.Link) bool { return k.Remote == b })
	}
	for i := range path[1:] {
		if !advertises(path[i], path[i+1]) || !advertises(path[i+1], path[i]) {
			return false
		}
	}
	return true
}

// wish is what may be asked for by the pods of some nodes.
type wish struct {
	nodes []dmsc.NodeID
	names []string
}

// plan chooses, at a rest, what the next requests ask for: what a domain serves,
// some of it along ways that need not be the shortest.
func (n *network) plan() {
	n.pins, n.wishes = nil, nil
	if !n.watched {
		return
	}
	for _, d := range n.domains() {
		if len(d.nodes) == 1 {
			continue // what has no neighbour shows nothing
		}
		n.wishes = append(n.wishes, wish{d.nodes, slices.Sorted(maps.Keys(d.owners))})
		for range 4 {
			owner := pick(n.rand, d.nodes)
			announced := n.Announced(owner)
			path := n.detour(pick(n.rand, d.nodes), pick(n.rand, d.nodes), owner)
			if len(announced) > 0 && len(path) > 2 {
				n.pins = append(n.pins, pin{pick(n.rand, announced).Prefix.String(), path})
			}
		}
	}
}

// detour is a way over a random node that comes by no node twice, nil if there
// is none or it is too long.
func (n *network) detour(from, over, to dmsc.NodeID) []dmsc.NodeID {
	path := n.way(from, over, nil)
	if len(path) == 0 {
		return nil
	}
	rest := n.way(over, to, path)
	if len(rest) == 0 || len(path)+len(rest)-1 > longestPath {
		return nil
	}
	return append(path, rest[1:]...)
}

// way is one of the ways with the fewest hops over living links.
func (n *network) way(from, to dmsc.NodeID, without []dmsc.NodeID) []dmsc.NodeID {
	before := map[dmsc.NodeID]dmsc.NodeID{}
	for _, id := range without {
		before[id] = id
	}
	before[from] = from
	for queue := []dmsc.NodeID{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at == to {
			path := []dmsc.NodeID{to}
			for at != from {
				at = before[at]
				path = append(path, at)
			}
			slices.Reverse(path)
			return path
		}
		for _, l := range n.Links(at) {
			if before[l.Remote] == "" && n.Carries(at, l.Remote, l.ID) {
				before[l.Remote] = at
				queue = append(queue, l.Remote)
			}
		}
	}
	return nil
}
