package xds

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Published is one set of a node's history.
type Published struct {
	Version string    // as Publish returned it
	Time    time.Time // when it was published, the first time
	// Times is how often it became the newest, and Last when it did so last: a
	// set that comes back, as those of a link that flaps do, is no new entry.
	Times int
	Last  time.Time
	// Latest is Version, or the version of the newest set that differs from it
	// in endpoints and Set.Passing alone. Such sets (health) are not entries of
	// their own: they would soon push out everything one can return to.
	Latest string
	// Changes compare the set with the one published before it, the last time.
	Changes [numTypes]Changes
	// Pinned: the node is pinned to this set.
	Pinned bool
}

// Changes counts what differs between two sets in one type.
type Changes struct {
	Added, Changed, Removed int
	// Names are up to ten of them, sorted, as "+added", "~changed" and
	// "-removed".
	Names []string
}

// Pinned says what a node is pinned to.
type Pinned struct {
	Version string    // as History has it
	Since   time.Time // of the Rollback
	// Waiting is how many entries of the history are newer than the pinned
	// one; Newest is the version of the set that Resume will serve.
	Waiting int
	Newest  string // "" before the first Publish
}

// ErrUnknownNode: nothing was published to the node. ErrUnknownVersion: the
// node's history does not have the version, or no longer.
var (
	ErrUnknownNode    = errors.New("nothing was published to the node")
	ErrUnknownVersion = errors.New("the history does not have this version")
)

// past is one entry of a history.
type past struct {
	version    string
	lasting    string // see compiled.lasting
	time, last time.Time
	times      int
	changes    *[numTypes]Changes
	set        *compiled // the latest
	about      any       // Set.About
	own        int       // bytes of it that the set published after it has not
}

type pin struct {
	to    *past
	set   *compiled // as it was at the time
	since time.Time
}

// namesShown bounds Changes.Names.
const namesShown = 10

// historyBytes bounds what the history of a node keeps alive for itself, in
// encoded bytes: all that its newest set does not have.
const historyBytes = 64 << 20

// publish records c, made of set, as the newest, and serves it unless the node
// is pinned. It needs n.publishing.
func (n *node) publish(s *Server, c *compiled, set Set, now time.Time) {
	if n.newest == nil || n.newest.version != c.version {
		n.note(s.step(n.newest, c), set, now, s.cfg.History)
	}
	n.mu.Lock()
	n.newest = c // also if only the messages are new ones
	n.mu.Unlock()
	n.serve(s.step(n.want, n.due()))
}

// note adds a set to the history. One that lasts in nothing new takes the place
// of the one that it is like, and becomes the newest.
func (n *node) note(new *step, set Set, now time.Time, keep int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	last := len(n.history) - 1
	if last >= 0 && !new.others {
		n.history[last].set = new.to
		return
	}
	lasting := new.to.lasting(set.Passing)
	i := slices.IndexFunc(n.history, func(p *past) bool { return p.lasting == lasting })
	if i < 0 || i < last {
		if last >= 0 {
			n.history[last].own = new.replaced
		}
		p := &past{version: new.to.version, lasting: lasting, time: now}
		if i >= 0 {
			p = n.history[i]
			n.history = slices.Delete(n.history, i, i+1)
		}
		n.history = append(n.history, p)
		p.changes, p.last, p.own = new.summary, now, 0
		p.times++
	}
	p := n.history[len(n.history)-1]
	p.set, p.about = new.to, set.About
	n.forget(keep)
}

// forget lets the oldest sets go that are too many, or too large. It needs n.mu.
func (n *node) forget(keep int) {
	if n.pin != nil {
		keep++ // the pinned one, for as long as it is
	}
	bytes := 0
	for _, p := range n.history {
		bytes += p.own
	}
	for len(n.history) > keep || bytes > historyBytes {
		i := slices.IndexFunc(n.history, func(p *past) bool { return n.pin == nil || p != n.pin.to })
		if i == len(n.history)-1 {
			return // what is left is pinned, or served
		}
		bytes -= n.history[i].own
		n.history = slices.Delete(n.history, i, i+1)
	}
}

// lasting is the version of what makes a set one to go back to: all but its
// endpoints and the clusters that are passing.
func (c *compiled) lasting(passing []string) string {
	clusters := c.types[Clusters]
	text := []string{clusters.version, c.types[Routes].version, c.types[Listeners].version}
	if len(passing) > 0 {
		text[0] = versionOfAll(func(yield func(*resource) bool) {
			for r := range clusters.sorted() {
				if !slices.Contains(passing, r.name) && !yield(r) {
					return
				}
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(clusters.onDemand)) {
		if !slices.Contains(passing, name) {
			text = append(text, name)
		}
	}
	return strings.Join(text, " ")
}

// due is what the node shall serve: the newest set or, under a pin, the pinned
// one with the newest endpoints. It needs n.publishing.
func (n *node) due() *compiled {
	if n.pin == nil {
		return n.newest
	}
	return n.pin.set.withEndpoints(n.newest, n.want)
}

// withEndpoints is c with the endpoints that the first of sets has which has
// them at all, so that liveness stays right while c is pinned.
func (c *compiled) withEndpoints(sets ...*compiled) *compiled {
	endpoints := maps.Clone(c.types[Endpoints].byName)
	for name := range endpoints {
		for _, set := range sets {
			if r := set.get(Endpoints, name); r != nil {
				endpoints[name] = r
				break
			}
		}
	}
	like := append([]*compiled{c}, sets...)
	types := c.types
	types[Endpoints] = newCatalog(Endpoints, endpoints, nil, like...)
	return newCompiled(types, like...)
}

// sumUp counts the changes by type, and what they replace.
func (s *step) sumUp() {
	sum := new([numTypes]Changes)
	s.summary = sum
	var names [numTypes][]string
	for _, c := range s.changes {
		of, sign := &sum[c.typ], "~"
		before, after := s.from.get(c.typ, c.name), s.to.get(c.typ, c.name)
		if before != nil {
			s.replaced += len(before.wire.GetResource().GetValue())
		}
		switch {
		case before == nil:
			of.Added++
			sign = "+"
		case after == nil:
			of.Removed++
			sign = "-"
		default:
			of.Changed++
		}
		names[c.typ] = append(names[c.typ], sign+c.name)
		s.others = s.others || c.typ != Endpoints
	}
	for t := range sum {
		slices.SortFunc(names[t], func(a, b string) int { return cmp.Or(cmp.Compare(a[1:], b[1:]), cmp.Compare(a, b)) })
		sum[t].Names = slices.Clone(names[t][:min(len(names[t]), namesShown)])
	}
}

// History lists the last Config.History different sets published to a node, the
// newest first; fewer if more than 64 MiB of their encoded bytes were not in the
// newest. Nothing of it outlives the server but a pin that is restored.
func (s *Server) History(name string) ([]Published, error) {
	n, err := s.known(name)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []Published
	for _, p := range slices.Backward(n.history) {
		list = append(list, Published{
			Version: p.version, Time: p.time, Times: p.times, Last: p.last, Latest: p.set.version, Changes: *p.changes,
			Pinned: n.pin != nil && n.pin.to == p,
		})
	}
	return list, nil
}

// Rollback pins a node to a set of its history, named by Version or Latest,
// and returns the version of the set now served. Sets published from then on
// are recorded and wait for Resume. Only the endpoints that the pinned set's
// clusters have in the newest set go on being served, at once: liveness does
// not wait, and so the version served may differ from the one pinned. Pin and
// Restore carry the pin over a restart. It never waits for a client.
func (s *Server) Rollback(name, version string) (served string, err error) {
	n, err := s.known(name)
	if err != nil {
		return "", fmt.Errorf("roll back %s: %w", name, err)
	}
	n.publishing.Lock()
	defer n.publishing.Unlock()
	i := -1
	for j, p := range n.history {
		if p.version == version || p.set.version == version {
			i = j // the newest of equals
		}
	}
	if i < 0 {
		return "", fmt.Errorf("roll back %s to %q: %w", name, version, ErrUnknownVersion)
	}
	to := n.history[i]
	n.mu.Lock()
	n.pin = &pin{to: to, set: to.set, since: time.Now()}
	n.mu.Unlock()
	s.cfg.Log.Warn("node pinned to an earlier set", "node", name, "version", to.version)
	return n.serveDue(s), nil
}

// Resume ends a pin: the newest published set, whose version it returns, is
// served. Without a pin it changes nothing.
func (s *Server) Resume(name string) (served string, err error) {
	n, err := s.known(name)
	if err != nil {
		return "", fmt.Errorf("resume %s: %w", name, err)
	}
	n.publishing.Lock()
	defer n.publishing.Unlock()
	if n.pin != nil {
		n.mu.Lock()
		n.pin = nil
		n.mu.Unlock()
		s.cfg.Log.Info("node is no longer pinned", "node", name)
	}
	return n.serveDue(s), nil
}

// serveDue serves what is due since a pin has come or gone, and returns its
// version: "" before the first Publish, for which also a restored pin waits. It
// needs n.publishing.
func (n *node) serveDue(s *Server) string {
	if n.newest == nil {
		return ""
	}
	n.serve(s.step(n.want, n.due()))
	return n.want.version
}

// known is a node with at least one set in its history.
func (s *Server) known(name string) (*node, error) {
	s.mu.Lock()
	n := s.nodes[name]
	s.mu.Unlock()
	if n == nil {
		return nil, ErrUnknownNode
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.history) == 0 {
		return nil, ErrUnknownNode
	}
	return n, nil
}

// pinned needs n.mu.
func (n *node) pinned() *Pinned {
	if n.pin == nil {
		return nil
	}
	p := &Pinned{Version: n.pin.to.version, Since: n.pin.since, Waiting: len(n.history) - 1 - slices.Index(n.history, n.pin.to)}
	if n.newest != nil {
		p.Newest = n.newest.version
	}
	return p
}
