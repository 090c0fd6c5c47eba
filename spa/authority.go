package spa

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// Claim asks whether a pod may announce prefixes at a gateway.
type Claim struct {
	Gateway  dmsc.NodeID
	Pod      string
	Prefixes []string // as the pod wrote them
}

// Code is the stable reason of a denial; empty in a grant.
type Code string

// The codes. All are final but RateLimited: the answer holds until the grants
// change, and the change is pushed.
const (
	NotGranted   Code = "not_granted"
	WrongHolder  Code = "wrong_holder"
	OutOfScope   Code = "out_of_scope"
	WrongGateway Code = "wrong_gateway"
	Malformed    Code = "malformed"
	Reserved     Code = "reserved"
	RateLimited  Code = "rate_limited"
)

// Verdict is the SPA's word on one prefix.
type Verdict struct {
	Prefix  string // as claimed
	Granted bool
	Code    Code
	Reason  string // in words, naming the grant that decided
	// Final: the answer holds until the grants change. Otherwise the client
	// asks again after RetryAfter.
	Final      bool
	RetryAfter time.Duration
}

// Authority decides claims by a list of grants. It is immutable.
type Authority struct {
	grants map[dmsc.ServicePrefix][]Grant
}

// NewAuthority indexes grants; the order does not matter.
func NewAuthority(grants []Grant) *Authority {
	a := &Authority{grants: make(map[dmsc.ServicePrefix][]Grant, len(grants))}
	for _, g := range grants {
		a.grants[g.Prefix] = append(a.grants[g.Prefix], g)
	}
	return a
}

// Judge returns one verdict per claimed prefix, in order. One bad prefix does
// not deny the others.
func (a *Authority) Judge(c Claim) []Verdict {
	verdicts := make([]Verdict, len(c.Prefixes))
	for i, p := range c.Prefixes {
		code, reason := a.decide(c.Gateway, c.Pod, p)
		verdicts[i] = Verdict{Prefix: p, Granted: code == "", Code: code, Reason: reason, Final: true}
	}
	return verdicts
}

func (a *Authority) decide(gateway dmsc.NodeID, pod, claimed string) (Code, string) {
	prefix, err := dmsc.ParsePrefix(claimed)
	switch {
	case err != nil:
		return Malformed, err.Error()
	case prefix.Reserved():
		return Reserved, fmt.Sprintf("%s belongs to the network itself", prefix)
	}
	covering := a.longest(prefix)
	if len(covering) == 0 {
		return NotGranted, fmt.Sprintf("no grant covers %s", prefix)
	}
	for _, g := range covering {
		if g.Deny && (g.Holder == "" || g.Holder == pod) {
			return NotGranted, fmt.Sprintf("%s is denied to %s (%s)", g.Prefix, whom(g), g.Source)
		}
	}
	i := slices.IndexFunc(covering, func(g Grant) bool { return g.Holder == pod && !g.Deny })
	if i < 0 {
		return wrongHolder(covering)
	}
	g := covering[i]
	switch {
	case g.Scope == Exact && g.Prefix != prefix:
		return OutOfScope, fmt.Sprintf("%s is granted exactly, %s lies below it (%s)", g.Prefix, prefix, g.Source)
	case len(g.Gateways) > 0 && !slices.Contains(g.Gateways, gateway):
		return WrongGateway, fmt.Sprintf("%s is granted at %s, not at %s (%s)", g.Prefix, join(g.Gateways), gateway, g.Source)
	}
	return "", ""
}

// longest returns the grants of the longest granted prefix that covers p; they
// differ in their holders.
func (a *Authority) longest(p dmsc.ServicePrefix) []Grant {
	for ok := true; ok; p, ok = p.Function() {
		if g := a.grants[p]; len(g) > 0 {
			return g
		}
	}
	return nil
}

func wrongHolder(covering []Grant) (Code, string) {
	var holders []string
	for _, g := range covering {
		if !g.Deny {
			holders = append(holders, g.Holder)
		}
	}
	slices.Sort(holders)
	if len(holders) == 0 { // denials to others alone grant nothing
		return NotGranted, fmt.Sprintf("%s is granted to nobody (%s)", covering[0].Prefix, covering[0].Source)
	}
	return WrongHolder, fmt.Sprintf("%s is granted to %s (%s)", covering[0].Prefix, strings.Join(holders, ", "), covering[0].Source)
}

func join(ids []dmsc.NodeID) string {
	var names []string
	for _, id := range ids {
		names = append(names, string(id))
	}
	return strings.Join(names, ", ")
}
