package featuretests

import (
	"testing"
	"time"
)

// design §5: "no healthy instance for 1 s → withdrawn".
func TestAnUnhealthyTargetIsWithdrawnAfterASecondAndComesBack(t *testing.T) {
	n := newNetwork(t, line1, line2)
	tg := n.target("a/1")
	n.leased("pod-1", "sg-1", time.Second, tg.Service) // renewed every 333 ms
	n.routed("sg-2", "a/1", "sr-1")
	tg.sick.Store(true)
	begun := time.Now()
	n.routed("sg-2", "a/1", "")
	if d := time.Since(begun); d < time.Second {
		t.Errorf("withdrawn after %v", d)
	}
	// Renewals do not make it healthy: it stays away until it says so itself.
	asks := tg.asks.Load()
	n.until("it has been asked again", func() error {
		if got := n.route("sg-2", "a/1"); got != "" {
			t.Fatalf("a/1 is reached by %q", got)
		}
		return when(tg.asks.Load() > asks, "it has not")
	})
	tg.sick.Store(false)
	n.routed("sg-2", "a/1", "sr-1")
}
