package translator

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// tables are the route tables of the last state. A table, or a virtual host,
// that has not changed since is the message that it was.
type tables struct {
	plain      map[string]*table // as the builders make them
	sealed     map[string]*routev3.RouteConfiguration
	generation string
}

// table is a route table with the hashes of its parts.
type table struct {
	message *routev3.RouteConfiguration
	frame   []byte // all but the virtual hosts, marshalled
	hosts   map[string]hashedHost
}

type hashedHost struct {
	*routev3.VirtualHost
	sum [sha256.Size]byte
}

// settle turns to the tables of another state, and seals them: it adds the
// virtual host dmsc/hello, whose answer depends on all others.
func (t *tables) settle(made map[string]*routev3.RouteConfiguration, hello func(generation string) *routev3.VirtualHost) error {
	same := len(made) == len(t.plain)
	plain := make(map[string]*table, len(made))
	for name, m := range made {
		next, err := t.plain[name].settle(m)
		if err != nil {
			return fmt.Errorf("route table %s: %w", name, err)
		}
		plain[name] = next
		same = same && next == t.plain[name]
	}
	if same {
		return nil
	}
	sum := sha256.New()
	sealed := make(map[string]*routev3.RouteConfiguration, len(plain))
	for _, name := range sortedKeys(plain) {
		table := plain[name]
		fmt.Fprintf(sum, "%d\x00%s", len(table.frame), table.frame)
		for _, h := range table.message.VirtualHosts {
			s := table.hosts[h.Name].sum
			sum.Write(s[:])
		}
		sealed[name] = table.message
	}
	t.generation = hex.EncodeToString(sum.Sum(nil)[:8])
	fabric := sealed[fabricName]
	sealed[fabricName] = withHosts(fabric, slices.Insert(slices.Clone(fabric.VirtualHosts), 0, hello(t.generation)))
	t.plain, t.sealed = plain, sealed
	return nil
}

// settle returns t, if it is what was made, and else the new table with the
// virtual hosts that it shares with t.
func (t *table) settle(made *routev3.RouteConfiguration) (*table, error) {
	frame, err := deterministic.Marshal(withHosts(made, nil))
	if err != nil {
		return nil, err
	}
	if t == nil {
		t = &table{message: new(routev3.RouteConfiguration)}
	}
	same := bytes.Equal(frame, t.frame) && len(made.VirtualHosts) == len(t.message.VirtualHosts)
	next := &table{message: made, frame: frame, hosts: make(map[string]hashedHost, len(made.VirtualHosts))}
	for i, h := range made.VirtualHosts {
		known := t.hosts[h.Name]
		if known.VirtualHost != h && !proto.Equal(known.VirtualHost, h) {
			text, err := deterministic.Marshal(h)
			if err != nil {
				return nil, fmt.Errorf("virtual host %s: %w", h.Name, err)
			}
			known = hashedHost{h, sha256.Sum256(text)}
		}
		if next.hosts[h.Name] = known; known.VirtualHost != h {
			made.VirtualHosts[i] = known.VirtualHost
		}
		same = same && t.message.VirtualHosts[i] == known.VirtualHost
	}
	if same {
		return t, nil
	}
	return next, nil
}

var deterministic = proto.MarshalOptions{Deterministic: true}

// withHosts is a copy of a table with other virtual hosts, sharing the rest.
func withHosts(table *routev3.RouteConfiguration, hosts []*routev3.VirtualHost) *routev3.RouteConfiguration {
	other := new(routev3.RouteConfiguration)
	table.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if field.Name() != "virtual_hosts" {
			other.ProtoReflect().Set(field, v)
		}
		return true
	})
	other.VirtualHosts = hosts
	return other
}
