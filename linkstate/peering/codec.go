package peering

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Limits of what is accepted from a neighbour.
const (
	// MaxMessage is the largest message in bytes; a larger one ends its stream.
	MaxMessage = 4 << 20
	// MaxRecords is how many records an update may have; a larger one is
	// malformed.
	MaxRecords = 4096
	// MaxPOA is the largest authorization in bytes.
	MaxPOA = 16 << 10
	// MaxAttributes is how many attributes a prefix, or tags a link, may have,
	// and MaxAttribute how many bytes each.
	MaxAttributes = linkstate.MaxTags
	MaxAttribute  = linkstate.MaxTag
)

// version of the protocol that our hellos carry.
const version = 1

var errUnknownKind = errors.New("unknown kind of message")

// Encode returns the wire form of c: equal content gives equal bytes. It is
// meant as linkstate.Config.Encode. It panics on text that is not UTF-8, which
// no configuration file and no announcement can bring in.
func Encode(c linkstate.Content) []byte {
	var m proto.Message
	switch c := c.(type) {
	case nil:
		return nil
	case *linkstate.NodeLSA:
		m = encodeNode(c)
	case *linkstate.PrefixLSA:
		m = encodePrefixes(c)
	case *linkstate.AuthLSA:
		m = &dmscv1.AuthLSA{Poa: c.POA}
	default:
		panic(fmt.Sprintf("encode record body of type %T", c))
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("encode record body: %v", err))
	}
	return b
}

// Decode reads the body of a record and checks every value in it. The content
// of an unknown type is nil without an error.
func Decode(t linkstate.Type, body []byte) (linkstate.Content, error) {
	switch t {
	case linkstate.TypeNode:
		m := new(dmscv1.NodeLSA)
		if err := proto.Unmarshal(body, m); err != nil {
			return nil, err
		}
		return content(decodeNode(m))
	case linkstate.TypePrefix:
		m := new(dmscv1.PrefixLSA)
		if err := proto.Unmarshal(body, m); err != nil {
			return nil, err
		}
		return content(decodePrefixes(m))
	case linkstate.TypeAuth:
		m := new(dmscv1.AuthLSA)
		if err := proto.Unmarshal(body, m); err != nil {
			return nil, err
		}
		if n := len(m.GetPoa()); n == 0 || n > MaxPOA {
			return nil, fmt.Errorf("authorization has %d bytes, 1 to %d are allowed", n, MaxPOA)
		}
		return &linkstate.AuthLSA{POA: m.GetPoa()}, nil
	}
	return nil, nil
}

// content keeps a nil pointer from becoming a non-nil Content.
func content[C linkstate.Content](c C, err error) (linkstate.Content, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

func encodeNode(c *linkstate.NodeLSA) *dmscv1.NodeLSA {
	m := &dmscv1.NodeLSA{Role: dmscv1.Role(c.Role), Transit: c.Transit, Algorithm: encodeAlgorithm(c.Algorithm), AvoidTags: c.Avoid}
	for _, l := range c.Links {
		m.Links = append(m.Links, &dmscv1.Link{
			Remote: string(l.Remote), Id: string(l.ID), Metric: uint32(l.Metric),
			Delay: encodeDuration(l.Delay), Jitter: encodeDuration(l.Jitter), Loss: l.Loss,
			CapacityBps: l.Capacity, AvailableBps: l.Available, Tags: l.Tags,
		})
	}
	return m
}

func decodeNode(m *dmscv1.NodeLSA) (*linkstate.NodeLSA, error) {
	c := &linkstate.NodeLSA{Transit: m.GetTransit(), Avoid: m.GetAvoidTags()}
	var err error
	if c.Role, err = decodeRole(m.GetRole()); err != nil {
		return nil, err
	}
	if c.Role == dmsc.RoleObserver {
		return nil, errors.New("an observer originates nothing")
	}
	if c.Algorithm, err = decodeAlgorithm(m.GetAlgorithm()); err != nil {
		return nil, err
	}
	if err := checkTexts("avoided tag", c.Avoid); err != nil {
		return nil, err
	}
	for i := range c.Avoid {
		if i > 0 && c.Avoid[i-1] >= c.Avoid[i] {
			return nil, fmt.Errorf("avoided tag %q is not in order after %q", c.Avoid[i], c.Avoid[i-1])
		}
	}
	if n := len(m.GetLinks()); n > linkstate.MaxLinks {
		return nil, fmt.Errorf("has %d links, at most %d are allowed", n, linkstate.MaxLinks)
	}
	for i, l := range m.GetLinks() {
		d, err := decodeLink(l)
		if err != nil {
			return nil, fmt.Errorf("link %d: %w", i, err)
		}
		if i > 0 && compareLinks(c.Links[i-1], d) >= 0 {
			return nil, fmt.Errorf("link %d: not in order after the one before", i)
		}
		c.Links = append(c.Links, d)
	}
	return c, nil
}

func compareLinks(a, b linkstate.Link) int {
	if c := strings.Compare(string(a.Remote), string(b.Remote)); c != 0 {
		return c
	}
	return strings.Compare(string(a.ID), string(b.ID))
}

func decodeLink(m *dmscv1.Link) (l linkstate.Link, err error) {
	if l.Remote, err = dmsc.ParseNodeID(m.GetRemote()); err != nil {
		return l, err
	}
	if l.ID, err = dmsc.ParseLinkID(m.GetId()); err != nil {
		return l, err
	}
	l.Metric = dmsc.Metric(m.GetMetric())
	if l.Metric == 0 || l.Metric == dmsc.Unreachable {
		return l, fmt.Errorf("metric %d is out of range", l.Metric)
	}
	if l.Delay, err = decodeDuration(m.GetDelay()); err != nil {
		return l, fmt.Errorf("delay: %w", err)
	}
	if l.Jitter, err = decodeDuration(m.GetJitter()); err != nil {
		return l, fmt.Errorf("jitter: %w", err)
	}
	if l.Loss = m.GetLoss(); !(l.Loss >= 0 && l.Loss <= 1) { // refuses NaN too
		return l, fmt.Errorf("loss %v is not within 0 to 1", l.Loss)
	}
	l.Capacity, l.Available, l.Tags = m.GetCapacityBps(), m.GetAvailableBps(), m.GetTags()
	return l, checkTexts("tag", l.Tags)
}

func encodePrefixes(c *linkstate.PrefixLSA) *dmscv1.PrefixLSA {
	m := new(dmscv1.PrefixLSA)
	for _, p := range c.Prefixes {
		m.Prefixes = append(m.Prefixes, &dmscv1.AnnouncedPrefix{
			Prefix: p.Prefix.String(), Metric: uint32(p.Metric), Preference: p.Preference, Weight: p.Weight,
			Protocol: dmscv1.Protocol(p.Protocol) + 1, ReplaySafe: p.ReplaySafe,
			Attributes: p.Attributes, Authorization: p.Authorization,
		})
	}
	return m
}

func decodePrefixes(m *dmscv1.PrefixLSA) (*linkstate.PrefixLSA, error) {
	if n := len(m.GetPrefixes()); n > linkstate.MaxPrefixes {
		return nil, fmt.Errorf("has %d prefixes, at most %d are allowed", n, linkstate.MaxPrefixes)
	}
	c := new(linkstate.PrefixLSA)
	for i, a := range m.GetPrefixes() {
		p, err := decodePrefix(a)
		if err != nil {
			return nil, fmt.Errorf("prefix %d: %w", i, err)
		}
		if i > 0 && c.Prefixes[i-1].Prefix.Compare(p.Prefix) >= 0 {
			return nil, fmt.Errorf("prefix %d: %s is not in order after %s", i, p.Prefix, c.Prefixes[i-1].Prefix)
		}
		c.Prefixes = append(c.Prefixes, p)
	}
	return c, nil
}

func decodePrefix(m *dmscv1.AnnouncedPrefix) (p linkstate.Prefix, err error) {
	if p.Prefix, err = dmsc.ParsePrefix(m.GetPrefix()); err != nil {
		return p, err
	}
	if p.Prefix.String() != m.GetPrefix() {
		return p, fmt.Errorf("%q is not in canonical form", m.GetPrefix())
	}
	if p.Prefix.Reserved() {
		return p, fmt.Errorf("%s is reserved for the network itself", p.Prefix)
	}
	if p.Metric = dmsc.Metric(m.GetMetric()); p.Metric == dmsc.Unreachable {
		return p, fmt.Errorf("%s: metric %d is out of range", p.Prefix, p.Metric)
	}
	if proto := m.GetProtocol(); proto < dmscv1.Protocol_PROTOCOL_HTTP1 || proto > dmscv1.Protocol_PROTOCOL_TCP {
		return p, fmt.Errorf("%s: protocol %d is unknown", p.Prefix, proto)
	}
	p.Protocol = dmsc.Protocol(m.GetProtocol() - 1)
	p.Preference, p.Weight, p.ReplaySafe = m.GetPreference(), m.GetWeight(), m.GetReplaySafe()
	p.Attributes = m.GetAttributes()
	if err := checkTexts("attribute", p.Attributes); err != nil {
		return p, fmt.Errorf("%s: %w", p.Prefix, err)
	}
	if !slices.IsSorted(p.Attributes) {
		return p, fmt.Errorf("%s: attributes are not sorted", p.Prefix)
	}
	if p.Authorization = m.GetAuthorization(); len(p.Authorization) != 0 && len(p.Authorization) != 32 {
		return p, fmt.Errorf("%s: authorization hash has %d bytes, not 32", p.Prefix, len(p.Authorization))
	}
	return p, nil
}

func checkTexts(what string, list []string) error {
	if len(list) > MaxAttributes {
		return fmt.Errorf("has %d %ss, at most %d are allowed", len(list), what, MaxAttributes)
	}
	for _, s := range list {
		if s == "" || len(s) > MaxAttribute {
			return fmt.Errorf("%s has %d bytes, 1 to %d are allowed", what, len(s), MaxAttribute)
		}
	}
	return nil
}

// The numbers of Role are the same in Go and on the wire.
func decodeRole(r dmscv1.Role) (dmsc.Role, error) {
	if r < dmscv1.Role_ROLE_SG || r > dmscv1.Role_ROLE_OBSERVER {
		return dmsc.RoleUnknown, fmt.Errorf("role %d is unknown", r)
	}
	return dmsc.Role(r), nil
}

func encodeAlgorithm(a linkstate.Algorithm) dmscv1.MetricAlgorithm {
	return dmscv1.MetricAlgorithm(a) + 1
}

// decodeAlgorithm lets numbers pass that are unknown here: the core makes a
// node with a foreign algorithm a last resort, and has to hear of it for that.
func decodeAlgorithm(a dmscv1.MetricAlgorithm) (linkstate.Algorithm, error) {
	if a < 1 || a > math.MaxUint8+1 {
		return 0, fmt.Errorf("metric algorithm %d is out of range", a)
	}
	return linkstate.Algorithm(a - 1), nil
}

func encodeDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func decodeDuration(m *durationpb.Duration) (time.Duration, error) {
	if m == nil {
		return 0, nil
	}
	if err := m.CheckValid(); err != nil {
		return 0, err
	}
	d := m.AsDuration()
	if d < 0 || d > time.Hour {
		return 0, fmt.Errorf("%v is not within 0 to 1h", d)
	}
	return d, nil
}

func encodeRecord(r *linkstate.LSA) *dmscv1.LSA {
	return &dmscv1.LSA{
		Origin: string(r.Origin), Type: uint32(r.Type), Fragment: r.Fragment,
		Incarnation: r.Incarnation, Seq: r.Seq, NotAfter: timestamppb.New(r.NotAfter),
		Tombstone: r.Tombstone, Body: r.Body, Signature: r.Signature,
	}
}

// decodeRecord returns nil for what cannot even be named. A record whose body
// cannot be used comes without content and with an error that says why: its
// origin may be of a later version, and the core floods it on. What the core
// refuses it gets unread.
func decodeRecord(m *dmscv1.LSA) (*linkstate.LSA, error) {
	origin, err := dmsc.ParseNodeID(m.GetOrigin())
	if err != nil {
		return nil, err
	}
	if m.GetType() == 0 || m.GetType() > math.MaxUint16 {
		return nil, fmt.Errorf("record type %d is out of range", m.GetType())
	}
	r := &linkstate.LSA{
		Key:       linkstate.Key{Origin: origin, Type: linkstate.Type(m.GetType()), Fragment: m.GetFragment()},
		Order:     linkstate.Order{Incarnation: m.GetIncarnation(), Seq: m.GetSeq()},
		Tombstone: m.GetTombstone(), Body: m.GetBody(), Signature: m.GetSignature(),
	}
	if err := m.GetNotAfter().CheckValid(); err != nil {
		return nil, fmt.Errorf("%s: not_after: %w", r.Key, err)
	}
	r.NotAfter = m.GetNotAfter().AsTime()
	if r.Tombstone || len(r.Body) > linkstate.MaxBody {
		return r, nil
	}
	c, err := Decode(r.Type, r.Body)
	if p, ok := c.(*linkstate.PrefixLSA); ok {
		for _, q := range p.Prefixes {
			if linkstate.Bucket(q.Prefix) != r.Fragment {
				err = fmt.Errorf("%s belongs into another bucket", q.Prefix)
			}
		}
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", r.Key, err)
	}
	r.Content = c
	return r, nil
}

func encodeMessage(m linkstate.Message) *dmscv1.PeerMessage {
	switch m := m.(type) {
	case *linkstate.Hello:
		return &dmscv1.PeerMessage{Kind: &dmscv1.PeerMessage_Hello{Hello: encodeHello(m)}}
	case *linkstate.LSUpdate:
		u := &dmscv1.LSUpdate{Seq: m.Seq, Records: make([]*dmscv1.LSA, 0, len(m.Records))}
		for _, r := range m.Records {
			u.Records = append(u.Records, encodeRecord(r))
		}
		return &dmscv1.PeerMessage{Kind: &dmscv1.PeerMessage_Update{Update: u}}
	case *linkstate.LSAck:
		return &dmscv1.PeerMessage{Kind: &dmscv1.PeerMessage_Ack{Ack: &dmscv1.LSAck{Seq: m.Seq}}}
	case *linkstate.Digest:
		return &dmscv1.PeerMessage{Kind: &dmscv1.PeerMessage_Digest{Digest: &dmscv1.Digest{Sums: m.Sums, Synced: m.Synced}}}
	}
	panic(fmt.Sprintf("encode message of type %T", m))
}

// decodeMessage calls spoiled for each record of an update that it leaves out
// or hands on without its content. The update itself is still handed on: its
// number has to be acknowledged.
func decodeMessage(m *dmscv1.PeerMessage, spoiled func(error)) (linkstate.Message, error) {
	switch k := m.GetKind().(type) {
	case *dmscv1.PeerMessage_Hello:
		return message(decodeHello(k.Hello))
	case *dmscv1.PeerMessage_Update:
		if n := len(k.Update.GetRecords()); n > MaxRecords {
			return nil, fmt.Errorf("update has %d records, at most %d are allowed", n, MaxRecords)
		}
		u := &linkstate.LSUpdate{Seq: k.Update.GetSeq()}
		for _, r := range k.Update.GetRecords() {
			d, err := decodeRecord(r)
			if err != nil {
				spoiled(err)
			}
			if d != nil {
				u.Records = append(u.Records, d)
			}
		}
		return u, nil
	case *dmscv1.PeerMessage_Ack:
		return &linkstate.LSAck{Seq: k.Ack.GetSeq()}, nil
	case *dmscv1.PeerMessage_Digest:
		return &linkstate.Digest{Sums: k.Digest.GetSums(), Synced: k.Digest.GetSynced()}, nil
	}
	return nil, errUnknownKind
}

func message(h *linkstate.Hello, err error) (linkstate.Message, error) {
	if err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	return h, nil
}

func encodeHello(h *linkstate.Hello) *dmscv1.Hello {
	return &dmscv1.Hello{
		Domain: h.Domain, Node: string(h.Node), Role: dmscv1.Role(h.Role), Link: string(h.Link),
		Algorithm: encodeAlgorithm(h.Algorithm), Session: h.Session, Seen: h.Seen,
		Incarnation: h.Incarnation, Held: h.Held, Fabric: h.Fabric, DataPlane: h.DataPlane,
		Class: dmscv1.LinkClass(h.Class) + 1, Version: version,
	}
}

func decodeHello(m *dmscv1.Hello) (*linkstate.Hello, error) {
	h := &linkstate.Hello{
		Domain: m.GetDomain(), Session: m.GetSession(), Seen: m.GetSeen(),
		Incarnation: m.GetIncarnation(), Held: m.GetHeld(), Fabric: m.GetFabric(), DataPlane: m.GetDataPlane(),
	}
	var err error
	if h.Node, err = dmsc.ParseNodeID(m.GetNode()); err != nil {
		return nil, err
	}
	if h.Role, err = decodeRole(m.GetRole()); err != nil {
		return nil, err
	}
	if h.Link, err = dmsc.ParseLinkID(m.GetLink()); err != nil {
		return nil, err
	}
	if h.Algorithm, err = decodeAlgorithm(m.GetAlgorithm()); err != nil {
		return nil, err
	}
	if c := m.GetClass(); c >= dmscv1.LinkClass_LINK_CLASS_METRO && c <= dmscv1.LinkClass_LINK_CLASS_WAN {
		h.Class = dmsc.LinkClass(c - 1) // else the default: a class says nothing about who the neighbour is
	}
	if h.Session == 0 {
		return nil, errors.New("session is 0")
	}
	if h.Incarnation >= linkstate.MaxIncarnation || h.Held >= linkstate.MaxIncarnation {
		return nil, fmt.Errorf("incarnation %d or held %d is out of range", h.Incarnation, h.Held)
	}
	return h, checkAddress(h.Fabric)
}

// checkAddress accepts IP:port, which is all that Envoy takes as an endpoint,
// and nothing at all: an Envoy that is not up yet has no data address.
func checkAddress(s string) error {
	if s == "" {
		return nil
	}
	if a, err := netip.ParseAddrPort(s); err != nil || a.Port() == 0 || a.Addr().Zone() != "" {
		return fmt.Errorf("fabric: %q is not IP:port", s)
	}
	return nil
}
