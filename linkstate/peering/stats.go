package peering

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Stats counts, since New, what was not handed on or not understood.
type Stats struct {
	Sessions          int64  // streams that are up now
	UnknownMessages   uint64 // kind not known here
	MalformedMessages uint64 // of a known kind; hellos that name another node or link too
	MalformedRecords  uint64 // left out, or of a known type and handed on without content
	OversizedMessages uint64 // above MaxMessage; each ended its stream
	Refused           uint64 // streams refused on the answering side
	Overflows         uint64 // streams ended because the neighbour took nothing
}

type counters struct {
	sessions                                             atomic.Int64
	unknownMessages, malformedMessages, malformedRecords atomic.Uint64
	oversizedMessages, refused, overflow                 atomic.Uint64
}

// Stats returns the counts. It may be called at any time.
func (p *Peers) Stats() Stats {
	c := &p.counters
	return Stats{
		Sessions:          c.sessions.Load(),
		UnknownMessages:   c.unknownMessages.Load(),
		MalformedMessages: c.malformedMessages.Load(),
		MalformedRecords:  c.malformedRecords.Load(),
		OversizedMessages: c.oversizedMessages.Load(),
		Refused:           c.refused.Load(),
		Overflows:         c.overflow.Load(),
	}
}

// sparse logs each message at most once a second and says how many it left
// out: a neighbour must not be able to fill the disk. Messages are constants,
// so the map is bounded.
type sparse struct {
	log  *slog.Logger
	mu   sync.Mutex
	last map[string]*occurrence
}

type occurrence struct {
	logged  time.Time
	omitted int
}

func (s *sparse) warn(message string, args ...any) {
	s.mu.Lock()
	o := s.last[message]
	if o == nil {
		o = new(occurrence)
		s.last[message] = o
	}
	now := time.Now()
	if now.Sub(o.logged) < time.Second {
		o.omitted++
		s.mu.Unlock()
		return
	}
	omitted := o.omitted
	o.logged, o.omitted = now, 0
	s.mu.Unlock()
	s.log.Log(context.Background(), slog.LevelWarn, message, append(args, "omitted", omitted)...)
}
