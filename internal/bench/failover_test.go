package bench

import (
	"strings"
	"testing"
	"time"
)

// One fault on real nodes, for both classes: it and its end are measured, and
// the death of an agent loses nothing.
func TestAFaultAndItsEndAreMeasuredForEachClass(t *testing.T) {
	const fault = "SIGKILL of the next hop's agent"
	c, err := Failover(t.Context(), FailoverOptions{Options: programs(t), RPS: 50, Watch: 400 * time.Millisecond, Only: []string{fault}})
	if err != nil {
		t.Fatal(err)
	}
	figures := shown(t, c)
	for _, event := range []string{fault, "… " + fault} {
		for _, class := range classes {
			if f := find(t, figures, event, "requests"); f.Measured[class.name] < 10 {
				t.Errorf("%s, %s: %v requests were sent", event, class.name, f.Measured[class.name])
			}
			if f := find(t, figures, event, "longest gap between answers"); f.Measured[class.name] <= 0 {
				t.Errorf("%s, %s: the gap is %v", event, class.name, f.Measured[class.name])
			}
			if f := find(t, figures, event, "lost requests"); f.Measured[class.name] != 0 || f.Target == nil || f.Missed {
				t.Errorf("%s, %s: %+v", event, class.name, f)
			}
		}
	}
	for _, f := range figures {
		if !strings.Contains(f.Event, fault) {
			t.Errorf("%s was made too", f.Event)
		}
	}
}
