package main

import (
	"slices"
	"sync"

	"github.com/dmsc-mesh/dmsc/scsc"
)

// eventLog keeps the last events of the SCSC for readers.
type eventLog struct {
	mu     sync.Mutex
	events []scsc.Event
}

const keptEvents = 256

func (l *eventLog) add(e scsc.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) == keptEvents {
		l.events = slices.Delete(l.events, 0, 1)
	}
	l.events = append(l.events, e)
}

func (l *eventLog) list() []scsc.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]scsc.Event{}, l.events...)
}
