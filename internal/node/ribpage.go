package node

import (
	"cmp"
	"iter"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
)

// publication is what one version of Envoy's configuration was made from.
// Immutable.
type publication struct {
	version  string
	at       time.Time
	rib      *rib.RIB
	steering []translator.Steering
	retired  []*rib.Group

	neighbours []translator.Neighbour
	offer      *offer
	documents  *border.Set
	closed     bool // to clients
	outside    translator.OutsideListener
	state      translator.State // all of it, as it was translated
	needs      *needs           // for going back to it
}

// sameInput reports whether both follow from the same, and hence are the same.
func (p *publication) sameInput(o *publication) bool {
	return p.rib == o.rib && p.offer == o.offer && p.documents == o.documents && p.closed == o.closed && p.outside == o.outside && slices.Equal(p.retired, o.retired) &&
		slices.Equal(p.neighbours, o.neighbours) && reflect.DeepEqual(p.steering, o.steering)
}

// EntryStatus is one name: an item of /api/v1/rib and /api/v1/fib.
type EntryStatus struct {
	Prefix    string        `json:"prefix"`
	Kind      string        `json:"kind"`
	Distance  dmsc.Metric   `json:"distance"`
	Egress    []dmsc.NodeID `json:"egress"`
	Group     string        `json:"group"` // next hops and alternate by name; "" when local
	NextHops  []string      `json:"next_hops"`
	Backup    []string      `json:"backup"`
	NoBackup  string        `json:"no_backup,omitempty"` // why there is none
	Local     bool          `json:"local"`
	Instances []string      `json:"instances,omitempty"` // of a function
	// InEnvoy is set in the FIB only: "acked", or what Envoy is known to run
	// instead: "older" another entry of that name, "missing" none; "unknown" while
	// it has acknowledged nothing since its stream began.
	InEnvoy string `json:"in_envoy,omitempty"`
}

// StatusOf is an entry as the pages have it.
func StatusOf(e *rib.Entry) EntryStatus {
	out := EntryStatus{
		Prefix: e.Prefix.String(), Kind: e.Kind.String(), Distance: e.Distance, Egress: some(e.Egress),
		NextHops: []string{}, Backup: []string{}, Local: e.Local, NoBackup: e.NoBackup,
	}
	if e.Group != nil {
		out.Group = e.Group.Name
		for _, h := range e.Group.Primaries {
			out.NextHops = append(out.NextHops, h.LinkKey.String())
		}
		for _, h := range e.Group.Backup {
			out.Backup = append(out.Backup, h.LinkKey.String())
		}
	}
	for _, i := range e.Instances {
		out.Instances = append(out.Instances, i.String())
	}
	return out
}

// sameEntry reports whether a request for the name is forwarded alike.
func sameEntry(a, b *rib.Entry) bool {
	return a == b || a != nil && b != nil && a.Kind == b.Kind && a.Local == b.Local && a.Protocol == b.Protocol && a.ReplaySafe == b.ReplaySafe &&
		group(a) == group(b) && slices.Equal(a.Egress, b.Egress) && slices.Equal(a.Instances, b.Instances)
}

func group(e *rib.Entry) string {
	if e.Group == nil {
		return ""
	}
	return e.Group.Name
}

// entries yields the entries of r, nil for none, as pages.
func entries(r *rib.RIB) iter.Seq[*rib.Entry] {
	if r == nil {
		return func(func(*rib.Entry) bool) {}
	}
	return r.All()
}

// entry is that of a name, nil for none.
func entry(r *rib.RIB, name dmsc.ServicePrefix) *rib.Entry {
	if r == nil {
		return nil
	}
	if e := r.Lookup(name.String()); e != nil && e.Prefix == name {
		return e
	}
	return nil
}

// inEnvoy says what Envoy is known to run of a published entry.
func (p *picture) inEnvoy(e *rib.Entry) string {
	switch {
	case p.current():
		return "acked"
	case p.running == nil || p.acked == "":
		return "unknown"
	}
	switch old := entry(p.running.rib, e.Prefix); {
	case old == nil:
		return "missing"
	case sameEntry(old, e):
		return "acked"
	}
	return "older"
}

// published is the newest version, "" for none.
func (p *picture) published() string {
	if p.publication == nil {
		return ""
	}
	return p.publication.version
}

// current reports whether Envoy has ACKed all that was published.
func (p *picture) current() bool {
	return p.publication != nil && p.acked == p.publication.version
}

// ribPage serves what was computed.
func (n *Node) ribPage(q url.Values) (any, error) {
	return n.list(q, func(p *picture) iter.Seq[any] {
		return func(yield func(any) bool) {
			for e := range entries(p.rib) {
				if !yield(StatusOf(e)) {
					return
				}
			}
		}
	})
}

// fibPage serves what was published for Envoy, and what of it Envoy runs.
func (n *Node) fibPage(q url.Values) (any, error) {
	return n.list(q, func(p *picture) iter.Seq[any] {
		return func(yield func(any) bool) {
			if p.publication == nil {
				return
			}
			for e := range entries(p.publication.rib) {
				s := StatusOf(e)
				s.InEnvoy = p.inEnvoy(e)
				if !yield(s) {
					return
				}
			}
		}
	})
}

// FIBStatus compares what was computed, what was published and what Envoy runs.
type FIBStatus struct {
	Computed        int     `json:"computed"`              // names in the RIB
	Names           int     `json:"names"`                 // published
	Groups          int     `json:"groups"`                // published, without the retired
	PublishedAgeSec float64 `json:"published_age_seconds"` // of what is published
	// Unpublished are names whose newest computed entry is not published, and
	// Unacked those whose published entry Envoy does not run: counts, and the
	// first of them.
	Unpublished      int      `json:"unpublished"`
	UnpublishedNames []string `json:"unpublished_names"`
	Unacked          int      `json:"unacked"`
	UnackedNames     []string `json:"unacked_names"`
	// Retired are groups that are out of use and kept for requests on their way.
	Retired  []string `json:"retired"`
	GroupCap bool     `json:"group_cap"` // too many groups: some lost their alternates
	// Failed: the newest configuration was not published, see the log.
	Failed bool `json:"failed"`
}

// maxNames bounds the names that a summary lists.
const maxNames = 16

func (p *picture) fibStatus(now time.Time) FIBStatus {
	out := FIBStatus{UnpublishedNames: []string{}, UnackedNames: []string{}, Retired: []string{}, Failed: p.unpublished}
	if p.rib != nil {
		out.Computed, out.GroupCap = p.rib.Len(), p.rib.GroupCap
	}
	var published, running *rib.RIB
	if pub := p.publication; pub != nil {
		out.Names, out.Groups, published = pub.rib.Len(), len(pub.rib.Groups), pub.rib
		out.PublishedAgeSec = now.Sub(pub.at).Seconds()
		for _, g := range pub.retired {
			out.Retired = append(out.Retired, g.Name)
		}
	}
	if p.running != nil && p.acked != "" {
		running = p.running.rib
	}
	if p.current() {
		running = published
	}
	out.Unpublished, out.UnpublishedNames = moved(published, p.rib)
	out.Unacked, out.UnackedNames = moved(running, published)
	return out
}

// moved counts the names that two RIBs forward otherwise, and names the first.
func moved(from, to *rib.RIB) (count int, names []string) {
	names = []string{}
	if from == to {
		return 0, names
	}
	for was, is := range rib.Diff(from, to).All() {
		if sameEntry(was, is) {
			continue // at another distance
		}
		if count++; len(names) < maxNames {
			names = append(names, cmp.Or(is, was).Prefix.String())
		}
	}
	return count, names
}

// SteeringStatus is one policy of the SCSC that steers requests here: an item of
// /api/v1/steering.
type SteeringStatus struct {
	Prefix   string       `json:"prefix"`
	PolicyID string       `json:"policy_id"`
	Paths    []PathStatus `json:"paths"`
	Acked    bool         `json:"acked"` // Envoy runs it
}

// PathStatus is one explicit path and its share.
type PathStatus struct {
	Nodes         []dmsc.NodeID `json:"nodes"`
	Instance      string        `json:"instance,omitempty"`
	WeightPercent uint32        `json:"weight_percent"`
}

func (p *picture) steering() []SteeringStatus {
	out := []SteeringStatus{}
	if p.publication == nil {
		return out
	}
	for _, s := range p.publication.steering {
		st := SteeringStatus{Prefix: s.Prefix.String(), PolicyID: s.PolicyID, Acked: p.current()}
		for _, w := range s.Paths {
			path := PathStatus{Nodes: some(w.Nodes), WeightPercent: w.Weight}
			if !w.Instance.IsZero() {
				path.Instance = w.Instance.String()
			}
			st.Paths = append(st.Paths, path)
		}
		out = append(out, st)
	}
	return out
}

// Lookup is how a request for one name is answered: /api/v1/lookup?name=.
type Lookup struct {
	Name string `json:"name"`
	// Computed is the entry that answers by the RIB, Published by what Envoy was
	// given; nil for none.
	Computed  *EntryStatus     `json:"computed,omitempty"`
	Published *EntryStatus     `json:"published,omitempty"`
	Why       string           `json:"why"`
	Owners    []OwnerStatus    `json:"owners"`
	Steering  []SteeringStatus `json:"steering"`
}

// OwnerStatus is a node that announces the answering prefix.
type OwnerStatus struct {
	Node       dmsc.NodeID  `json:"node"`
	Prefix     string       `json:"prefix"` // of a function: its instance
	Preference uint32       `json:"preference"`
	Metric     dmsc.Metric  `json:"metric"`
	Distance   *dmsc.Metric `json:"distance,omitempty"` // to the node; none: unreachable
	Chosen     bool         `json:"chosen"`
	Why        string       `json:"why"`
}

func (n *Node) lookupPage(q url.Values) (any, error) {
	if err := admin.Known(q, "name"); err != nil {
		return nil, err
	}
	name, err := dmsc.ParsePrefix(q.Get("name"))
	if err != nil {
		return nil, err
	}
	out := Lookup{Name: name.String(), Owners: []OwnerStatus{}, Steering: []SteeringStatus{}}
	p := n.picture.Load()
	if p == nil || p.rib == nil {
		out.Why = "nothing is computed yet: the node is starting"
		return out, nil
	}
	e := p.rib.Lookup(name.String())
	if e != nil {
		out.Computed = new(StatusOf(e))
	}
	if p.publication != nil {
		if pe := p.publication.rib.Lookup(name.String()); pe != nil {
			out.Published = new(StatusOf(pe))
			out.Published.InEnvoy = p.inEnvoy(pe)
		}
	}
	asked := name
	if e != nil {
		asked = e.Prefix
	}
	if e == nil || e.Kind != rib.Node {
		out.Owners = owners(p.view, p.rib, asked, e)
	}
	out.Why = answers(p.rib, name, e, out.Owners)
	for _, s := range p.steering() {
		if e != nil && s.Prefix == e.Prefix.String() {
			out.Steering = append(out.Steering, s)
		}
	}
	return out, nil
}

// answers says why an entry, nil for none, answers a name.
func answers(r *rib.RIB, name dmsc.ServicePrefix, e *rib.Entry, owners []OwnerStatus) string {
	switch {
	case e != nil && e.Kind == rib.Function:
		return "the pool of the instances directly below " + name.String()
	case e != nil && e.Kind == rib.Node:
		return "the name of a node"
	case e != nil && e.Prefix == name:
		return "announced as such"
	case e != nil:
		return "the longest announced prefix of " + name.String()
	case len(owners) > 0:
		return "announced, but by no node that can be reached"
	}
	for end := strings.LastIndexByte(name.String(), '/'); end > 0; end = strings.LastIndexByte(name.String()[:end], '/') {
		if p, err := dmsc.ParsePrefix(name.String()[:end]); err == nil {
			if f := entry(r, p); f != nil && f.Kind == rib.Function {
				return "nobody announces it; " + p.String() + " is a pool, which answers its exact name only"
			}
		}
	}
	return "nobody announces it, nor a prefix of it"
}

// owners lists who announces a prefix or the instances of a function, and why
// each is chosen or not.
func owners(v *linkstate.View, r *rib.RIB, prefix dmsc.ServicePrefix, e *rib.Entry) []OwnerStatus {
	out := []OwnerStatus{}
	function := e != nil && e.Kind == rib.Function
	for l := range v.Records.All() {
		c, ok := l.Content.(*linkstate.PrefixLSA)
		if !ok || l.Tombstone {
			continue
		}
		for _, p := range c.Prefixes {
			pool, _ := p.Prefix.Function()
			if p.Prefix != prefix && !(function && pool == prefix) {
				continue
			}
			o := OwnerStatus{Node: l.Origin, Prefix: p.Prefix.String(), Preference: p.Preference, Metric: p.Metric}
			if l.Origin == v.Node {
				o.Distance = new(dmsc.Metric(0))
			} else if id, err := dmsc.ParsePrefix("dmsc/node/" + string(l.Origin)); err == nil {
				if to := entry(r, id); to != nil {
					o.Distance = new(to.Distance)
				}
			}
			out = append(out, o)
		}
	}
	var best uint32
	for _, o := range out {
		if o.Distance != nil {
			best = max(best, o.Preference)
		}
	}
	for i := range out {
		o := &out[i]
		switch {
		case o.Distance == nil:
			o.Why = "it cannot be reached"
		case o.Preference < best:
			o.Why = "another has a higher preference"
		case e != nil && slices.Contains(e.Egress, o.Node) && (!function || slices.ContainsFunc(e.Instances, func(p dmsc.ServicePrefix) bool { return p.String() == o.Prefix })):
			o.Chosen, o.Why = true, "nearest"
			if e.Local {
				o.Why = "delivered here"
			}
		default:
			o.Why = "another is nearer"
		}
	}
	return out
}
