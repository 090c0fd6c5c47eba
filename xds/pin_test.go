package xds_test

import (
	"bytes"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// saved is a pin as a file gives it back.
func saved(t *testing.T, s *xds.Server, about any) xds.Pin {
	t.Helper()
	p, ok := s.Pin("sg-1")
	if !ok {
		t.Fatal("sg-1 is not pinned")
	}
	if p.About != about {
		t.Errorf("it is about %v, not %v", p.About, about)
	}
	var file bytes.Buffer
	if err := p.WriteResources(&file); err != nil {
		t.Fatal(err)
	}
	read := xds.Pin{Version: p.Version, Published: p.Published, Since: p.Since, OnDemand: p.OnDemand, About: p.About}
	if err := read.ReadResources(&file, 1<<20); err != nil {
		t.Fatal(err)
	}
	return read
}

// An operator who has rolled back must not get the bad set because the agent
// restarts.
func TestAPinGoesOnInTheNextServer(t *testing.T) {
	before := serve(t, xds.Config{})
	good := simple("a", "b", "asked-for", "in-bootstrap")
	good.OnDemand, good.About = []string{"asked-for"}, "good"
	good.Clusters, good.Endpoints, good.Static = good.Clusters[:3], good.Endpoints[:3], []string{"in-bootstrap"}
	good.Routes = append(good.Routes, route("other", "in-bootstrap"))
	first := before.publish("sg-1", good)
	before.publish("sg-1", simple("bad"))
	if _, ok := before.Pin("sg-1"); ok {
		t.Error("it is pinned too early")
	}
	if _, err := before.Rollback("sg-1", first); err != nil {
		t.Fatal(err)
	}
	p := saved(t, before.Server, "good")

	f := serve(t, xds.Config{})
	if err := f.Restore("sg-1", p); err != nil {
		t.Fatal(err)
	}
	c := xdstest.Dial(t, xdstest.Serve(t, f.Server), "sg-1")
	c.Subscribe(xds.Clusters)
	if st := f.status("sg-1"); st.Pinned == nil || st.Pinned.Version != first || !st.Pinned.Since.Equal(p.Since) || st.Pinned.Newest != "" {
		t.Errorf("status %+v, pinned %+v", st, st.Pinned)
	}
	bad := simple("bad", "a")
	bad.Endpoints[1] = endpoints("a", 9000)
	newest := f.publish("sg-1", bad)
	c.ExpectAck(xds.Clusters, "+a", "+b") // and nothing before: the endpoints may have moved, the first set tells
	c.Subscribe(xds.Endpoints, "a")
	got := c.ExpectAck(xds.Endpoints, "+a")
	if body := got.GetResources()[0].GetResource(); !strings.Contains(string(body.GetValue()), "127.0.0.1\x18\xa8F") { // port 9000
		t.Errorf("the endpoints are those of the file: %x", body.GetValue())
	}
	h := f.history("sg-1")
	if len(h) != 2 || h[0].Version != newest || h[1].Version != first || !h[1].Pinned || !h[1].Time.Equal(p.Published) {
		t.Errorf("history %+v", h)
	}
	if saved(t, f.Server, "good").Version != first {
		t.Error("what is saved again is another")
	}
	if served, err := f.Resume("sg-1"); err != nil || served != newest {
		t.Errorf("served %s, %v", served, err)
	}
	c.ExpectAck(xds.Clusters, "+bad")
}

func TestARestoredPinCanBeEndedBeforeAnythingIsPublished(t *testing.T) {
	before := serve(t, xds.Config{})
	if _, err := before.Rollback("sg-1", before.publish("sg-1", simple("a"))); err != nil {
		t.Fatal(err)
	}
	f := serve(t, xds.Config{})
	if err := f.Restore("sg-1", saved(t, before.Server, nil)); err != nil {
		t.Fatal(err)
	}
	if served, err := f.Resume("sg-1"); served != "" || err != nil {
		t.Errorf("served %q, %v", served, err)
	}
	if served := f.publish("sg-1", simple("b")); f.status("sg-1").Wanted != served || f.status("sg-1").Pinned != nil {
		t.Errorf("status %+v", f.status("sg-1"))
	}
}

func TestAPinThatCannotBeServedIsNotRestored(t *testing.T) {
	before := serve(t, xds.Config{})
	if _, err := before.Rollback("sg-1", before.publish("sg-1", simple("a"))); err != nil {
		t.Fatal(err)
	}
	good := saved(t, before.Server, nil)
	resource := func(name, typeURL string, value ...byte) []byte {
		var b bytes.Buffer
		if _, err := protodelim.MarshalTo(&b, &discoveryv3.Resource{Name: name, Resource: &anypb.Any{TypeUrl: typeURL, Value: value}}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	var whole bytes.Buffer
	if err := good.WriteResources(&whole); err != nil {
		t.Fatal(err)
	}
	for why, text := range map[string][]byte{
		"it has no resources": nil,
		"is not served here":  resource("x", "type.googleapis.com/google.protobuf.Empty"),
		"resource x: ":        resource("x", xds.Clusters.URL(), 7),
		"defined twice":       append(whole.Bytes(), whole.Bytes()...),
		"read resource 4":     whole.Bytes()[:whole.Len()-1],
		"read resource 1":     resource("x", strings.Repeat("x", 1<<20)),
	} {
		p := good
		f := serve(t, xds.Config{})
		err := p.ReadResources(bytes.NewReader(text), 1<<20)
		if err == nil {
			err = f.Restore("sg-1", p)
		}
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
		if _, ok := f.Pin("sg-1"); ok {
			t.Errorf("%s: pinned", why)
		}
		f.publish("sg-1", simple("b")) // goes on as ever
	}
	if err := before.Restore("sg-1", good); err == nil {
		t.Error("restored over what was published")
	}
}
