package spa

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/dmsc-mesh/dmsc"
)

// TestAuthority reads as grants followed by claims: "pod@gateway prefix…".
func TestAuthority(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		a := NewAuthority(nil)
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			var b strings.Builder
			switch td.Cmd {
			case "grants":
				text := "apiVersion: dmsc.io/v1alpha1\nkind: PrefixGrants\nmetadata: {name: test}\nspec:\n  grants:\n    " + strings.ReplaceAll(td.Input, "\n", "\n    ") + "\n"
				grants, err := ParseGrants("grants.yaml", []byte(text))
				if err != nil {
					return err.Error()
				}
				a = NewAuthority(grants)
				fmt.Fprintf(&b, "%d grants", len(grants))
			case "file":
				grants, err := ParseGrants("grants.yaml", []byte(td.Input))
				fmt.Fprintf(&b, "%d grants\n%v", len(grants), err)
			case "claim":
				for line := range strings.Lines(td.Input) {
					words := strings.Fields(line)
					pod, gateway, _ := strings.Cut(words[0], "@")
					for _, v := range a.Judge(Claim{Gateway: dmsc.NodeID(gateway), Pod: pod, Prefixes: words[1:]}) {
						answer := "granted"
						if !v.Granted {
							answer = fmt.Sprintf("%s: %s", v.Code, v.Reason)
						}
						fmt.Fprintf(&b, "%s %s: %s\n", words[0], v.Prefix, answer)
					}
				}
			}
			return b.String()
		})
	})
}

// TestAuthorityAgreesWithTheSlowDecision compares Judge with a linear reading
// of the rule on random grants and claims over a small name space, in which
// nesting, anycast and denials are frequent.
func TestAuthorityAgreesWithTheSlowDecision(t *testing.T) {
	const seed = 20261122
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	name := func() string {
		segments := make([]string, 1+r.IntN(4))
		for i := range segments {
			segments[i] = []string{"a", "b", "1", "10"}[r.IntN(4)]
		}
		return strings.Join(segments, "/")
	}
	pods := []string{"p", "q", "r"}
	gateways := []dmsc.NodeID{"sg-1", "sg-2"}
	seen := map[Code]int{}
	for range 2000 {
		var grants []Grant
		taken := map[string]bool{}
		for range r.IntN(12) {
			g := Grant{Holder: pods[r.IntN(3)], Prefix: dmsc.MustParsePrefix(name()), Scope: Scope(r.IntN(2)), Deny: r.IntN(6) == 0}
			if g.Deny && r.IntN(2) == 0 {
				g.Holder = ""
			}
			if !g.Deny && r.IntN(3) == 0 {
				g.Gateways = gateways[:1]
			}
			if k := g.Holder + " " + g.Prefix.String(); !taken[k] {
				taken[k] = true
				grants = append(grants, g)
			}
		}
		a := NewAuthority(grants)
		for range 20 {
			c := Claim{Gateway: gateways[r.IntN(2)], Pod: pods[r.IntN(3)], Prefixes: []string{name()}}
			got := a.Judge(c)[0]
			want := slow(grants, c.Gateway, c.Pod, dmsc.MustParsePrefix(c.Prefixes[0]))
			if got.Code != want || got.Granted != (want == "") {
				t.Fatalf("grants %+v\nclaim %+v: %+v, slow says %q", grants, c, got, want)
			}
			seen[want]++
		}
	}
	for _, code := range []Code{"", NotGranted, WrongHolder, OutOfScope, WrongGateway} {
		if seen[code] < 100 {
			t.Errorf("only %d cases of %q, the comparison proves little", seen[code], code)
		}
	}
}

// slow decides by looking at every grant, in words of the design: the longest
// covering grant decides alone.
func slow(grants []Grant, gateway dmsc.NodeID, pod string, p dmsc.ServicePrefix) Code {
	longest := -1
	for _, g := range grants {
		if g.Prefix.Covers(p) {
			longest = max(longest, len(g.Prefix.String()))
		}
	}
	decision := NotGranted
	for _, g := range grants {
		if !g.Prefix.Covers(p) || len(g.Prefix.String()) != longest {
			continue
		}
		mine := g.Holder == pod
		switch {
		case g.Deny && (mine || g.Holder == ""):
			return NotGranted
		case g.Deny:
		case !mine && decision == NotGranted:
			decision = WrongHolder
		case !mine:
		case g.Scope == Exact && g.Prefix != p:
			decision = OutOfScope
		case len(g.Gateways) > 0 && g.Gateways[0] != gateway:
			decision = WrongGateway
		default:
			decision = ""
		}
	}
	// A denial to everybody may come later in the list than the grant.
	for _, g := range grants {
		if g.Deny && g.Holder == "" && g.Prefix.Covers(p) && len(g.Prefix.String()) == longest {
			return NotGranted
		}
	}
	return decision
}
