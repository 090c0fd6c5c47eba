package bench

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/envoybin"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

// line reads moments as they are kept: "ms step what".
func line(t *testing.T, text ...string) (out []node.Moment) {
	t.Helper()
	for _, s := range text {
		f := strings.Fields(s)
		at, err := time.ParseDuration(f[0] + "ms")
		if err != nil {
			t.Fatal(err)
		}
		m := node.Moment{UnixNano: int64(at), Step: node.Step(f[1])}
		switch rest := f[2:]; m.Step {
		case node.StepChanged:
			m.Changed = rest
		case node.StepPublished, node.StepAcked:
			m.Version = rest[0]
		case node.StepComputed:
		default:
			m.Link = rest[0]
		}
		out = append(out, m)
	}
	return out
}

const began = int64(10 * time.Millisecond)

func TestEnvoyHasTheFIBWithTheACKThatFollowsFromTheLastRIB(t *testing.T) {
	for _, c := range []struct {
		name string
		line []string
		at   int64 // milliseconds; -1: not yet
	}{
		{"no route changed", []string{"1 computed", "2 published a", "3 acked a", "11 changed topology"}, 0},
		{"acked", []string{"1 computed", "2 published a", "3 acked a", "12 computed", "13 published b", "14 acked b"}, 14},
		{"twice", []string{"12 computed", "13 published b", "14 acked b", "15 computed", "16 published c", "18 acked c"}, 18},
		{"the ACK of an older one comes late", []string{"12 computed", "13 published b", "15 computed", "16 published c", "17 acked b"}, -1},
		{"a newer one has overtaken it", []string{"12 computed", "13 published b", "15 published c", "17 acked c"}, 17},
		{"Envoy has it already", []string{"2 published a", "3 acked a", "12 computed", "13 published a"}, 13},
		{"Envoy had it, and then another", []string{"2 published a", "3 acked a", "4 published b", "5 acked b", "12 computed", "13 published a", "19 acked a"}, 19},
	} {
		at, ok := acknowledged(line(t, c.line...), began)
		if want := c.at * int64(time.Millisecond); ok != (c.at >= 0) || ok && at != want {
			t.Errorf("%s: %v, %t", c.name, time.Duration(at), ok)
		}
	}
}

func TestAFaultIsOverWhenTheLastNodeHasItsFIB(t *testing.T) {
	f := fault{name: "kill", ends: []dmsc.NodeID{"r2"}, absent: "r3", all: true}
	lines := timelines{
		"r2": line(t, "12 stream_down r3", "14 changed topology neighbours", "15 computed", "16 published a", "18 acked a"),
		"r7": line(t, "9 changed topology", "17 changed topology", "18 computed", "20 published b", "30 acked b", "31 changed prefixes"),
	}
	got := measure(f, lines, began)
	want := map[Phase]time.Duration{
		Reset: 2 * time.Millisecond, Detected: 4 * time.Millisecond, Flooded: 7 * time.Millisecond,
		Computed: 8 * time.Millisecond, Published: 10 * time.Millisecond, Acked: 20 * time.Millisecond,
	}
	for p, d := range want {
		if got[p] != d {
			t.Errorf("%s after %v, want %v", p, got[p], d)
		}
	}
	now := began + int64(time.Second)
	if err := settled(f, lines, began, now); err != nil {
		t.Errorf("settled: %v", err)
	}
	for name, broken := range map[string]timelines{
		"a node has not noticed": {"r2": lines["r2"], "r7": lines["r7"][:1]},
		"an ACK is missing":      {"r2": lines["r2"][:4], "r7": lines["r7"]},
	} {
		if settled(f, broken, began, now) == nil {
			t.Errorf("%s, and the fault counts as over", name)
		}
	}
	if settled(f, lines, began, began+int64(40*time.Millisecond)) == nil {
		t.Error("a moment ago something happened, and the network counts as at rest")
	}
}

func TestGoodNewsCountsFromTheFirstGoodProbeOfTheLastLink(t *testing.T) {
	f := fault{ends: []dmsc.NodeID{"r2", "r4"}, far: "r3", good: true}
	got := measure(f, timelines{
		"r2": line(t, "40 probe_up r3", "41 changed topology neighbours", "42 computed", "43 published a", "50 acked a"),
		"r3": line(t, "20 probe_up r4", "30 probe_up r2"),
		"r4": line(t, "25 probe_up r3", "26 probe_up r8"),
	}, began)
	if got[Acked] != 20*time.Millisecond { // from r3's answer by r2
		t.Errorf("%v", got)
	}
}

func TestQuantiles(t *testing.T) {
	v := []float64{1, 2, 3, 4}
	for q, want := range map[float64]float64{0.5: 2, 0.99: 4, 0.01: 1} {
		if got := quantile(v, q); got != want {
			t.Errorf("quantile %v of %v = %v, want %v", q, v, got, want)
		}
	}
}

// programs are what a network is made of.
func programs(t *testing.T) Options {
	t.Helper()
	envoy, err := envoybin.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return Options{Runs: 1, Binary: dmscBinary(t), Envoy: envoy}
}

func dmscBinary(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "dmsc")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/dmsc").CombinedOutput(); err != nil {
		t.Fatalf("build dmsc: %v\n%s", err, out)
	}
	return binary
}

func TestAFreshNodeAndItsEnvoyGetTheWholeDatabase(t *testing.T) {
	r, err := Sync(t.Context(), SyncOptions{Options: programs(t), Nodes: 90, PrefixesPerNode: 3})
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range []string{"agent", "agent and Envoy"} {
		for _, what := range []string{string(Synced), "all routes published", string(Resident)} {
			if v := r.values[[2]string{event, what}]; len(v) != 1 || v[0] <= 0 {
				t.Errorf("%s: %s is %v", event, what, v)
			}
		}
	}
	if v := r.values[[2]string{"agent and Envoy", "all routes in Envoy"}]; len(v) != 1 {
		t.Errorf("Envoy never had the routes: %v", v)
	}
}

// One run, with real agents and Envoys: whatever happens has a figure, and a
// missed target is marked and no failure.
func TestEveryFaultIsMeasuredOnRealEnvoys(t *testing.T) {
	r, err := Convergence(t.Context(), programs(t))
	if err != nil {
		t.Fatal(err)
	}
	var text, object bytes.Buffer
	if err := r.Print(&text); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + text.String())
	if err := r.PrintJSON(&object); err != nil {
		t.Fatal(err)
	}
	var figures []Figure
	if err := json.Unmarshal(object.Bytes(), &figures); err != nil {
		t.Fatal(err)
	}
	for event := range targets {
		i := slices.IndexFunc(figures, func(f Figure) bool { return f.Event == event && f.What == string(Acked) })
		if i < 0 || figures[i].N != 1 || figures[i].P50 <= 0 || figures[i].TargetP50 == 0 {
			t.Errorf("%s is not measured: %+v", event, figures)
		}
	}
}
