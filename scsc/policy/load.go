package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/manifest"
)

// Kind of the documents this package reads.
const Kind = "QoSPolicy"

// The stable codes of this package, which follow those of package manifest.
const (
	CodeNoThreshold = "DMSC201"
	CodeClear       = "DMSC202"
	CodeTrigger     = "DMSC203"
	CodeSelector    = "DMSC204"
	CodeCapacity    = "DMSC205"
	CodeAmbiguous   = "DMSC206"
	CodeRange       = "DMSC207"
	CodeHoldDown    = "DMSC208"
	CodeDefinition  = "DMSC209"
)

// Codes lists every code of this package with its meaning and what to do.
var Codes = []struct{ Code, Meaning, Fix string }{
	{CodeNoThreshold, "the rule has no threshold, so nothing can violate it", "give at least one of delay, jitter, bandwidth, loss"},
	{CodeClear, "clear is on the wrong side of enter", "clear is at most enter for delay, jitter and loss, at least enter for bandwidth"},
	{CodeTrigger, "the trigger is not MofN with 1 <= M <= N <= 60", "write for example samples: 3of5"},
	{CodeSelector, "the selector is no service prefix that a pod may announce", "write a prefix such as b/4, or leave it out for every name"},
	{CodeCapacity, "a bandwidth rule cannot judge links without capacity (warning)", "set the capacity of the links the message names"},
	{CodeAmbiguous, "two rules have one selector and one preference (warning)", "the lesser name wins; give one a higher preference"},
	{CodeRange, "a threshold is outside its range", "write a value above zero, loss at most 100%"},
	{CodeHoldDown, "the hold-down is longer than 24 hours", "write for example holdDown: 30s"},
	{CodeDefinition, "the definition, kind or match is not one that is measured", "jitter: pdv, bandwidth: available, match: AnyOf"},
}

// Set is what Load has read.
type Set struct {
	Rules    []QoSPolicy // sorted by Compare
	Warnings []error     // each a *manifest.Error; the rules are in force all the same
}

// Load reads the QoSPolicy documents of files, and of the YAML files directly
// in folders. Any other kind is a fault. The error joins every fault, each a
// *manifest.Error; the Set is then empty.
func Load(paths ...string) (Set, error) {
	docs, err := manifest.Load(paths...)
	return build(docs, err)
}

// Parse reads the documents of one file.
func Parse(file string, data []byte) (Set, error) {
	docs, err := manifest.Parse(file, data)
	return build(docs, err)
}

func build(docs []*manifest.Document, err error) (Set, error) {
	var set Set
	faults := []error{err}
	type ranked struct {
		selector   dmsc.ServicePrefix
		preference uint32
	}
	first := map[ranked]*manifest.Document{}
	for _, d := range docs {
		rule, err := read(d)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		key := ranked{rule.Selector, rule.Preference}
		if f := first[key]; f != nil {
			set.Warnings = append(set.Warnings, d.Errorf("$.spec.selector", CodeAmbiguous,
				"%s and %s (%s:%d) have one selector and one preference; %s decides", d.Name, f.Name, f.File, f.Line, min(d.Name, f.Name)))
		} else {
			first[key] = d
		}
		set.Rules = append(set.Rules, rule)
	}
	if err := errors.Join(faults...); err != nil {
		return Set{}, err
	}
	Sort(set.Rules)
	return set, nil
}

// spec is the YAML form.
type spec struct {
	Selector struct {
		Prefix string `yaml:"prefix"`
	} `yaml:"selector"`
	Preference uint32 `yaml:"preference"`
	Match      string `yaml:"match"`
	Thresholds struct {
		Delay *struct {
			Enter manifest.Duration  `yaml:"enter,required"`
			Clear *manifest.Duration `yaml:"clear"`
		} `yaml:"delay"`
		Jitter *struct {
			Enter      manifest.Duration  `yaml:"enter,required"`
			Clear      *manifest.Duration `yaml:"clear"`
			Definition string             `yaml:"definition"`
		} `yaml:"jitter"`
		Bandwidth *struct {
			Enter manifest.Bandwidth  `yaml:"enter,required"`
			Clear *manifest.Bandwidth `yaml:"clear"`
			Kind  string              `yaml:"kind"`
		} `yaml:"bandwidth"`
		Loss *struct {
			Enter manifest.Percent  `yaml:"enter,required"`
			Clear *manifest.Percent `yaml:"clear"`
		} `yaml:"loss"`
	} `yaml:"thresholds"`
	Trigger struct {
		Samples string `yaml:"samples"`
	} `yaml:"trigger"`
	Recovery struct {
		HoldDown manifest.Duration `yaml:"holdDown"`
	} `yaml:"recovery"`
}

// reader turns one document into a rule and notes every fault.
type reader struct {
	doc    *manifest.Document
	faults []error
}

func (r *reader) faultf(path, code, format string, args ...any) {
	r.faults = append(r.faults, r.doc.Errorf("$.spec"+path, code, format, args...))
}

func read(d *manifest.Document) (QoSPolicy, error) {
	if err := d.Expect(Kind); err != nil {
		return QoSPolicy{}, err
	}
	s := spec{Preference: DefaultPreference}
	s.Recovery.HoldDown = manifest.Duration(DefaultHoldDown)
	if err := d.Decode(&s); err != nil {
		return QoSPolicy{}, err
	}
	r := &reader{doc: d}
	q := QoSPolicy{
		Name:       d.Name,
		Selector:   r.selector(s.Selector.Prefix),
		Preference: s.Preference,
		Thresholds: r.thresholds(&s),
		Trigger:    r.trigger(s.Trigger.Samples),
		HoldDown:   time.Duration(s.Recovery.HoldDown),
	}
	r.word(".match", "match", s.Match, "AnyOf")
	if q.HoldDown > 24*time.Hour {
		r.faultf(".recovery.holdDown", CodeHoldDown, "holdDown %v is longer than 24h", q.HoldDown)
	}
	return q, errors.Join(r.faults...)
}

func (r *reader) selector(s string) dmsc.ServicePrefix {
	if s == "" {
		return dmsc.ServicePrefix{}
	}
	p, err := dmsc.ParsePrefix(s)
	switch {
	case err != nil:
		r.faultf(".selector.prefix", CodeSelector, "%v", err)
	case p.Reserved():
		r.faultf(".selector.prefix", CodeSelector, "%s belongs to the network itself, no pod announces it", p)
	}
	return p
}

func (r *reader) thresholds(s *spec) Thresholds {
	var t Thresholds
	if d := s.Thresholds.Delay; d != nil {
		t.Delay = upper(r, "delay", time.Duration(d.Enter), (*time.Duration)(d.Clear))
	}
	if j := s.Thresholds.Jitter; j != nil {
		t.Jitter = upper(r, "jitter", time.Duration(j.Enter), (*time.Duration)(j.Clear))
		r.word(".thresholds.jitter.definition", "definition", j.Definition, "pdv")
	}
	if b := s.Thresholds.Bandwidth; b != nil {
		t.Bandwidth = r.bandwidth(uint64(b.Enter), (*uint64)(b.Clear))
		r.word(".thresholds.bandwidth.kind", "kind", b.Kind, "available")
	}
	if l := s.Thresholds.Loss; l != nil {
		var clear *float64
		if l.Clear != nil {
			clear = new(l.Clear.Fraction())
		}
		t.Loss = upper(r, "loss", l.Enter.Fraction(), clear)
	}
	if t == (Thresholds{}) && len(r.faults) == 0 {
		r.faultf(".thresholds", CodeNoThreshold, "no threshold is given, at least one of delay, jitter, bandwidth, loss is needed")
	}
	return t
}

// upper reads a limit that is violated from below. Clear defaults to 0.8 of enter.
func upper[T ~int64 | ~float64](r *reader, name string, enter T, clear *T) *Limit[T] {
	if enter <= 0 {
		r.faultf(".thresholds."+name+".enter", CodeRange, "%s enter must be above zero: every path would violate it", name)
	}
	if clear == nil {
		return &Limit[T]{enter, T(0.8 * float64(enter))}
	}
	switch {
	case *clear > enter:
		r.faultf(".thresholds."+name+".clear", CodeClear, "%s clear is above enter: a path could be violated and clear at once", name)
	case *clear <= 0:
		r.faultf(".thresholds."+name+".clear", CodeRange, "%s clear must be above zero: no path would ever be clear", name)
	}
	return &Limit[T]{enter, *clear}
}

// bandwidth reads the one lower bound. Clear defaults to 1.25 of enter.
func (r *reader) bandwidth(enter uint64, clear *uint64) *Limit[uint64] {
	if clear == nil {
		clear = new(enter + enter/4)
	}
	switch {
	case enter == 0:
		r.faultf(".thresholds.bandwidth.enter", CodeRange, "bandwidth enter must be above zero")
	case *clear < enter:
		r.faultf(".thresholds.bandwidth.clear", CodeClear, "bandwidth clear is below enter: a path could be violated and clear at once")
	}
	return &Limit[uint64]{enter, *clear}
}

func (r *reader) trigger(s string) Trigger {
	if s == "" {
		return DefaultTrigger
	}
	m, n, ok := strings.Cut(s, "of")
	samples, err1 := strconv.Atoi(m)
	of, err2 := strconv.Atoi(n)
	switch {
	case !ok || err1 != nil || err2 != nil:
		r.faultf(".trigger.samples", CodeTrigger, "samples %q is not of the form 3of5", s)
	case samples > of:
		r.faultf(".trigger.samples", CodeTrigger, "samples %s asks for %d of only %d: it could never trigger", s, samples, of)
	case samples < 1 || of > 60:
		r.faultf(".trigger.samples", CodeTrigger, "samples %s is out of range: from 1of1 to 60of60", s)
	}
	return Trigger{samples, of}
}

// word checks an optional key that has one value only so far.
func (r *reader) word(path, key, got, only string) {
	if got != "" && got != only {
		r.faultf(path, CodeDefinition, "%s %q is not measured, only %s is", key, got, only)
	}
}

// CapacityWarning says that a rule judges bandwidth on links of unknown
// capacity, which it then takes as kept; nil when there is nothing to say.
func CapacityWarning(rule *QoSPolicy, unknown []string) error {
	if rule.Thresholds.Bandwidth == nil || len(unknown) == 0 {
		return nil
	}
	return fmt.Errorf("%s policy %s: bandwidth is not judged on links without capacity: %s", CodeCapacity, rule.Name, strings.Join(unknown, ", "))
}
