package xds

import (
	"encoding/json"
	"io"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
)

// Record is one message of one stream; exactly one of Request and Response is
// set. The messages belong to the stream: read, do not keep.
type Record struct {
	Time     time.Time
	Node     string
	Stream   uint64
	Request  proto.Message
	Response proto.Message
}

// line is the written form of a Record: names and versions, not contents.
type line struct {
	Time      time.Time         `json:"time"`
	Node      string            `json:"node"`
	Stream    uint64            `json:"stream"`
	Dir       string            `json:"dir"` // request, response
	TypeURL   string            `json:"type_url"`
	Nonce     string            `json:"nonce,omitempty"`
	Version   string            `json:"version,omitempty"`
	Sent      map[string]string `json:"sent,omitempty"` // name → version
	Removed   []string          `json:"removed,omitempty"`
	Resources int               `json:"resources,omitempty"` // state-of-the-world: how many
	Subscribe []string          `json:"subscribe,omitempty"`
	Leave     []string          `json:"unsubscribe,omitempty"`
	Initial   map[string]string `json:"initial,omitempty"` // name → version the client came with
	Err       string            `json:"err,omitempty"`     // a NACK's words
}

// RecordTo returns a Config.Record that writes one JSON line per message, for
// tests and for operators who want to see what an Envoy was told. The first
// failed write ends the recording.
func RecordTo(w io.Writer) func(Record) {
	var mu sync.Mutex
	var failed bool
	enc := json.NewEncoder(w)
	return func(r Record) {
		mu.Lock()
		defer mu.Unlock()
		if !failed {
			failed = enc.Encode(r.line()) != nil
		}
	}
}

func (r Record) line() line {
	l := line{Time: r.Time, Node: r.Node, Stream: r.Stream, Dir: "request"}
	switch m := r.Request.(type) {
	case *discoveryv3.DeltaDiscoveryRequest:
		l.TypeURL, l.Nonce, l.Err = m.GetTypeUrl(), m.GetResponseNonce(), m.GetErrorDetail().GetMessage()
		l.Subscribe, l.Leave, l.Initial = m.GetResourceNamesSubscribe(), m.GetResourceNamesUnsubscribe(), m.GetInitialResourceVersions()
	case *discoveryv3.DiscoveryRequest:
		l.TypeURL, l.Nonce, l.Err = m.GetTypeUrl(), m.GetResponseNonce(), m.GetErrorDetail().GetMessage()
		l.Subscribe, l.Version = m.GetResourceNames(), m.GetVersionInfo()
	}
	if r.Response == nil {
		return l
	}
	l.Dir = "response"
	switch m := r.Response.(type) {
	case *discoveryv3.DeltaDiscoveryResponse:
		l.TypeURL, l.Nonce, l.Version, l.Removed = m.GetTypeUrl(), m.GetNonce(), m.GetSystemVersionInfo(), m.GetRemovedResources()
		l.Sent = make(map[string]string, len(m.GetResources()))
		for _, res := range m.GetResources() {
			l.Sent[res.GetName()] = res.GetVersion()
		}
	case *discoveryv3.DiscoveryResponse:
		l.TypeURL, l.Nonce, l.Version, l.Resources = m.GetTypeUrl(), m.GetNonce(), m.GetVersionInfo(), len(m.GetResources())
	}
	return l
}
