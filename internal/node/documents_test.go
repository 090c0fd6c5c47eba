package node

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/translator"
)

// Envoy's words lead to the document, and nothing but that is left out.
func TestWhatEnvoyRefusesOfTheDocumentsIsLeftOut(t *testing.T) {
	set := &border.Set{
		Aliases: []translator.Alias{
			{Name: "shop", Host: "shop.example", Path: "/cart", Prefix: dmsc.MustParsePrefix("a/1"), From: translator.Pods},
			{Name: "other", Host: "other.example", Prefix: dmsc.MustParsePrefix("a/2"), From: translator.Pods},
		},
		Externals: []translator.External{{Name: "pay", Host: "pay.example", Port: 80}, {Name: "mail", Host: "mail.example", Port: 25}},
	}
	d := documents{files: set, inForce: set}
	state := translator.State{Node: "sg-1", Aliases: set.Aliases, Externals: set.Externals}
	for _, words := range []string{"virtual host dmsc/alias/shop!example: no good", "cluster dmsc/external/pay/pay!example: no good", "no word of ours"} {
		origins, _ := state.Origins("routes", "dmsc/ingress", words)
		d.refuse(origins, set, words)
	}
	if !slices.Equal(d.inForce.Aliases, set.Aliases[1:]) || len(d.inForce.Externals) != 1 || d.inForce.Externals[0].Name != "mail" {
		t.Errorf("in force are %+v", d.inForce)
	}
	if len(set.Aliases) != 2 || len(set.Externals) != 2 {
		t.Error("what readers hold has changed")
	}
}

// A configuration Envoy would reject never replaces a good one.
func TestARefusedEditOfADocumentKeepsItsLastGoodVersion(t *testing.T) {
	pay, mail := translator.External{Name: "pay", Host: "pay.example", Port: 80}, translator.External{Name: "mail", Host: "mail.example", Port: 25}
	good := &border.Set{Externals: []translator.External{mail, pay}}
	edited := pay
	edited.Port = 81
	sent := &border.Set{Externals: []translator.External{mail, edited}}
	blamed := []translator.Origin{{Kind: translator.OriginExternal, Name: "pay"}, {Kind: translator.OriginExternal, Name: "mail"}}

	d := documents{files: sent, inForce: sent, good: good}
	d.refuse(blamed, sent, "no")
	const kept = "external_service pay: refused by Envoy, and kept at its last good version: no"
	if !reflect.DeepEqual(d.inForce, good) || d.suspended() != kept {
		t.Errorf("in force are %+v, refused %q", d.inForce, d.suspended())
	}
	// More words about what was sent before say nothing of what is sent now.
	if fates := d.refuse(blamed[:1], sent, "no"); len(fates) > 0 || !reflect.DeepEqual(d.inForce, good) {
		t.Errorf("%q, in force are %+v", fates, d.inForce)
	}
	// An edit of something else does not have it tried again, nor do two forget it.
	other := &border.Set{Externals: []translator.External{{Name: "mail", Host: "mail.example", Port: 26}, edited}}
	d.files = other
	d.settle()
	if want := []translator.External{other.Externals[0], pay}; !reflect.DeepEqual(d.inForce.Externals, want) || d.suspended() != kept {
		t.Errorf("in force are %+v, refused %q", d.inForce, d.suspended())
	}
	d.files = sent
	d.settle()
	// Another Envoy does not take the version of before either.
	d.refuse(blamed[:1], good, "no")
	if !reflect.DeepEqual(d.inForce.Externals, []translator.External{mail}) || !strings.Contains(d.suspended(), "left out") {
		t.Errorf("in force are %+v, refused %q", d.inForce, d.suspended())
	}
	// What it says now is new, and nothing is wrong with it that is known.
	edited.Port = 82
	d.files = &border.Set{Externals: []translator.External{mail, edited}}
	d.settle()
	if !reflect.DeepEqual(d.inForce, d.files) || d.suspended() != "" {
		t.Errorf("in force are %+v, refused %q", d.inForce, d.suspended())
	}
}
