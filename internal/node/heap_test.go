package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheGarbageOfALargeSyncIsGivenBackOnceItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		published, freed := make(chan int), 0
		go func() { _ = giveBack(ctx, published, func() { freed++ }) }()
		publish := func(names int, rest time.Duration, want int) {
			t.Helper()
			published <- names
			time.Sleep(rest)
			synctest.Wait()
			if freed != want {
				t.Errorf("after %d names and %s: %d times, want %d", names, rest, freed, want)
			}
		}
		publish(large-1, time.Hour, 0) // small
		publish(large, time.Second-1, 0)
		publish(large+1, time.Second-1, 0) // it was not at rest
		publish(large+1, time.Second, 1)
		publish(2*large-1, time.Hour, 1) // about as large as before
		publish(2*large, time.Second, 2)
	})
}
