package xds

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A stream is a stranger until it names a node that something was published to,
// or something is published to the one it named. Strangers have few places, and
// none of a node's: of too many the oldest ends, and so an Envoy, which names
// itself at once, always comes in.

var errGivesWay = status.Error(codes.ResourceExhausted, "too many streams: this one gives way to a newer one")

// evict ends a stream, whatever it is waiting for.
func (st *stream) evict(why error) {
	select {
	case st.evicted <- why:
	default:
	}
}

// admit gives a new stream a stranger's place.
func (s *Server) admit(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strangers = append(s.strangers, st)
	if len(s.strangers) > s.cfg.MaxStrangers {
		s.strangers[0].evict(errGivesWay)
		s.strangers = slices.Delete(s.strangers, 0, 1)
	}
}

// dismiss gives back the place of a stream that has ended.
func (s *Server) dismiss(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.unstrange(st) && st.placed {
		s.placed--
	}
}

// place gives a stranger a place of a node. It needs s.mu.
func (s *Server) place(st *stream) {
	if s.unstrange(st) {
		st.placed = true
		s.placed++
	}
}

// unstrange takes a stream off the strangers. It needs s.mu.
func (s *Server) unstrange(st *stream) bool {
	i := slices.Index(s.strangers, st)
	if i >= 0 {
		s.strangers = slices.Delete(s.strangers, i, i+1)
	}
	return i >= 0
}

// published returns the node, which from now on is remembered for ever.
func (s *Server) published(name string) *node {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.node(name)
	if !n.keep {
		n.keep = true
		for _, st := range n.all() {
			s.place(st)
		}
	}
	return n
}

func (s *Server) join(name string, st *stream) (n *node, streams int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.strangers, st) {
		return nil, 0, errGivesWay
	}
	n = s.node(name)
	if n.keep {
		if s.placed >= s.cfg.MaxStreams {
			return nil, 0, status.Errorf(codes.ResourceExhausted, "the server has %d streams, and takes no more", s.cfg.MaxStreams)
		}
		s.place(st)
	}
	streams, gone := n.join(st, s.cfg.MaxStreamsPerNode)
	if gone != nil {
		st.log.Warn("a stream gives way: do several Envoys share one node.id?", "streams", streams, "given_up", gone.id)
		gone.evict(errGivesWay)
	}
	return n, streams, nil
}

// leave forgets the node if only clients ever named it.
func (s *Server) leave(st *stream) (streams int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	streams = st.node.leave(st, time.Now())
	if streams == 0 && !st.node.keep && s.nodes[st.node.name] == st.node {
		delete(s.nodes, st.node.name)
	}
	return streams
}
