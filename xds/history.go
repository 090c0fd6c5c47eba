package xds

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Published is one set of a node's history.
type Published struct {
	Version string    // as Publish returned it
	Time    time.Time // when it was published
	// Latest is Version, or the version of the newest set that differs from it
	// in endpoints alone. Such sets (health) are not entries of their own:
	// they would soon push out everything one can return to.
	Latest string
	// Changes compare the set with the one published before it.
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
	Newest  string
}

// ErrUnknownNode: nothing was published to the node. ErrUnknownVersion: the
// node's history does not have the version, or no longer.
var (
	ErrUnknownNode    = errors.New("nothing was published to the node")
	ErrUnknownVersion = errors.New("the history does not have this version")
)

// past is one entry of a history.
type past struct {
	version string
	time    time.Time
	changes *[numTypes]Changes
	set     *compiled // the latest
	own     int       // bytes of it that the entry behind it has not
}

type pin struct {
	to    *past
	since time.Time
}

// namesShown bounds Changes.Names.
const namesShown = 10

// historyBytes bounds what the history of a node keeps alive for itself, in
// encoded bytes: all that its newest set does not have.
const historyBytes = 64 << 20

// publish records c as the newest set, and serves it unless the node is
// pinned. It needs n.publishing.
func (n *node) publish(s *Server, c *compiled, now time.Time) {
	if n.newest == nil || n.newest.version != c.version {
		n.note(s.step(n.newest, c), now, s.cfg.History)
	}
	n.mu.Lock()
	n.newest = c // also if only the messages are new ones
	n.mu.Unlock()
	n.serve(s.step(n.want, n.due()))
}

// note adds a set to the history. One with nothing new but endpoints takes the
// place of the one before it.
func (n *node) note(new *step, now time.Time, keep int) {
	c := new.to
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := len(n.history) - 1; last >= 0 && !new.others {
		n.history[last].set = c
		return
	} else if last >= 0 {
		n.history[last].own = new.replaced
	}
	n.history = append(n.history, &past{version: c.version, time: now, changes: new.summary, set: c})
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

// due is what the node shall serve: the newest set or, under a pin, the pinned
// one with the newest endpoints. It needs n.publishing.
func (n *node) due() *compiled {
	if n.pin == nil {
		return n.newest
	}
	return n.pin.to.set.withEndpoints(n.newest, n.want)
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

// History lists the last Config.History sets published to a node, newest
// first; fewer if more than 64 MiB of their encoded bytes were not in the
// newest. Nothing of it outlives the server.
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
			Version: p.version, Time: p.time, Latest: p.set.version, Changes: *p.changes,
			Pinned: n.pin != nil && n.pin.to == p,
		})
	}
	return list, nil
}

// Rollback pins a node to a set of its history, named by Version or Latest,
// and returns the version of the set now served. Sets published from then on
// are recorded and wait for Resume. Only the endpoints that the pinned set's
// clusters have in the newest set go on being served, at once: liveness does
// not wait, and so the version served may differ from the one pinned. The pin
// does not outlive the server. It never waits for a client.
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
	n.mu.Lock()
	n.pin = &pin{to: n.history[i], since: time.Now()}
	n.mu.Unlock()
	n.serve(s.step(n.want, n.due()))
	s.cfg.Log.Warn("node pinned to an earlier set", "node", name, "version", version, "served", n.want.version)
	return n.want.version, nil
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
		n.serve(s.step(n.want, n.due()))
		s.cfg.Log.Info("node is no longer pinned", "node", name, "version", n.want.version)
	}
	return n.want.version, nil
}

// known is a node with at least one published set.
func (s *Server) known(name string) (*node, error) {
	s.mu.Lock()
	n := s.nodes[name]
	s.mu.Unlock()
	if n == nil {
		return nil, ErrUnknownNode
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.newest == nil {
		return nil, ErrUnknownNode
	}
	return n, nil
}

// pinned needs n.mu.
func (n *node) pinned() *Pinned {
	if n.pin == nil {
		return nil
	}
	return &Pinned{
		Version: n.pin.to.version, Since: n.pin.since, Newest: n.newest.version,
		Waiting: len(n.history) - 1 - slices.Index(n.history, n.pin.to),
	}
}
