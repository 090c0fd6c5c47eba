package linkstatetest

import (
	"encoding/json"
	"fmt"

	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Encode is the deterministic encoding of content that the simulated network
// uses. It is not the wire format.
func Encode(c linkstate.Content) []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", c, err)) // the types are ours and marshal
	}
	return b
}

// Decode reads what Encode wrote for a record of type t. Unknown types have no
// content.
func Decode(t linkstate.Type, body []byte) (linkstate.Content, error) {
	var c linkstate.Content
	switch t {
	case linkstate.TypeNode:
		c = new(linkstate.NodeLSA)
	case linkstate.TypePrefix:
		c = new(linkstate.PrefixLSA)
	case linkstate.TypeAuth:
		c = new(linkstate.AuthLSA)
	default:
		return nil, nil
	}
	if err := json.Unmarshal(body, c); err != nil {
		return nil, fmt.Errorf("decode record of type %d: %w", t, err)
	}
	return c, nil
}

// carry copies m as a wire would, so that no two Instances share memory.
func carry(m linkstate.Message) linkstate.Message {
	switch m := m.(type) {
	case *linkstate.Hello:
		c := *m
		return &c
	case *linkstate.LSAck:
		c := *m
		return &c
	case *linkstate.Digest:
		c := *m
		c.Sums = append([]uint64(nil), m.Sums...)
		return &c
	case *linkstate.LSUpdate:
		c := &linkstate.LSUpdate{Seq: m.Seq}
		for _, l := range m.Records {
			n := *l
			n.Body = append([]byte(nil), l.Body...)
			if n.Content = nil; !n.Tombstone {
				n.Content, _ = Decode(n.Type, n.Body)
			}
			c.Records = append(c.Records, &n)
		}
		return c
	}
	return m
}
