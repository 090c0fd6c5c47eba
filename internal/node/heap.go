package node

import (
	"context"
	"os"
	"runtime/debug"
	"time"
)

// The records make the heap of a node with a large database, and with what is
// computed from them they stay. Go's default lets as much garbage gather beside
// them: for a few records a second that is memory for nothing. A small database
// is left to the default, since there a lower one would have the collector run
// all the time.
const (
	large          = 1 << 14 // names
	largeGCPercent = 25
)

// trim leaves an operator's GOGC alone.
func trim() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(largeGCPercent)
	}
	debug.FreeOSMemory()
}

// giveBack calls free, which returns the garbage of a first synchronization to
// the system, once nothing has been published for a second: until then speed is
// worth more. It is not worth it again before the FIB has doubled. published
// receives the number of names with each publication.
func giveBack(ctx context.Context, published <-chan int, free func()) error {
	var rest <-chan time.Time
	for worth := large; ; {
		select {
		case names := <-published:
			if names >= worth {
				worth = 2 * names
				rest = time.After(time.Second)
			} else if rest != nil {
				rest = time.After(time.Second)
			}
		case <-rest:
			rest = nil
			free()
		case <-ctx.Done():
			return nil
		}
	}
}
