package node

import (
	"slices"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/translator"
)

// Envoy's words lead to the document, and nothing but that is left out.
func TestWhatEnvoyRefusesOfTheDocumentsIsLeftOut(t *testing.T) {
	set := &border.Set{
		Aliases: []translator.Alias{
			{Host: "shop.example", Path: "/cart", Prefix: dmsc.MustParsePrefix("a/1"), From: translator.Pods},
			{Host: "other.example", Prefix: dmsc.MustParsePrefix("a/2"), From: translator.Pods},
		},
		Externals: []translator.External{{Name: "pay", Host: "pay.example", Port: 80}, {Name: "mail", Host: "mail.example", Port: 25}},
	}
	d := documents{inForce: set}
	state := translator.State{Node: "sg-1", Aliases: set.Aliases, Externals: set.Externals}
	for _, words := range []string{"virtual host dmsc/alias/shop!example: no good", "cluster dmsc/external/pay/pay!example: no good", "no word of ours"} {
		origins, _ := state.Origins("routes", "dmsc/ingress", words)
		for _, o := range origins {
			d.leaveOut(o, words)
		}
	}
	if !slices.Equal(d.inForce.Aliases, set.Aliases[1:]) || len(d.inForce.Externals) != 1 || d.inForce.Externals[0].Name != "mail" {
		t.Errorf("in force are %+v", d.inForce)
	}
	if len(set.Aliases) != 2 || len(set.Externals) != 2 {
		t.Error("what readers hold has changed")
	}
}
