package node

import (
	"slices"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/internal/measure"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

func TestTheTimelineKeepsTheNewestMomentsInOrder(t *testing.T) {
	var line timeline
	start := time.Unix(1, 0)
	for i := range timelineSize + 10 {
		line.note(start.Add(time.Duration(i)), Moment{Step: StepAcked})
	}
	got := line.list()
	if len(got) != timelineSize {
		t.Fatalf("%d moments, want %d", len(got), timelineSize)
	}
	for i, m := range got {
		if want := start.Add(time.Duration(i + 10)).UnixNano(); m.UnixNano != want {
			t.Fatalf("moment %d is of %d, want %d", i, m.UnixNano, want)
		}
	}
}

func TestTheTimelineHasTheFirstProbeOfEachKindOnly(t *testing.T) {
	n := &Node{cfg: &config.Node{Node: "sg-1"}}
	n.loop.qualities = map[linkstate.LinkKey]*quality{}
	link := linkstate.LinkKey{Remote: "sr-1", ID: "0"}
	for i, ok := range []bool{false, false, true, true, false, true} {
		n.noteProbe(time.Unix(int64(i), 0), probed(measure.Result{Link: link, OK: ok}))
	}
	var got []Step
	for _, m := range n.timeline.list() {
		got = append(got, m.Step)
	}
	if want := []Step{StepProbeDown, StepProbeUp, StepProbeDown, StepProbeUp}; !slices.Equal(got, want) {
		t.Errorf("steps %v, want %v", got, want)
	}
}
