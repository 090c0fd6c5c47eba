package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

// testdata/load: parse prints the rules in order of precedence, warnings and
// faults; find prints which rule decides for a name.
func TestLoad(t *testing.T) {
	var rules []policy.QoSPolicy
	datadriven.RunTest(t, "testdata/load", func(t *testing.T, d *datadriven.TestData) string {
		var b strings.Builder
		switch d.Cmd {
		case "parse":
			set, err := policy.Parse("p.yaml", []byte(d.Input))
			if err != nil {
				return err.Error() + "\n"
			}
			rules = set.Rules
			for _, r := range set.Rules {
				fmt.Fprintf(&b, "%s selector=%s preference=%d trigger=%s holdDown=%v", r.Name, r.Selector, r.Preference, r.Trigger, r.HoldDown)
				if l := r.Thresholds.Delay; l != nil {
					fmt.Fprintf(&b, " delay=%v/%v", l.Enter, l.Clear)
				}
				if l := r.Thresholds.Jitter; l != nil {
					fmt.Fprintf(&b, " jitter=%v/%v", l.Enter, l.Clear)
				}
				if l := r.Thresholds.Bandwidth; l != nil {
					fmt.Fprintf(&b, " bandwidth=%d/%d", l.Enter, l.Clear)
				}
				if l := r.Thresholds.Loss; l != nil {
					fmt.Fprintf(&b, " loss=%.4f/%.4f", l.Enter, l.Clear)
				}
				b.WriteByte('\n')
			}
			for _, w := range set.Warnings {
				fmt.Fprintf(&b, "warning: %v\n", w)
			}
		case "find":
			for name := range strings.FieldsSeq(d.Input) {
				decides := "none"
				if r := policy.Find(rules, dmsc.MustParsePrefix(name)); r != nil {
					decides = r.Name
				}
				fmt.Fprintf(&b, "%s: %s\n", name, decides)
			}
		default:
			d.Fatalf(t, "unknown verb %s", d.Cmd)
		}
		return b.String()
	})
}

func TestPrecedenceDoesNotDependOnTheOrderOfFiles(t *testing.T) {
	var rules []policy.QoSPolicy
	for i, sel := range []string{"", "b", "b/4", "b/4", "a"} {
		q := policy.QoSPolicy{Name: fmt.Sprintf("r%d", i), Preference: uint32(100 - i)}
		if sel != "" {
			q.Selector = dmsc.MustParsePrefix(sel)
		}
		rules = append(rules, q)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		rng.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		sorted := slices.Clone(rules)
		policy.Sort(sorted)
		for name, want := range map[string]string{"b/4": "r2", "b/4/x": "r2", "b/5": "r1", "b": "r1", "a/1": "r4", "c/1": "r0"} {
			if got := policy.Find(sorted, dmsc.MustParsePrefix(name)); got.Name != want {
				t.Fatalf("%s is judged by %s, want %s", name, got.Name, want)
			}
		}
	}
}
