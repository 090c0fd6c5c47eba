package bench

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// find returns the line of an event, which is given by its beginning.
func find(t *testing.T, figures []ComparedFigure, event, what string) ComparedFigure {
	t.Helper()
	i := slices.IndexFunc(figures, func(f ComparedFigure) bool { return strings.HasPrefix(f.Event, event) && f.What == what })
	if i < 0 {
		t.Fatalf("%s: %s is not measured", event, what)
	}
	return figures[i]
}

// shown prints a comparison to the log of the test, and reads its JSON.
func shown(t *testing.T, c *Comparison) (figures []ComparedFigure) {
	t.Helper()
	var text, object bytes.Buffer
	if err := c.Print(&text); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + text.String())
	if err := c.PrintJSON(&object); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(object.Bytes(), &figures); err != nil {
		t.Fatal(err)
	}
	return figures
}

// Our server and both caches, in small: whatever the table compares is measured
// of all three, and what does not depend on the size of the fleet shows already.
func TestServersAreComparedWithTheSameClients(t *testing.T) {
	c, err := XDS(t.Context(), XDSOptions{Options: Options{Runs: 1, Binary: dmscBinary(t)}, Streams: 20, Clusters: 20, Prefixes: 200})
	if err != nil {
		t.Fatal(err)
	}
	figures := shown(t, c)
	for _, line := range []struct{ event, what string }{
		{"1 of 20 clusters to 20 streams", "until all have ACKed"},
		{"1 of 20 clusters to 20 streams", "allocated"},
		{"1 of 20 clusters to 20 streams, gRPC", "CPU"},
		{"FIB of 200 prefixes", "RSS per stream"},
		{eventNextHop, "ACKed, p99"},
		{eventPrefix, "until all have ACKed"},
		{eventPrefix, "sent per stream"},
		{eventRestart, "until all have come back"},
	} {
		f := find(t, figures, line.event, line.what)
		for _, server := range []string{ours, stockLinear, stockSnapshot} {
			if f.Measured[server] <= 0 {
				t.Errorf("%s: %s of %s is %v", line.event, line.what, server, f.Measured[server])
			}
		}
	}
	if f := find(t, figures, eventRestart, "resources sent again"); f.Measured[ours] != 0 || f.Target == nil || f.Missed {
		t.Errorf("after a restart: %+v", f)
	}
	if f := find(t, figures, eventNACK, "NACKs in all"); f.Measured[ours] != 1 || f.Measured[stockSnapshot] < 10 {
		t.Errorf("a refused cluster: %+v", f)
	}
}

func TestAComparisonMarksWhatMissesItsTarget(t *testing.T) {
	c := &Comparison{}
	c.target("event", "time", "ms", "a", 10)
	c.target("event", "lost", "", "", 0)
	for _, v := range []float64{9, 10, 30} {
		c.add("event", "time", "ms", "a", v)
	}
	c.add("event", "time", "ms", "b", 500.4)
	c.add("event", "lost", "", "a", 1)
	var text bytes.Buffer
	if err := c.Print(&text); err != nil {
		t.Fatal(err)
	}
	const want = `EVENT  WHAT      a        b    TARGET
event  time, ms  10 (30)  500  ≤ 10 (a)
       lost      1        –    ≤ 0  MISSED
`
	var got []string
	for line := range strings.Lines(text.String()) {
		got = append(got, strings.TrimRight(line, " \n"))
	}
	if s := strings.Join(got, "\n") + "\n"; s != want {
		t.Errorf("got\n%s", s)
	}
	for _, f := range shown(t, c) {
		if f.Missed != (f.What == "lost") {
			t.Errorf("%+v", f)
		}
	}
}
