package dmsc

import (
	"cmp"
	"fmt"
	"strings"
)

// Limits of the prefix grammar (design §3).
const (
	MaxPrefixBytes    = 255
	MaxPrefixSegments = 16
	MaxSegmentBytes   = 63
)

// reservedSegment is the first segment that no pod may announce: dmsc/hello
// and dmsc/node/<id> are answered by the nodes themselves.
const reservedSegment = "dmsc"

// ServicePrefix is a service's hierarchical name, the draft's "service prefix
// (namespace)" (draft §4.1): segments separated by "/", for example a/1. It is
// case-insensitive and always held in canonical lower case. The zero value is
// no prefix. Values are comparable and order with Compare.
type ServicePrefix struct{ s string }

// ParsePrefix reads a service prefix and returns its canonical form.
// The error names the first rule that s breaks.
func ParsePrefix(s string) (ServicePrefix, error) {
	switch {
	case s == "":
		return ServicePrefix{}, fmt.Errorf("service prefix is empty")
	case len(s) > MaxPrefixBytes:
		return ServicePrefix{}, fmt.Errorf("service prefix has %d bytes, at most %d are allowed", len(s), MaxPrefixBytes)
	}
	s = strings.ToLower(s)
	segments := 0
	for seg := range strings.SplitSeq(s, "/") {
		segments++
		if err := checkSegment(seg); err != nil {
			return ServicePrefix{}, fmt.Errorf("service prefix %q: segment %d %w", s, segments, err)
		}
	}
	if segments > MaxPrefixSegments {
		return ServicePrefix{}, fmt.Errorf("service prefix %q has %d segments, at most %d are allowed", s, segments, MaxPrefixSegments)
	}
	return ServicePrefix{s}, nil
}

func checkSegment(seg string) error {
	switch {
	case seg == "":
		return fmt.Errorf("is empty (no leading, trailing or double %q)", "/")
	case seg == "." || seg == "..":
		return fmt.Errorf("is %q", seg)
	case len(seg) > MaxSegmentBytes:
		return fmt.Errorf("has %d bytes, at most %d are allowed", len(seg), MaxSegmentBytes)
	}
	for i := range len(seg) {
		c := seg[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '~' || c == '.' {
			continue
		}
		return fmt.Errorf("has the character %q; the allowed ones are . - _ ~ 0-9 a-z", rune(c))
	}
	return nil
}

// MustParsePrefix is ParsePrefix for constants; it panics on an error.
func MustParsePrefix(s string) ServicePrefix {
	p, err := ParsePrefix(s)
	if err != nil {
		panic(err)
	}
	return p
}

// String returns the canonical form, "" for the zero value.
func (p ServicePrefix) String() string { return p.s }

// IsZero reports whether p is no prefix.
func (p ServicePrefix) IsZero() bool { return p.s == "" }

// Compare orders prefixes by their canonical bytes.
func (p ServicePrefix) Compare(q ServicePrefix) int { return cmp.Compare(p.s, q.s) }

// Covers reports whether q is p or lies below it. Containment is by segment:
// a/1 covers a/1/x and never a/10.
func (p ServicePrefix) Covers(q ServicePrefix) bool {
	return p.s != "" && strings.HasPrefix(q.s, p.s) && (len(q.s) == len(p.s) || q.s[len(p.s)] == '/')
}

// Function returns the name one segment shorter, whose function route pools
// this instance (design §3): the function of a/1 is a. A prefix of one segment
// has none.
func (p ServicePrefix) Function() (ServicePrefix, bool) {
	i := strings.LastIndexByte(p.s, '/')
	if i < 0 {
		return ServicePrefix{}, false
	}
	return ServicePrefix{p.s[:i]}, true
}

// Reserved reports whether the name belongs to the network itself (dmsc/…).
func (p ServicePrefix) Reserved() bool {
	return p.s == reservedSegment || strings.HasPrefix(p.s, reservedSegment+"/")
}

// MarshalText implements encoding.TextMarshaler.
func (p ServicePrefix) MarshalText() ([]byte, error) { return []byte(p.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler by ParsePrefix.
func (p *ServicePrefix) UnmarshalText(b []byte) error {
	q, err := ParsePrefix(string(b))
	if err != nil {
		return err
	}
	*p = q
	return nil
}
