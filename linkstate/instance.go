package linkstate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// Instance is the link-state protocol of one node. It is not safe for
// concurrent use: one goroutine owns it. See the package documentation for its
// loop.
type Instance struct {
	cfg  Config
	rand *rand.Rand
	now  time.Time // of the Step or Tick in progress

	// The node itself.
	incarnation uint64
	seq         uint64 // the last one given out; never goes back in one life
	drain       Drain
	prefixes    []Prefix // of the last SetPrefixes, sorted
	dataPlane   bool     // false once our Envoy is known to have ended

	// The start-up phase.
	born, firstStream time.Time // New, and the first stream of a configured link
	ticked            bool      // the caller has had its say about links
	starting          bool      // our records do not leave yet, View.Synced is not set

	// The neighbours; order is links sorted by key.
	links map[LinkKey]*adjacency
	order []*adjacency

	touched []*adjacency // by this turn
	dues    dues         // what Tick has to look at

	// The records: everyone's, and how ours should be.
	db      database
	wants   map[Key]wanted
	dirty   map[Key]struct{} // own records to compare with wants
	adopted map[Key]struct{} // own records of an earlier life, under their lease
	buckets map[Key]*bucket
	// Outdoing our own records met elsewhere: not before raiseAt, and above
	// raiseTo if that is not 0.
	raiseTo   uint64
	raiseAt   time.Time
	raiseGap  time.Duration
	reduction reduction
	retryAt   time.Time // when a damped record may be originated; zero = none waits
	nodeDirty bool      // the NodeLSA is to be rebuilt

	// What this turn has brought.
	news  []news
	good  goodNews
	moved bool // the topology changed, held links become a last resort

	// What the caller has not fetched yet.
	ready   Ready
	changed map[Key]struct{}
	view    *View
	stale   bool // view is
	// Adjacencies with pending records, and how many have become such or are no
	// longer since view was made: when these are as many, it is made anew.
	sending, unshown int
	alarmed          map[string]struct{}
	sirens           map[string]*siren

	// Whom links lead to, as of reachedAt; see connected.
	reached   map[dmsc.NodeID]bool
	reachedAt time.Time
}

// New returns the protocol of a node at its start. The error names every fault
// of cfg. Links and prefixes follow as the events SetLinks and SetPrefixes,
// before the first Tick.
func New(cfg Config, now time.Time) (*Instance, error) {
	cfg.Avoid = slices.Compact(slices.Sorted(slices.Values(cfg.Avoid)))
	cfg.Lifetime = cmp.Or(cfg.Lifetime, MaxLifetime)
	cfg.MaxRecords = cmp.Or(cfg.MaxRecords, DefaultMaxRecords)
	cfg.Lease = cmp.Or(cfg.Lease, 30*time.Second)
	cfg.Hold = cmp.Or(cfg.Hold, 60*time.Second)
	cfg.StartUp = cmp.Or(cfg.StartUp, 500*time.Millisecond)
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("link state of node %q: %w", cfg.Node, err)
	}
	return &Instance{
		cfg:         cfg,
		rand:        rand.New(rand.NewPCG(cfg.Seed, cfg.Incarnation)),
		now:         now,
		incarnation: cfg.Incarnation,
		dataPlane:   true,
		born:        now,
		starting:    true,
		links:       make(map[LinkKey]*adjacency),
		db:          newDatabase(),
		wants:       make(map[Key]wanted),
		dirty:       make(map[Key]struct{}),
		adopted:     make(map[Key]struct{}),
		buckets:     make(map[Key]*bucket),
		nodeDirty:   true,
		changed:     make(map[Key]struct{}),
		good:        goodNews{keys: make(map[Key]struct{})},
		stale:       true,
		alarmed:     make(map[string]struct{}),
		sirens:      make(map[string]*siren),
	}, nil
}

func (c *Config) validate() error {
	var errs []error
	if _, err := dmsc.ParseNodeID(string(c.Node)); err != nil {
		errs = append(errs, err)
	}
	if c.Domain == "" {
		errs = append(errs, errors.New("domain is empty"))
	}
	if c.Role != dmsc.RoleSG && c.Role != dmsc.RoleSR && c.Role != dmsc.RoleObserver {
		errs = append(errs, fmt.Errorf("role %s is not one of SG, SR, observer", c.Role))
	}
	if c.Incarnation >= MaxIncarnation || c.Incarnation == 0 && c.Role != dmsc.RoleObserver {
		errs = append(errs, fmt.Errorf("incarnation %d is outside 1..2^48-1", c.Incarnation))
	}
	if c.Encode == nil {
		errs = append(errs, errors.New("no Encode function"))
	}
	if c.Lifetime < 2*time.Second || c.Lifetime > MaxLifetime {
		errs = append(errs, fmt.Errorf("lifetime %s is outside 2s..%s", c.Lifetime, MaxLifetime))
	}
	if c.MaxRecords < 0 {
		errs = append(errs, fmt.Errorf("at most %d records are none", c.MaxRecords))
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"lease", c.Lease}, {"hold", c.Hold}, {"start-up", c.StartUp}} {
		if d.d < 0 {
			errs = append(errs, fmt.Errorf("%s %s is negative", d.name, d.d))
		}
	}
	return errors.Join(errs...)
}

// Step takes in one event. What follows from it is in the next Ready.
func (i *Instance) Step(now time.Time, ev Event) {
	i.begin(now)
	switch ev := ev.(type) {
	case StreamUp:
		i.onStreamUp(ev)
	case StreamDown:
		i.onStreamDown(ev)
	case Received:
		i.onReceived(ev)
	case Probed:
		i.onProbed(ev)
	case DataPlane:
		i.onDataPlane(ev)
	case SetLinks:
		i.onSetLinks(ev)
	case SetPrefixes:
		i.onSetPrefixes(ev)
	case SetAuthorizations:
		i.onSetAuthorizations(ev)
	case SetQuality:
		i.onSetQuality(ev)
	case SetDrain:
		i.onSetDrain(ev)
	}
	i.settle()
}

func (i *Instance) onReceived(ev Received) {
	a := i.links[ev.Link]
	if a == nil || !a.stream {
		return // the rest of a stream that has ended
	}
	i.touch(a)
	switch m := ev.Message.(type) {
	case *Hello:
		if m != nil {
			i.onHello(a, m)
		}
	case *LSUpdate:
		if m != nil {
			i.onUpdate(a, m)
		}
	case *LSAck:
		if m != nil {
			i.onAck(a, m)
		}
	case *Digest:
		if m != nil {
			i.onDigest(a, m)
		}
	}
}

// Tick does what has become due. Calling it early does no harm; see Deadline.
func (i *Instance) Tick(now time.Time) {
	i.begin(now)
	i.ticked = true
	i.age()
	i.raiseLate()
	i.touchDue()
	for a := range i.eachTouched() {
		i.converse(a)
	}
	i.reduceFlooding()
	i.settle()
}

// begin takes in the time. Timers run on elapsed time, if the caller's time has
// a monotonic reading as time.Now gives it.
func (i *Instance) begin(now time.Time) {
	if set := now.Round(0).Sub(i.now.Round(0)) - now.Sub(i.now); set.Abs() >= clockSet {
		i.alarm(AlarmClock, "the wall clock of this node was set by %s: what it holds lives on, and what it sends and receives is judged by the new time", set.Round(time.Second))
	}
	if now.After(i.now) {
		i.now = now
	}
}

// clockSet is by how much the wall clock has to be set between two turns to be
// worth an alarm.
const clockSet = 10 * time.Second

// settle draws the conclusions of a turn, in the order that failures need:
// links first, then our own records, then flooding.
func (i *Instance) settle() {
	for a := range i.eachTouched() {
		i.exchanged(a)
		i.advance(a)
	}
	i.undamp()
	i.degradeHeld()
	i.startUp()
	i.publish()
	i.flood()
	i.pump()
	i.tellGoodNews()
	i.untouch()
}

// Deadline returns when Tick next has something to do; the zero time is never.
func (i *Instance) Deadline() time.Time {
	first := i.db.next()
	consider := func(t time.Time) {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	consider(i.retryAt)
	consider(i.good.due)
	if i.raiseTo > 0 {
		consider(i.raiseAt)
	}
	if !i.starting {
		consider(i.reduction.due)
	}
	if i.starting && !i.configured() && !i.ticked {
		consider(i.born)
	}
	if ends := i.startUpEnds(); i.starting && i.now.Before(ends) {
		consider(ends)
	}
	if len(i.dues) > 0 {
		consider(i.dues[0].due)
	}
	return first
}

// Ready returns what has to be done since the last call, and forgets it. The
// order between its parts is documented at its fields.
func (i *Instance) Ready() Ready {
	rd := i.ready
	i.ready = Ready{}
	if len(i.changed) > 0 {
		rd.Records = slices.SortedFunc(maps.Keys(i.changed), Key.Compare)
		clear(i.changed)
	}
	return rd
}
