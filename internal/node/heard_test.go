package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dmsc-mesh/dmsc/linkstate"
)

// The queue of events is one for all. A neighbour that sends a thousand
// messages has one of them in it; the others wait in its stream.
func TestAFloodingNeighbourDelaysItselfAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{events: make(chan event, 4096), dead: make(chan struct{})}
		var taken int
		stream := func(messages int) {
			go func() {
				for range messages {
					n.heard(linkstate.Received{Message: &linkstate.LSAck{}})
				}
			}()
		}
		stream(1000)
		synctest.Wait()
		if len(n.events) != 1 {
			t.Errorf("%d messages of one neighbour are queued, want 1", len(n.events))
		}
		stream(1)
		synctest.Wait()
		if len(n.events) != 2 {
			t.Errorf("%d messages of two neighbours are queued, want 2", len(n.events))
		}
		for len(n.events) > 0 {
			taken++
			close((<-n.events).(protocol).applied)
			synctest.Wait()
		}
		if taken != 1001 {
			t.Errorf("%d messages were taken in, want 1001", taken)
		}
		// The end of the loop lets go of who waits.
		stream(1)
		time.Sleep(time.Second)
		close(n.dead)
	})
}
