package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/toy"
)

// answer is what came back for one request.
type answer struct {
	status  int
	refusal string // dmsc-error
	header  http.Header
	echo    toy.Echo // of a toy
	body    string   // of whoever else answers
}

// get asks for a name at a gateway; "" sends no name.
func (n *network) get(t *testing.T, gateway dmsc.NodeID, name string) answer {
	t.Helper()
	h := http.Header{}
	if name != "" {
		h.Set("dmsc-service-prefix", name)
	}
	return n.send(t, h1, gateway, h)
}

// send sends a GET with these headers, written as they are.
func (n *network) send(t *testing.T, c *http.Client, gateway dmsc.NodeID, h http.Header) answer {
	t.Helper()
	a, err := n.trySend(t, c, gateway, h)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (n *network) trySend(t *testing.T, c *http.Client, gateway dmsc.NodeID, h http.Header) (answer, error) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.Node(gateway).Ingress+"/", nil)
	if err != nil {
		return answer{}, err
	}
	req.Header = h
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, refusal: resp.Header.Get("dmsc-error"), header: resp.Header, body: string(body)}
	if resp.Header.Get("content-type") == "application/json" {
		err = json.Unmarshal(body, &a.echo)
	}
	return a, err
}

// h1 and h2 speak HTTP/1.1 and HTTP/2 without TLS, and keep no connection.
var h1, h2 = httpClient(false), httpClient(true)

func httpClient(two bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!two)
	p.SetUnencryptedHTTP2(two)
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{Protocols: p, DisableKeepAlives: true}}
}

// Names are matched by segment, longest first, in any case, alike at every
// gateway (design §3).
func TestNamesMeanTheSameAtEveryGateway(t *testing.T) {
	n := shared(t)
	for _, c := range []struct {
		name    string
		status  int
		refusal string
		pods    []string // any of them may answer
	}{
		{"a/1", 200, "", []string{"pod-1"}},
		{"b/1", 200, "", []string{"pod-1"}},
		{"c/2", 200, "", []string{"pod-2"}},
		{"d/3", 200, "", []string{"pod-3"}},
		{"a/4", 200, "", []string{"pod-4"}},
		{"b/4", 200, "", []string{"pod-4"}},
		{"a/1/x", 200, "", []string{"pod-1"}},
		{"a/1/x/y/z", 200, "", []string{"pod-1"}},
		{"a/4/", 200, "", []string{"pod-4"}},
		{"A/1", 200, "", []string{"pod-1"}},
		{"A/4/X", 200, "", []string{"pod-4"}},
		{"a", 200, "", []string{"pod-1", "pod-4"}},
		{"B", 200, "", []string{"pod-1", "pod-4"}},
		{"c", 200, "", []string{"pod-2"}},
		{"a/10", 404, "no-route", nil},
		{"a/99", 404, "no-route", nil},
		{"a/1x", 404, "no-route", nil},
		{"a//1", 404, "no-route", nil},
		{"/a/1", 404, "no-route", nil},
		{"z/1", 404, "no-route", nil},
		{"d", 200, "", []string{"pod-3"}},
		{"dmsc/hello", 404, "no-route", nil},
		{"dmsc/node/sr-1", 404, "no-route", nil},
		{"", 404, "no-prefix", nil},
	} {
		for _, gw := range gateways {
			a := n.get(t, gw, c.name)
			refusal := ""
			if c.refusal != "" {
				refusal = fmt.Sprintf("%s; node=%s", c.refusal, gw)
			}
			pod := a.echo.Pod
			ok := a.status == c.status && a.refusal == refusal && (pod == "" && c.pods == nil || slices.Contains(c.pods, pod))
			if !ok {
				t.Errorf("%q at %s: %d %q by %q, want %d %q by one of %q", c.name, gw, a.status, a.refusal, pod, c.status, refusal, c.pods)
			}
			if a.status == 200 && a.header.Get("x-echo-prefix") != c.name {
				t.Errorf("%q at %s: the pod was asked for %q", c.name, gw, a.header.Get("x-echo-prefix"))
			}
		}
	}
}

// A function's requests go to the nearest owners, and to all that are equally
// near.
func TestAFunctionIsThePoolOfItsNearestInstances(t *testing.T) {
	n := shared(t)
	for gw, want := range map[dmsc.NodeID]string{"sg-1": "pod-1", "sg-4": "pod-4", "sg-2": "pod-1 pod-4"} {
		seen := map[string]int{}
		for range 40 {
			seen[n.get(t, gw, "a").echo.Pod]++
		}
		var pods []string
		for p := range seen {
			pods = append(pods, p)
		}
		slices.Sort(pods)
		if got := strings.Join(pods, " "); got != want {
			t.Errorf("a at %s is answered by %v, want %s", gw, seen, want)
		}
	}
}

// dmsc-via is the path, and the path is a shortest one: every gateway reaches
// every service over routers only (draft Figure 2).
func TestThePathIsAShortestOneOverRouters(t *testing.T) {
	n := shared(t)
	for _, c := range []struct{ gateway, name, via string }{
		{"sg-1", "a/1", "<sg-1>"},
		{"sg-1", "c/2", "<sg-1>,<sr-?>,<sg-2>"},
		{"sg-1", "d/3", "<sg-1>,<sr-1>,<sg-3>"},
		{"sg-1", "b/4", "<sg-1>,<sr-2>,<sg-4>"},
		{"sg-2", "d/3", "<sg-2>,<sr-1>,<sg-3>"},
		{"sg-3", "a/4", "<sg-3>,<sr-3>,<sg-4>"},
		{"sg-4", "a/1", "<sg-4>,<sr-2>,<sg-1>"},
	} {
		via := n.get(t, dmsc.NodeID(c.gateway), c.name).header.Get("x-echo-via")
		if got := strings.NewReplacer("<sr-1>", "<sr-?>", "<sr-2>", "<sr-?>").Replace(via); via != c.via && got != c.via {
			t.Errorf("%s from %s: %s, want %s", c.name, c.gateway, via, c.via)
		}
	}
}
