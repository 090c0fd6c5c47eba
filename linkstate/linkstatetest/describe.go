package linkstatetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

func describeChange(c linkstate.Change) string {
	var parts []string
	for bit, name := range []string{"prefixes", "topology", "neighbours"} {
		if c&(1<<bit) != 0 {
			parts = append(parts, name)
		}
	}
	return strings.Join(parts, " ")
}

func describeLSDB(v *linkstate.View) string {
	var b strings.Builder
	for l := range v.Records.All() {
		fmt.Fprintf(&b, "  %s %s %s\n", l.Key, l.Order, describeBody(l))
	}
	return b.String()
}

func describeBody(l *linkstate.LSA) string {
	if l.Tombstone {
		return "tombstone"
	}
	switch c := l.Content.(type) {
	case *linkstate.NodeLSA:
		s := c.Role.String()
		if c.Transit {
			s += " transit"
		}
		if c.Algorithm != linkstate.AlgorithmIGP {
			s += " " + c.Algorithm.String()
		}
		if len(c.Avoid) > 0 {
			s += " avoid=" + strings.Join(c.Avoid, ",")
		}
		for _, k := range c.Links {
			s += fmt.Sprintf(" %s=%d", linkstate.LinkKey{Remote: k.Remote, ID: k.ID}, k.Metric)
			if k.Metric == dmsc.LastResort {
				s = strings.TrimSuffix(s, fmt.Sprint(k.Metric)) + "last-resort"
			}
			if len(k.Tags) > 0 {
				s += fmt.Sprintf("[%s]", strings.Join(k.Tags, ","))
			}
			if k.Delay > 0 {
				s += fmt.Sprintf("(%s)", k.Delay)
			}
		}
		return s
	case *linkstate.PrefixLSA:
		var names []string
		for _, p := range c.Prefixes {
			name := p.Prefix.String()
			if p.Preference > 0 {
				name += fmt.Sprintf("^%d", p.Preference)
			}
			if p.Metric >= dmsc.LastResort {
				name += "=last-resort"
				p.Metric -= dmsc.LastResort
			}
			if p.Metric > 0 {
				name += fmt.Sprintf("+%d", p.Metric)
			}
			names = append(names, name)
		}
		return strings.Join(names, " ")
	}
	if a, ok := l.Content.(*linkstate.AuthLSA); ok {
		return fmt.Sprintf("authorization of %d bytes", len(a.POA))
	}
	return fmt.Sprintf("%d bytes", len(l.Body))
}

func describe(m linkstate.Message) string {
	switch m := m.(type) {
	case *linkstate.Hello:
		s := "hello"
		if m.Seen != 0 {
			s += " seen"
		}
		if m.Held != 0 {
			s += fmt.Sprintf(" held=%d", m.Held)
		}
		if !m.DataPlane {
			s += " data-plane=down"
		}
		return s
	case *linkstate.LSUpdate:
		var keys []string
		for _, l := range m.Records {
			keys = append(keys, fmt.Sprintf("%s@%s", l.Key, l.Order))
		}
		return fmt.Sprintf("update %d %s", m.Seq, strings.Join(keys, " "))
	case *linkstate.LSAck:
		return fmt.Sprintf("ack %d", m.Seq)
	case *linkstate.Digest:
		if m.Synced {
			return "digest synced"
		}
		return "digest"
	}
	return fmt.Sprintf("%T", m)
}

// Describe prints a View for a failing test: its records and adjacencies.
func Describe(v *linkstate.View) string {
	s := describeLSDB(v)
	for _, a := range v.Adjacencies {
		s += fmt.Sprintf("  > %s %s alive=%t pending=%d since=%s\n", a.LinkKey, a.State, a.Alive, a.Pending, a.Since.Sub(Epoch).Round(time.Millisecond))
	}
	return s
}
