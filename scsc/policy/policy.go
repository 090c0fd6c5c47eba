package policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// Defaults of a QoSPolicy. At the SCSC's 500 ms sampling three of five samples
// decide about 2 s after a fault.
const (
	DefaultPreference = 100
	DefaultHoldDown   = 30 * time.Second
)

// DefaultTrigger is three of the last five samples.
var DefaultTrigger = Trigger{Samples: 3, Of: 5}

// QoSPolicy is one rule: the preset conditions (draft §5(3)) for the names it
// selects. It is a value without pointers to anything that changes.
type QoSPolicy struct {
	Name string
	// Selector covers the names the rule is for; zero selects every name.
	Selector dmsc.ServicePrefix
	// Preference decides between rules of one selector: higher wins.
	Preference uint32
	Thresholds Thresholds
	Trigger    Trigger
	// HoldDown is how long the path of plain SPF has to be clear of every
	// threshold before traffic returns to it.
	HoldDown time.Duration
}

// Thresholds are the limits a path has to keep; reaching any one of them is a
// violation. A nil limit is not judged.
type Thresholds struct {
	Delay     *Limit[time.Duration] // one way; violated at or above
	Jitter    *Limit[time.Duration] // p95 - minimum (pdv, RFC 5481); violated at or above
	Bandwidth *Limit[uint64]        // available bit/s; violated at or below
	Loss      *Limit[float64]       // 0..1; violated at or above
}

// Limit is a threshold with hysteresis. Reaching Enter violates (inclusive, as
// the draft has it); being strictly on the good side of Clear ends it.
type Limit[T cmp.Ordered] struct{ Enter, Clear T }

// Above reports whether v violates a limit that is an upper bound.
func (l Limit[T]) Above(v T) bool { return v >= l.Enter }

// Below reports whether v violates a limit that is a lower bound.
func (l Limit[T]) Below(v T) bool { return v <= l.Enter }

// Trigger is the m of the last n samples that must violate.
type Trigger struct{ Samples, Of int }

func (t Trigger) String() string { return fmt.Sprintf("%dof%d", t.Samples, t.Of) }

// Selects reports whether the rule is for this name.
func (q *QoSPolicy) Selects(name dmsc.ServicePrefix) bool {
	return q.Selector.IsZero() || q.Selector.Covers(name)
}

// Compare puts the rule that wins first: the longer selector, then the higher
// preference, then the lesser name. The order of files and documents has no
// influence.
func Compare(a, b QoSPolicy) int {
	return cmp.Or(
		cmp.Compare(len(b.Selector.String()), len(a.Selector.String())),
		cmp.Compare(b.Preference, a.Preference),
		cmp.Compare(a.Name, b.Name),
	)
}

// Sort orders rules by Compare.
func Sort(rules []QoSPolicy) { slices.SortFunc(rules, Compare) }

// Find returns the rule that decides for a name out of sorted rules, nil if
// none selects it.
func Find(sorted []QoSPolicy, name dmsc.ServicePrefix) *QoSPolicy {
	for i := range sorted {
		if sorted[i].Selects(name) {
			return &sorted[i]
		}
	}
	return nil
}
