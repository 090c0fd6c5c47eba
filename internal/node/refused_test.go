package node

import (
	"fmt"
	"strings"
	"testing"

	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/peering"
	"github.com/dmsc-mesh/dmsc/translator"
)

// What one pod says must not keep the others' prefixes or the whole FIB back.
func TestAServiceThatNeighboursOrEnvoyWouldRefuseIsRefusedAlone(t *testing.T) {
	for name, spoil := range map[string]func(*dmscv1.ServiceAnnouncement){
		"too many attributes": func(w *dmscv1.ServiceAnnouncement) {
			w.Attributes = strings.Split(strings.Repeat("a=1,", 16)+"b=1", ",")
		},
		"an empty attribute":      func(w *dmscv1.ServiceAnnouncement) { w.Attributes = []string{""} },
		"an overlong attribute":   func(w *dmscv1.ServiceAnnouncement) { w.Attributes = []string{strings.Repeat("a", 256)} },
		"a weight out of bounds":  func(w *dmscv1.ServiceAnnouncement) { w.Weight = 1 << 31 },
		"a control character":     func(w *dmscv1.ServiceAnnouncement) { w.HealthPath = "/\x01" },
		"a name for an address":   func(w *dmscv1.ServiceAnnouncement) { w.Address = "pod.example" },
		"an address of nobody":    func(w *dmscv1.ServiceAnnouncement) { w.Address = "0.0.0.0" },
		"an address of many":      func(w *dmscv1.ServiceAnnouncement) { w.Address = "ff02::1" },
		"a metric out of bounds":  func(w *dmscv1.ServiceAnnouncement) { w.Metric = 1 << 24 },
		"a protocol of to-morrow": func(w *dmscv1.ServiceAnnouncement) { w.Protocol = 99 },
	} {
		bad := &dmscv1.ServiceAnnouncement{Prefix: "a/1", Port: 80}
		spoil(bad)
		s, err := parseAnnouncement(1, &dmscv1.AnnounceRequest{
			Pod: "pod-1", Services: []*dmscv1.ServiceAnnouncement{bad, {Prefix: "b/1", Port: 80}},
		}, "10.0.0.1", minLease)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(s.refused) != 1 || s.refused[0].prefix != "a/1" || s.refused[0].code != "malformed" || len(s.services) != 1 {
			t.Errorf("%s: refused %+v, taken %d", name, s.refused, len(s.services))
		}
	}
}

// Records have their attributes sorted; a pod may give them in any order.
func TestAttributesInAnyOrderMakeARecordThatNeighboursTake(t *testing.T) {
	v, err := parseService(&dmscv1.ServiceAnnouncement{Prefix: "a/1", Port: 80, Attributes: []string{"zone=b", "rack=7", "zone=b"}}, "10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	body := peering.Encode(&linkstate.PrefixLSA{Prefixes: []linkstate.Prefix{v.Prefix}})
	if _, err := peering.Decode(linkstate.TypePrefix, body); err != nil {
		t.Error(err)
	}
	want(t, fmt.Sprint(v.Attributes), "[rack=7 zone=b]")
}

func TestWordsOfOthersCannotSteerATerminal(t *testing.T) {
	if got := shortened("a\x1b[31m\r\nb\u009b€", 20); got != "a [31m \nb €" {
		t.Errorf("%q", got)
	}
	set := &border.Set{Aliases: []translator.Alias{{Name: "a", Host: "a.example"}}}
	d := documents{files: set, inForce: set}
	if d.refuse([]translator.Origin{{Kind: translator.OriginAlias, Name: "a.example"}}, set, "no\nway\n"); !strings.HasSuffix(d.suspended(), "left out: no way") {
		t.Errorf("%q", d.suspended())
	}
}
