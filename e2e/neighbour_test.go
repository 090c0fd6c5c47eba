package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
)

// Records of a type that nobody knows are flooded on, what is too large is left
// out, both are counted and logged, and the adjacency stays (design §4; the
// issue, bad input). A fake agent of sg-1 says them to sr-1, while the Envoy of
// sg-1 goes on answering probes.
func TestWhatANeighbourSaysWrongCostsNoAdjacency(t *testing.T) {
	n := start(t, "")
	link, err := n.linksOf(t.Context(), "sr-3", "sg-1")
	if err != nil {
		t.Fatal(err)
	}
	stay := func(states ...string) {
		t.Helper()
		for _, a := range n.status(t, "sr-1").Adjacencies {
			if a.Neighbor == "sg-1" && !strings.Contains(strings.Join(states, " "), a.State) {
				t.Errorf("the adjacency of sr-1 with sg-1 is %s, not %s", a.State, states)
			}
		}
		if now, err := n.linksOf(t.Context(), "sr-3", "sg-1"); err != nil || fmt.Sprint(now) != fmt.Sprint(link) {
			t.Errorf("by the database of sr-3 the links of sg-1 were %v and are %v, %v", link, now, err)
		}
	}
	incarnation := n.status(t, "sg-1").Incarnation
	if err := n.Node("sg-1").Agent.Kill(); err != nil {
		t.Fatal(err)
	}
	<-n.Node("sg-1").Agent.Done()

	becomes := func(state string) {
		t.Helper()
		until(t, 10*time.Second, "the adjacency of sr-1 with sg-1 does not become "+state, func(ctx context.Context) error {
			s, err := n.Status(ctx, "sr-1")
			if err != nil {
				return err
			}
			for _, a := range s.Adjacencies {
				if a.Neighbor == "sg-1" && a.State == state {
					return nil
				}
			}
			return fmt.Errorf("%+v", s.Adjacencies)
		})
	}
	becomes("held")
	fake := n.impersonate(t, "sg-1", "sr-1", incarnation)
	becomes("full")
	stay("full")

	// An unknown type travels on, byte for byte, to nodes that are no
	// neighbours of the speaker.
	fake.update(t, &dmscv1.LSA{
		Origin: "sg-1", Type: 77, Fragment: 5, Incarnation: incarnation, Seq: 1,
		NotAfter: timestamppb.New(time.Now().Add(time.Hour)), Body: []byte("from the future"),
	})
	for _, id := range []dmsc.NodeID{"sr-1", "sr-3", "sg-3"} {
		until(t, 5*time.Second, "the record is not at "+string(id), func(ctx context.Context) error {
			r, err := n.record(ctx, id, "sg-1.type77.5")
			if err != nil || r.Order != fmt.Sprintf("%d.1", incarnation) || r.Bytes != len("from the future") {
				return fmt.Errorf("%+v, %v", r, err)
			}
			return nil
		})
	}
	stay("full")
	if c := n.metric(t, "sr-1", `dmsc_alarms_total{code="unknown_type"}`); c < 1 {
		t.Errorf("sr-1 counts %v records of an unknown type", c)
	}

	// A record above 256 KiB is refused; one that is not what its type says is
	// kept like one of the future. The rest of their update counts.
	fake.update(t,
		&dmscv1.LSA{Origin: "sg-1", Type: 78, Incarnation: incarnation, Seq: 1, NotAfter: timestamppb.New(time.Now().Add(time.Hour)), Body: make([]byte, 257<<10)},
		&dmscv1.LSA{Origin: "sg-9", Type: 1, Incarnation: 1, Seq: 1, NotAfter: timestamppb.New(time.Now().Add(time.Hour)), Body: []byte("no protobuf")},
		&dmscv1.LSA{Origin: "sg-1", Type: 79, Incarnation: incarnation, Seq: 1, NotAfter: timestamppb.New(time.Now().Add(time.Hour)), Body: []byte("small")},
	)
	until(t, 5*time.Second, "the record beside the oversized one is not at sr-3", func(ctx context.Context) error {
		r, err := n.record(ctx, "sr-3", "sg-1.type79.0")
		if err != nil || r.Bytes != len("small") {
			return fmt.Errorf("%+v, %v", r, err)
		}
		return nil
	})
	if r, err := n.record(t.Context(), "sr-1", "sg-1.type78.0"); err != nil || r.Key != "" {
		t.Errorf("sr-1 has taken %+v, %v", r, err)
	}
	if r, err := n.record(t.Context(), "sr-1", "sg-9.node"); err != nil || r.Bytes != len("no protobuf") {
		t.Errorf("sr-1 has not kept what it cannot read: %+v, %v", r, err)
	}
	for _, metric := range []string{`dmsc_peering_ignored_total{what="malformed_record"}`, `dmsc_alarms_total{code="record_too_large"}`} {
		if c := n.metric(t, "sr-1", metric); c < 1 { // other neighbours flood the first one too
			t.Errorf("sr-1 counts %v of %s", c, metric)
		}
	}
	stay("full")

	// A kind of message that nobody knows.
	fake.send(t, &dmscv1.PeerMessage{})
	until(t, 5*time.Second, "the unknown message is not counted", func(context.Context) error {
		if c := n.metric(t, "sr-1", `dmsc_peering_ignored_total{what="unknown_message"}`); c != 1 {
			return fmt.Errorf("%v", c)
		}
		return nil
	})
	stay("full")

	// A message above 4 MiB cannot be skipped on its stream: the stream ends,
	// the link is held, and the next stream goes on.
	var records []*dmscv1.LSA
	for i := range uint32(80) {
		records = append(records, &dmscv1.LSA{
			Origin: "sg-1", Type: 80, Fragment: i, Incarnation: incarnation, Seq: 1, NotAfter: timestamppb.New(time.Now().Add(time.Hour)), Body: make([]byte, 60<<10),
		})
	}
	fake.update(t, records...)
	if err := fake.wait(t); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the stream ends with %v", err)
	}
	becomes("held")
	stay("held")
	fake = n.impersonate(t, "sg-1", "sr-1", incarnation)
	becomes("full")
	stay("full")
	if c := n.metric(t, "sr-1", `dmsc_peering_ignored_total{what="oversized_message"}`); c != 1 {
		t.Errorf("sr-1 counts %v oversized messages, want 1", c)
	}
	log := n.log(t, "sr-1")
	for _, said := range []string{"unknown_type", "record not understood", "unknown message ignored", "oversized message ends the control stream"} {
		if !strings.Contains(log, said) {
			t.Errorf("the log of sr-1 does not say %q", said)
		}
	}
	if a := n.get(t, "sg-1", "d/3"); a.status != 200 {
		t.Errorf("sg-1, whose agent is a fake, answers %d %s", a.status, a.refusal)
	}
	// The real agent comes back over all of it.
	fake.close()
	if err := n.StartDaemon(n.Node("sg-1").Agent); err != nil {
		t.Fatal(err)
	}
	n.settle(t)
}

// speaker is the dialling side of a control stream, without a link-state core
// behind it: it acknowledges everything and is always of the same opinion.
type speaker struct {
	stream dmscv1.LinkStateService_PeerClient
	conn   *grpc.ClientConn
	cancel context.CancelFunc
	done   chan struct{}
	err    error // why the stream ended, set before done is closed

	mu  sync.Mutex // of Send
	seq uint64
}

// impersonate dials a node as the agent of another one would.
func (n *network) impersonate(t *testing.T, as, at dmsc.NodeID, incarnation uint64) *speaker {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+n.Node(at).Peering, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &speaker{conn: conn, cancel: cancel, done: make(chan struct{})}
	t.Cleanup(s.close)
	if s.stream, err = dmscv1.NewLinkStateServiceClient(conn).Peer(ctx); err != nil {
		t.Fatal(err)
	}
	hello := &dmscv1.Hello{
		Domain: "lab", Node: string(as), Role: dmscv1.Role_ROLE_SG, Link: "0", Algorithm: dmscv1.MetricAlgorithm_METRIC_ALGORITHM_IGP,
		Session: uint64(time.Now().UnixNano()), Incarnation: incarnation, Held: n.status(t, at).Incarnation,
		Fabric: n.Node(as).Fabric, DataPlane: true, Class: dmscv1.LinkClass_LINK_CLASS_METRO, Version: 1,
	}
	if err := s.say(&dmscv1.PeerMessage{Kind: &dmscv1.PeerMessage_Hello{Hello: hello}}); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		for s.err == nil {
			var resp *dmscv1.PeerResponse
			if resp, s.err = s.stream.Recv(); s.err == nil {
				s.err = s.answer(hello, resp.GetMessage())
			}
		}
	}()
	return s
}

func (s *speaker) answer(hello *dmscv1.Hello, m *dmscv1.PeerMessage) error {
	switch k := m.GetKind().(type) {
	case *dmscv1.PeerMessage_Hello:
		hello.Seen = k.Hello.GetSession()
		return s.say(&dmscv1.PeerMessage{Kind: &dmscv1.PeerMessage_Hello{Hello: hello}})
	case *dmscv1.PeerMessage_Update:
		return s.say(&dmscv1.PeerMessage{Kind: &dmscv1.PeerMessage_Ack{Ack: &dmscv1.LSAck{Seq: k.Update.GetSeq()}}})
	case *dmscv1.PeerMessage_Digest:
		return s.say(&dmscv1.PeerMessage{Kind: &dmscv1.PeerMessage_Digest{Digest: &dmscv1.Digest{Sums: k.Digest.GetSums(), Synced: true}}})
	}
	return nil
}

func (s *speaker) say(m *dmscv1.PeerMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stream.Send(&dmscv1.PeerRequest{Message: m}); err != nil && err != io.EOF {
		return err
	}
	return nil // Recv knows why it has ended
}

func (s *speaker) send(t *testing.T, m *dmscv1.PeerMessage) {
	t.Helper()
	if err := s.say(m); err != nil {
		t.Fatal(err)
	}
}

func (s *speaker) update(t *testing.T, records ...*dmscv1.LSA) {
	t.Helper()
	s.seq++
	s.send(t, &dmscv1.PeerMessage{Kind: &dmscv1.PeerMessage_Update{Update: &dmscv1.LSUpdate{Seq: s.seq, Records: records}}})
}

// wait waits for the end of the stream and returns why it came.
func (s *speaker) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-s.done:
		return s.err
	case <-time.After(10 * time.Second):
		t.Fatal("the stream does not end")
		return nil
	}
}

func (s *speaker) close() {
	s.cancel()
	_ = s.conn.Close()
	<-s.done
}

// metric is the value of one time series of a node's /metrics, 0 if it has none.
func (n *network) metric(t *testing.T, id dmsc.NodeID, series string) float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.Node(id).Agent.Health+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if value, found := strings.CutPrefix(line, series+" "); found {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	return 0
}
