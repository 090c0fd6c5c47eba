package xds_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// With clusters on demand a real Envoy has no next-hop group before a request
// needs it; that request waits a moment and is served, the next one does not.
func TestARealEnvoyFetchesAGroupAtItsFirstRequest(t *testing.T) {
	dir, err := os.MkdirTemp("", "xds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	neighbour := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("dmsc-via"))
	}))
	neighbour.Config.Protocols = new(http.Protocols)
	neighbour.Config.Protocols.SetUnencryptedHTTP2(true)
	neighbour.Start()
	t.Cleanup(neighbour.Close)

	hop := rib.NextHop{LinkKey: linkstate.LinkKey{Remote: "sr-1", ID: "0"}, Weight: 1}
	group := &rib.Group{Name: rib.GroupName([]rib.NextHop{hop}, nil), Primaries: []rib.NextHop{hop}}
	ingress := "127.0.0.1:" + strconv.Itoa(freePort(t))
	r, err := translator.Translate(translator.State{
		Node:       "sg-1",
		Addrs:      translator.Addrs{Ingress: ingress, Fabric: "127.0.0.1:" + strconv.Itoa(freePort(t)), Probe: "unix://" + dir + "/probe.sock"},
		RIB:        rib.NewRIB("sg-1", &rib.Entry{Prefix: dmsc.MustParsePrefix("b/2"), Kind: rib.Announced, Group: group}),
		Neighbours: []translator.Neighbour{{NextHop: hop, Data: neighbour.Listener.Addr().String(), Up: true}},
		OnDemand:   true,
	})
	if err != nil {
		t.Fatal(err)
	}
	f := serve(t, xds.Config{})
	t.Cleanup(listen(t, f.Server, filepath.Join(dir, "xds.sock")))
	version := f.publish("sg-1", xds.SetOf(r))
	boot, err := translator.Bootstrap("sg-1", "unix://"+dir+"/admin.sock", "unix://"+dir+"/xds.sock")
	if err != nil {
		t.Fatal(err)
	}
	text, err := translator.YAML(boot)
	if err != nil {
		t.Fatal(err)
	}
	envoy := launchEnvoy(t, dir, text)
	f.expect(xds.Acked, version)

	has := func() bool { return strings.Contains(envoy.get(t, "/clusters"), translator.GroupCluster(group)) }
	if has() {
		t.Error("Envoy has the group before anybody needs it")
	}
	for i := range 2 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ingress, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("dmsc-service-prefix", "b/2")
		began := time.Now()
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		took := time.Since(began)
		t.Logf("request %d: %v", i+1, took.Round(100*time.Microsecond))
		if response.StatusCode != 200 || string(body) != "<sg-1>" || took > 900*time.Millisecond {
			t.Errorf("request %d: %d %s %q after %v", i+1, response.StatusCode, response.Header.Get("dmsc-error"), body, took)
		}
	}
	if !has() {
		t.Error("Envoy has not kept the group")
	}
}
