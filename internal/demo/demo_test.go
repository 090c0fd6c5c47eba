package demo

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/envoybin"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/topology"
)

// The story is the README's promise: every line of it is asserted.
func TestTheStoryOfFigure2HoldsOnRealEnvoys(t *testing.T) {
	envoy, err := envoybin.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "dmsc")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/dmsc").CombinedOutput(); err != nil {
		t.Fatalf("build dmsc: %v\n%s", err, out)
	}
	var out bytes.Buffer
	err = Run(t.Context(), Options{
		Topology: topology.Figure2(), Binary: binary, Envoy: envoy, Once: true, JSON: true, Out: &out,
	})
	seen := map[string]bool{}
	for line := range bytes.Lines(out.Bytes()) {
		var s Step
		if err := json.Unmarshal(line, &s); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		t.Logf("%6.2f s  %s  %v", s.At, s.Step, s.Values)
		seen[s.Step] = true
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"converged", "announced", "refused", "path", "killed", "returned", "killed_alone", "returned_alone", "slowed", "steered", "healed"} {
		if !seen[step] {
			t.Errorf("the story leaves %q out", step)
		}
	}
}

func TestRoundingIsForPeople(t *testing.T) {
	for d, want := range map[time.Duration]float64{1234567 * time.Nanosecond: 1.2, 80 * time.Millisecond: 80, 0: 0} {
		if got := ms(d); got != want {
			t.Errorf("ms(%v) = %v, want %v", d, got, want)
		}
	}
}

func TestOnlyWhatWasInTheDeadHopMayBeLost(t *testing.T) {
	at := time.Now()
	lost := func(from, took time.Duration, refusal string) lab.Result {
		return lab.Result{Start: at.Add(from), Latency: took, Refusal: refusal}
	}
	const ms = time.Millisecond
	for _, c := range []struct {
		name string
		lost []lab.Result
		want bool
	}{
		{"sent until the sockets were closed", []lab.Result{lost(-5*ms, 25*ms, ""), lost(19*ms, 2*ms, "")}, true},
		{"sent later", []lab.Result{lost(-5*ms, 25*ms, ""), lost(21*ms, 2*ms, "")}, false},
		{"refused", []lab.Result{lost(-5*ms, 25*ms, ""), lost(1*ms, 2*ms, "no-healthy; node=sg-1")}, false},
	} {
		if got := allInFlight(c.lost); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
