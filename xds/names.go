package xds

import (
	"cmp"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A name that a client says is kept, and what is due under it: for the bound it
// does not matter whether anything is published under it, nor whether the client
// reads what it is told. What is kept for names is counted before it is kept, and
// for all streams together that may be one client's: those of a node, and the
// strangers.

const (
	// nameCost is what is kept for a name beside its bytes: an entry each of the
	// subscription, of what is due and of a response under way.
	nameCost = 256
	// weighEvery is by how much a stream may grow before all are looked at: those
	// of an Envoy with a stream for each of thousands of clusters never are.
	weighEvery = 4 << 10
)

func sizeOf(name string) int { return len(name) + nameCost }

func sizeOfAll(names []string) (size int) {
	for _, name := range names {
		size += sizeOf(name)
	}
	return size
}

// weigh makes room for the names of a request, or ends the stream.
func (st *stream) weigh(t Type, r *request) error {
	size := st.brought + sizeOfAll(r.subscribe) + max(0, sizeOfAll(r.names)-st.subs[t].names.size)
	for name := range r.initial {
		size += sizeOf(name)
	}
	for t := range numTypes {
		size += st.subs[t].names.size
	}
	st.said.Store(int64(size))
	if st.weighed = min(st.weighed, int64(size)); int64(size)-st.weighed < weighEvery {
		return nil
	}
	st.weighed = int64(size)
	st.srv.lighten(st)
	select {
	case err := <-st.evicted:
		return err
	default:
		return nil
	}
}

// lighten ends streams until those that st is one of are within the bound.
func (s *Server) lighten(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		streams := s.strangers
		if st.placed {
			streams = st.node.all()
		}
		var sum int64
		var gone *stream
		for _, other := range streams {
			said := other.said.Load()
			sum += said
			if said > 0 && (gone == nil || cmp.Or(
				cmp.Compare(other.report.Load().accepted(), gone.report.Load().accepted()),
				cmp.Compare(gone.said.Load(), said)) < 0) {
				gone = other
			}
		}
		if sum <= int64(s.cfg.MaxNamesSize) {
			return
		}
		gone.log.Warn("a stream ends: too many names", "names_bytes", sum, "max_names_bytes", s.cfg.MaxNamesSize)
		gone.evict(status.Errorf(codes.ResourceExhausted,
			"the streams under this node.id, or of unknown ones, say names of more than %d bytes together: this one ends", s.cfg.MaxNamesSize))
		if !s.unstrange(gone) {
			gone.node.drop(gone)
		}
	}
}
