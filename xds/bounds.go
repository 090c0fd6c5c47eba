package xds

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What a client can cost is bounded, by its own stream and before it reaches
// what others need. The bytes of one request are bounded by ServerOptions, the
// names by Config.MaxNames, those of all streams of a node together by
// Config.MaxNamesSize (names.go), the streams by Config.MaxStreams and what else is
// said in places.go. gRPC takes the first response whole; a further one that the
// client does not read ends its stream after Config.SendTimeout, and holds until
// then no copies of resources, but references. Requests that come faster than a stream may work are read later:
// HTTP/2 lets the client wait.

const (
	// workRate and workBurst bound what the requests of one stream may ask for,
	// in units of work: one costs some 10 µs. An Envoy that starts with thousands
	// of clusters, and asks for the endpoints of each by itself, stays below.
	workRate  = 1000 // a second
	workBurst = 10_000
	// namesPerUnit: so many names are as much work as a request.
	namesPerUnit = 256

	maxNodeID = 256      // bytes
	maxWords  = 16 << 10 // bytes of a NACK's message that are kept

	maxUnheard = 16 // refusals of a stream that is not its node's voice
)

// budget is what a stream may still ask for. The zero value is full.
type budget struct {
	spent float64 // of workBurst
	at    time.Time
}

// spend books work at the time now, and returns how long to wait before it.
func (b *budget) spend(work float64, now time.Time) (wait time.Duration) {
	b.spent = max(0, b.spent-now.Sub(b.at).Seconds()*workRate) + work
	b.at = now
	if over := b.spent - workBurst; over > 0 {
		return time.Duration(over / workRate * float64(time.Second))
	}
	return 0
}

// work is what a request costs, if the client runs a set with so many names of
// the type.
func (r *request) work(names int) float64 {
	n := len(r.subscribe) + len(r.unsubscribe) + len(r.names) + len(r.initial)
	if slices.Contains(r.subscribe, "*") || slices.Contains(r.unsubscribe, "*") {
		n += names
	}
	return 1 + float64(n)/namesPerUnit
}

// receive reads the client's requests, at the pace it may have.
func (st *stream) receive(ctx context.Context) <-chan *request {
	requests := make(chan *request)
	go func() {
		defer close(requests)
		var left budget
		for {
			r, err := st.dialect.recv()
			if err != nil {
				return
			}
			names := 0
			if want := st.report.Load().want; want != nil {
				if t, ok := typeOf(r.typeURL); ok {
					names = len(want.types[t].names)
				}
			}
			if wait := left.spend(r.work(names), time.Now()); wait > 0 {
				select {
				case <-time.After(wait):
				case <-ctx.Done():
					return
				}
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	return requests
}

// greeting is the first request, which names the node.
func (st *stream) greeting(ctx context.Context, requests <-chan *request) (*request, error) {
	select {
	case r, ok := <-requests:
		switch {
		case !ok:
			return nil, nil // the client left without a word
		case r.node == "":
			return nil, status.Error(codes.InvalidArgument, "the first request must carry node.id: set node.id in Envoy's bootstrap")
		case len(r.node) > maxNodeID:
			return nil, status.Errorf(codes.InvalidArgument, "node.id has %d bytes; at most %d", len(r.node), maxNodeID)
		}
		return r, nil
	case <-ctx.Done():
		return nil, nil
	case err := <-st.evicted:
		return nil, err
	case <-time.After(st.srv.cfg.SendTimeout):
		return nil, status.Errorf(codes.DeadlineExceeded, "no request within %s", st.srv.cfg.SendTimeout)
	}
}

// write sends one response. gRPC takes it without waiting as long as the client
// reads.
func (st *stream) write(f *frame) error {
	go func() { st.written <- st.dialect.write(f) }()
	st.sendTimer.Reset(st.srv.cfg.SendTimeout)
	defer st.sendTimer.Stop()
	select {
	case err := <-st.written:
		return err
	case err := <-st.evicted:
		return err
	case <-st.sendTimer.C:
		st.log.Warn("envoy does not read: its stream ends", "type_url", f.typ.URL(), "nonce", f.nonce)
		return status.Errorf(codes.DeadlineExceeded, "a response was not read within %s", st.srv.cfg.SendTimeout)
	}
}

// checkNames refuses a request for too many names, before they are looked at.
func (st *stream) checkNames(t Type, r *request) error {
	most := st.srv.cfg.MaxNames
	if max(len(r.subscribe), len(r.unsubscribe), len(r.names), len(r.initial)) > most {
		return status.Errorf(codes.ResourceExhausted, "more than %d names of type %s", most, t)
	}
	return nil
}
