package peering

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

var epoch = time.Date(2026, 11, 22, 12, 0, 0, 123456789, time.UTC)

// same compares messages; an absent list and an empty one are the same.
func same(t *testing.T, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b dmsc.ServicePrefix) bool { return a == b })); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func record(origin dmsc.NodeID, fragment uint32, c linkstate.Content) *linkstate.LSA {
	r := &linkstate.LSA{
		Key: linkstate.Key{Origin: origin, Fragment: fragment}, Order: linkstate.Order{Incarnation: 3, Seq: 7},
		NotAfter: epoch, Body: Encode(c), Content: c,
	}
	switch c.(type) {
	case *linkstate.NodeLSA:
		r.Type = linkstate.TypeNode
	case *linkstate.PrefixLSA:
		r.Type = linkstate.TypePrefix
	case *linkstate.AuthLSA:
		r.Type = linkstate.TypeAuth
	}
	return r
}

func randomNode(r *rand.Rand) *linkstate.NodeLSA {
	c := &linkstate.NodeLSA{Role: dmsc.Role(1 + r.IntN(2)), Transit: r.IntN(2) == 0, Algorithm: linkstate.Algorithm(r.IntN(256)), Avoid: []string{"metered", "satellite"}[:r.IntN(3)]}
	for i := range r.IntN(6) {
		c.Links = append(c.Links, linkstate.Link{
			Remote: dmsc.NodeID(fmt.Sprintf("n-%02d", i)), ID: "0", Metric: dmsc.Metric(1 + r.IntN(1<<25)),
			Delay: time.Duration(r.Int64N(int64(time.Second))), Jitter: time.Duration(r.IntN(3)), Loss: r.Float64(),
			Capacity: r.Uint64(), Available: r.Uint64(), Tags: []string{"zone=1"}[:r.IntN(2)],
		})
	}
	return c
}

func randomPrefixes(r *rand.Rand) (*linkstate.PrefixLSA, uint32) {
	first := dmsc.MustParsePrefix(fmt.Sprintf("shop/%d", r.Uint32()))
	c := &linkstate.PrefixLSA{Prefixes: []linkstate.Prefix{{
		Prefix: first, Metric: dmsc.Metric(r.IntN(100)), Preference: r.Uint32(), Weight: r.Uint32(),
		Protocol: dmsc.Protocol(r.IntN(4)), ReplaySafe: r.IntN(2) == 0, Attributes: []string{"a=1", "b=2"}[:r.IntN(3)],
		Authorization: bytes.Repeat([]byte{9}, 32*r.IntN(2)),
	}}}
	return c, linkstate.Bucket(first)
}

func TestEveryMessageSurvivesTheWire(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		prefixes, bucket := randomPrefixes(r)
		tombstone := &linkstate.LSA{Key: linkstate.Key{Origin: "sg-1", Type: linkstate.TypeNode}, NotAfter: epoch, Tombstone: true}
		unknown := &linkstate.LSA{Key: linkstate.Key{Origin: "sg-1", Type: 99, Fragment: r.Uint32()}, NotAfter: epoch, Body: []byte{0xff}, Signature: []byte{1}}
		for _, m := range []linkstate.Message{
			&linkstate.Hello{
				Domain: "lab", Node: "sg-1", Role: dmsc.Role(1 + r.IntN(3)), Link: "0", Algorithm: linkstate.Algorithm(r.IntN(256)),
				Session: 1 + r.Uint64N(9), Seen: r.Uint64(), Incarnation: r.Uint64N(linkstate.MaxIncarnation), Held: r.Uint64N(9),
				Fabric: []string{"", "127.0.0.1:15901", "[::1]:1", "10.0.0.1:80"}[r.IntN(4)], DataPlane: r.IntN(2) == 0, Class: dmsc.LinkClass(r.IntN(3)),
			},
			&linkstate.LSUpdate{Seq: r.Uint64(), Records: []*linkstate.LSA{
				record("sr-1", 0, randomNode(r)), record("sr-1", bucket, prefixes),
				record("sr-1", 12, &linkstate.AuthLSA{POA: []byte("a.b.c")}), tombstone, unknown,
			}},
			&linkstate.LSAck{Seq: r.Uint64()},
			&linkstate.Digest{Sums: []uint64{r.Uint64(), 0, 1}, Synced: r.IntN(2) == 0},
		} {
			wire, err := proto.Marshal(encodeMessage(m))
			if err != nil {
				t.Fatal(err)
			}
			parsed := new(dmscv1.PeerMessage)
			if err := proto.Unmarshal(wire, parsed); err != nil {
				t.Fatal(err)
			}
			got, err := decodeMessage(parsed, func(err error) { t.Error(err) })
			if err != nil {
				t.Fatal(err)
			}
			same(t, m, got)
		}
	}
}

func TestEqualContentHasEqualBytes(t *testing.T) {
	for seed := range uint64(50) {
		a := Encode(randomNode(rand.New(rand.NewPCG(seed, 0))))
		b := Encode(randomNode(rand.New(rand.NewPCG(seed, 0))))
		if !bytes.Equal(a, b) {
			t.Fatalf("seed %d: %x and %x", seed, a, b)
		}
	}
	if Encode(nil) != nil {
		t.Error("no content must have no bytes")
	}
}

// Each case spoils one thing of a good record.
func TestMalformedRecordsComeWithoutContentOrNotAtAll(t *testing.T) {
	link := func(f func(*dmscv1.Link)) func(*dmscv1.LSA) {
		return func(r *dmscv1.LSA) {
			l := &dmscv1.Link{Remote: "sr-1", Id: "0", Metric: 10}
			f(l)
			r.Body, _ = proto.Marshal(&dmscv1.NodeLSA{Role: dmscv1.Role_ROLE_SG, Algorithm: 1, Links: []*dmscv1.Link{l}})
		}
	}
	links := func(keys ...string) func(*dmscv1.LSA) {
		return func(r *dmscv1.LSA) {
			m := &dmscv1.NodeLSA{Role: dmscv1.Role_ROLE_SG, Algorithm: 1}
			for _, k := range keys {
				m.Links = append(m.Links, &dmscv1.Link{Remote: k, Id: "0", Metric: 1})
			}
			r.Body, _ = proto.Marshal(m)
		}
	}
	prefix := func(f func(*dmscv1.AnnouncedPrefix)) func(*dmscv1.LSA) {
		return func(r *dmscv1.LSA) {
			p := &dmscv1.AnnouncedPrefix{Prefix: "a/1", Protocol: dmscv1.Protocol_PROTOCOL_HTTP1}
			f(p)
			r.Type, r.Fragment = 2, linkstate.Bucket(dmsc.MustParsePrefix("a/1"))
			r.Body, _ = proto.Marshal(&dmscv1.PrefixLSA{Prefixes: []*dmscv1.AnnouncedPrefix{p}})
		}
	}
	for name, c := range map[string]struct {
		spoil func(*dmscv1.LSA)
		want  string // in the error; "" = understood
	}{
		"good link":            {link(func(l *dmscv1.Link) {}), ""},
		"good prefix":          {prefix(func(p *dmscv1.AnnouncedPrefix) {}), ""},
		"origin":               {func(r *dmscv1.LSA) { r.Origin = "SG_1" }, "node id"},
		"type":                 {func(r *dmscv1.LSA) { r.Type = 1 << 16 }, "type"},
		"no end of life":       {func(r *dmscv1.LSA) { r.NotAfter = nil }, "not_after"},
		"end of life":          {func(r *dmscv1.LSA) { r.NotAfter = &timestamppb.Timestamp{Nanos: -1} }, "not_after"},
		"too many links":       {links(slices.Repeat([]string{"sr-1"}, linkstate.MaxLinks+1)...), "8192"},
		"garbage":              {func(r *dmscv1.LSA) { r.Body = []byte{0xff, 0xff} }, "proto"},
		"empty body":           {func(r *dmscv1.LSA) { r.Body = nil }, "role"},
		"observer as origin":   {func(r *dmscv1.LSA) { r.Body, _ = proto.Marshal(&dmscv1.NodeLSA{Role: 3, Algorithm: 1}) }, "observer"},
		"links out of order":   {links("sr-2", "sr-1"), "order"},
		"link twice":           {links("sr-1", "sr-1"), "order"},
		"remote":               {link(func(l *dmscv1.Link) { l.Remote = "" }), "node id"},
		"link id":              {link(func(l *dmscv1.Link) { l.Id = "a b" }), "link id"},
		"metric 0":             {link(func(l *dmscv1.Link) { l.Metric = 0 }), "metric"},
		"negative delay":       {link(func(l *dmscv1.Link) { l.Delay = durationpb.New(-1) }), "delay"},
		"delay of days":        {link(func(l *dmscv1.Link) { l.Delay = durationpb.New(48 * time.Hour) }), "delay"},
		"loss":                 {link(func(l *dmscv1.Link) { l.Loss = 1.5 }), "loss"},
		"tags":                 {link(func(l *dmscv1.Link) { l.Tags = slices.Repeat([]string{"x"}, 17) }), "tag"},
		"prefix":               {prefix(func(p *dmscv1.AnnouncedPrefix) { p.Prefix = "a//1" }), "empty"},
		"prefix not canonical": {prefix(func(p *dmscv1.AnnouncedPrefix) { p.Prefix = "A/1" }), "canonical"},
		"prefix reserved":      {prefix(func(p *dmscv1.AnnouncedPrefix) { p.Prefix = "dmsc/hello" }), "reserved"},
		"bucket":               {prefix(func(p *dmscv1.AnnouncedPrefix) { p.Prefix = "a/2" }), "bucket"},
		"protocol":             {prefix(func(p *dmscv1.AnnouncedPrefix) { p.Protocol = 9 }), "protocol"},
		"attributes":           {prefix(func(p *dmscv1.AnnouncedPrefix) { p.Attributes = []string{"b=1", "a=1"} }), "sorted"},
		"attribute size":       {prefix(func(p *dmscv1.AnnouncedPrefix) { p.Attributes = []string{strings.Repeat("a", 256)} }), "attribute"},
		"authorization":        {prefix(func(p *dmscv1.AnnouncedPrefix) { p.Authorization = []byte{1} }), "32"},
		"empty authorization":  {func(r *dmscv1.LSA) { r.Type, r.Body = 3, nil }, "authorization"},
	} {
		t.Run(name, func(t *testing.T) {
			good := encodeRecord(record("sg-1", 0, &linkstate.NodeLSA{Role: dmsc.RoleSG}))
			c.spoil(good)
			got, err := decodeRecord(good)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && err == nil:
				t.Errorf("accepted as %+v", got)
			case c.want != "" && !strings.Contains(err.Error(), c.want):
				t.Errorf("error %q does not name %q", err, c.want)
			case c.want == "" && got.Content == nil:
				t.Error("no content")
			case got != nil && c.want != "" && (got.Content != nil || !bytes.Equal(got.Body, good.GetBody())):
				t.Errorf("handed on as %+v", got)
			}
		})
	}
}

// A record that cannot be named leaves its neighbours in the update and the
// update's number.
func TestUpdateKeepsItsGoodRecords(t *testing.T) {
	good := record("sg-1", 0, &linkstate.NodeLSA{Role: dmsc.RoleSG})
	m := encodeMessage(&linkstate.LSUpdate{Seq: 5, Records: []*linkstate.LSA{good, good, good}})
	m.GetUpdate().Records[1].Origin = "?"
	spoiled := 0
	got, err := decodeMessage(m, func(error) { spoiled++ })
	if err != nil || spoiled != 1 {
		t.Fatalf("spoiled %d, err %v", spoiled, err)
	}
	same(t, &linkstate.LSUpdate{Seq: 5, Records: []*linkstate.LSA{good, good}}, got)
}

func TestUpdateOfTooManyRecordsIsMalformed(t *testing.T) {
	u := &dmscv1.LSUpdate{Seq: 1, Records: make([]*dmscv1.LSA, MaxRecords+1)}
	if m, err := decodeMessage(&dmscv1.PeerMessage{Kind: &dmscv1.PeerMessage_Update{Update: u}}, func(error) { t.Error("decoded") }); err == nil {
		t.Errorf("got %+v", m)
	}
}

// Whatever decodes encodes to something that decodes to the same.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 0))
	prefixes, bucket := randomPrefixes(r)
	for _, m := range []linkstate.Message{
		&linkstate.Hello{Domain: "lab", Node: "sg-1", Role: dmsc.RoleSG, Link: "0", Session: 1},
		&linkstate.LSUpdate{Seq: 1, Records: []*linkstate.LSA{record("sr-1", 0, randomNode(r)), record("sr-1", bucket, prefixes)}},
		&linkstate.Digest{Sums: []uint64{1}},
	} {
		wire, _ := proto.Marshal(encodeMessage(m))
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		parsed := new(dmscv1.PeerMessage)
		if proto.Unmarshal(wire, parsed) != nil {
			return
		}
		m, err := decodeMessage(parsed, func(error) {})
		if err != nil {
			return
		}
		again, err := decodeMessage(encodeMessage(m), func(error) {})
		if err != nil {
			t.Fatal(err)
		}
		same(t, m, again)
		for n := range 8 { // the end of a message is lost
			_ = proto.Unmarshal(wire[:len(wire)*n/8], parsed)
			_, _ = decodeMessage(parsed, func(error) {})
		}
		if u, ok := m.(*linkstate.LSUpdate); ok {
			for _, r := range u.Records {
				if r.Content == nil {
					continue
				}
				c, err := Decode(r.Type, Encode(r.Content))
				if err != nil {
					t.Fatal(err)
				}
				same(t, r.Content, c)
			}
		}
	})
}
