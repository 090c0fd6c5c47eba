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
