package translator_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/translator"
)

// logged waits for so many lines of an access log. Each has to be an object.
func logged(t *testing.T, file string, count int) []map[string]any {
	t.Helper()
	for late := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
		if len(text) == 0 {
			lines = nil
		}
		if len(lines) < count && time.Now().Before(late) {
			continue
		}
		var out []map[string]any
		for _, line := range lines {
			var fields map[string]any
			if err := json.Unmarshal(line, &fields); err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			out = append(out, fields)
		}
		if len(out) != count {
			t.Fatalf("%d lines, want %d:\n%s", len(out), count, text)
		}
		return out
	}
}

func TestALineSaysWhereARequestWent(t *testing.T) {
	n := newNetwork(t, findEnvoy(t))
	n.pod(t, pod{name: "pod"})
	far, near := filepath.Join(n.dir, "sg-2.json"), filepath.Join(n.dir, "sg-1.json")
	n.start(t, n.expand(`
node: sg-2
addrs: {ingress: "{sg-2}", fabric: "{sg-2.fabric}", probe: "{sg-2.probe}"}
accessLog: {to: `+far+`, fabric: true, sample: 1000000}
neighbours: [{link: sr-1, data: "{sr-1.fabric}"}]
entries: [{prefix: b/2, local: true}]
services: [{prefix: b/2, address: "{pod}"}]
`))
	n.start(t, n.expand(`
node: sr-1
addrs: {fabric: "{sr-1.fabric}", probe: "{sr-1.probe}"}
neighbours: [{link: sg-1, data: "{sg-1.fabric}"}, {link: sg-2, data: "{sg-2.fabric}"}]
entries: [{prefix: b/2, via: [sg-2]}]
`))
	n.start(t, n.expand(`
node: sg-1
addrs: {ingress: "{sg-1}", fabric: "{sg-1.fabric}", probe: "{sg-1.probe}"}
accessLog: {to: `+near+`, sample: 1000000}
neighbours: [{link: sr-1, data: "{sr-1.fabric}"}, {link: sr-9, data: "{nobody}"}]
entries: [{prefix: b/2, via: [sr-1]}, {prefix: c/1, via: [sr-9]}]
steering: [{prefix: b/2, policy: p, paths: [{path: sg-1 sr-1 sg-2, weight: 100}]}]
`))
	ingress := n.states["sg-1"].Addrs.Ingress
	for _, name := range []string{"b/2", "c/1"} {
		n.get(t, ingress, "/x?password=1", "app.example", "dmsc-service-prefix: "+name)
	}
	instance, next := n.address("pod"), n.address("sr-1.fabric")
	lines := logged(t, near, 2)
	for i, want := range []map[string]any{
		{
			"authority": "app.example", "attempts": 1.0, "cluster": "dmsc/neighbour/sr-1", "details": "via_upstream", "listener": "ingress",
			"method": "GET", "node": "sg-1", "path": ">sg-1>sr-1>sg-2>", "prefix": "b/2", "protocol": "HTTP/1.1", "received_bytes": 0.0,
			"status": 200.0, "upstream": next, "url_path": "/x", "via": "<sg-1>",
		},
		{
			"authority": "app.example", "attempts": 5.0, "cluster": "dmsc/group/sr-9", "error": "no-healthy; node=sg-1", "flags": "URX,UF",
			"listener": "ingress", "method": "GET", "node": "sg-1", "prefix": "c/1", "protocol": "HTTP/1.1", "received_bytes": 0.0,
			"status": 503.0, "url_path": "/x", "via": "<sg-1>",
		},
	} {
		for key, value := range want {
			if lines[i][key] != value {
				t.Errorf("line %d: %s is %v, want %v", i, key, lines[i][key], value)
			}
		}
		for _, key := range []string{"time", "peer", "request_id", "duration_us", "sent_bytes"} {
			if lines[i][key] == nil {
				t.Errorf("line %d has no %s", i, key)
			}
		}
	}
	// The other end has the same request by its id.
	there := logged(t, far, 1)[0]
	for key, want := range map[string]any{
		"listener": "fabric", "request_id": lines[0]["request_id"], "via": "<sg-1>,<sr-1>,<sg-2>", "upstream": instance, "cluster": "dmsc/local/b/2", "status": 200.0,
	} {
		if there[key] != want {
			t.Errorf("at sg-2: %s is %v, want %v", key, there[key], want)
		}
	}
}

// Nothing that a client says ends a line, an object or a string, and no line is
// longer than it is useful.
func TestNoClientCanForgeALine(t *testing.T) {
	n := newNetwork(t, findEnvoy(t))
	n.pod(t, pod{name: "pod"})
	file := filepath.Join(n.dir, "log.json")
	n.start(t, n.expand(`
node: sg-1
addrs: {ingress: "{sg-1}", fabric: "{sg-1.fabric}", probe: "{sg-1.probe}"}
accessLog: {to: `+file+`, sample: 1000000}
entries: [{prefix: a/1, local: true}]
services: [{prefix: a/1, address: "{pod}"}]
`))
	known := []string{
		"attempts", "authority", "cluster", "details", "duration_us", "error", "failure", "first_answer_us", "flags", "grpc_status", "instance", "listener",
		"method", "node", "path", "peer", "prefix", "protocol", "received_bytes", "request_id", "request_us", "sent_bytes", "status", "time", "upstream",
		"url_path", "via",
	}
	hostile := []string{`"`, `\`, `\"`, `","status":200,"x":"`, `"}` + "\t" + `{"a":"`, "\x01\x02\x7f", "\xff\xfe", "é漢", `\u000a`, `%REQ(COOKIE)%`, strings.Repeat("x", 20000)}
	var all sync.WaitGroup
	count := 0
	for _, value := range hostile {
		for _, request := range []string{
			"GET / HTTP/1.1\r\nhost: a\r\ndmsc-service-prefix: " + value,
			"GET / HTTP/1.1\r\nhost: " + value + "\r\ndmsc-service-prefix: a/1",
			"GET /" + value + "?" + value + " HTTP/1.1\r\nhost: a\r\ndmsc-service-prefix: a/1",
			value + " / HTTP/1.1\r\nhost: a\r\ndmsc-service-prefix: a/1",
			"GET / HTTP/1.1\r\nhost: a\r\nx-request-id: " + value + "\r\ndmsc-trace: " + value + "\r\ndmsc-service-prefix: a/1",
		} {
			count++
			all.Go(func() {
				c, err := net.Dial("tcp", n.states["sg-1"].Addrs.Ingress)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				fmt.Fprintf(c, "%s\r\nconnection: close\r\n\r\n", request)
				if answer, err := io.ReadAll(c); len(answer) == 0 {
					t.Errorf("%.60q: no answer: %v", request, err)
				}
			})
		}
	}
	all.Wait()
	for _, line := range logged(t, file, count) {
		for key := range line {
			if !slices.Contains(known, key) {
				t.Errorf("a line has a %q: %v", key, line)
			}
		}
		if line["node"] != "sg-1" || line["listener"] != "ingress" {
			t.Errorf("a line says of itself %v", line)
		}
		if text, _ := json.Marshal(line); len(text) > 8192 {
			t.Errorf("a line of %d bytes: %s", len(text), text)
		}
	}
}

// What is written is bounded by shares, one of all requests and one of errors.
func TestOnlyErrorsAreWritten(t *testing.T) {
	n := newNetwork(t, findEnvoy(t))
	n.serve(t, "pod", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	file := filepath.Join(n.dir, "log.json")
	n.start(t, n.expand(`
node: sg-1
addrs: {ingress: "{sg-1}", fabric: "{sg-1.fabric}", probe: "{sg-1.probe}"}
accessLog: {to: `+file+`, sampleerrors: 1000000}
entries: [{prefix: a/1, local: true}]
services: [{prefix: a/1, address: "{pod}"}]
`))
	ingress := n.states["sg-1"].Addrs.Ingress
	n.get(t, ingress, "/", "", "dmsc-service-prefix: a/1")
	n.get(t, ingress, "/bad", "", "dmsc-service-prefix: a/1")
	n.get(t, ingress, "/", "", "dmsc-service-prefix: a/99")
	n.get(t, ingress, "/", "", "dmsc-service-prefix: a/1")
	lines := logged(t, file, 2)
	if lines[0]["status"] != 500.0 || lines[1]["error"] != "no-route; node=sg-1" {
		t.Errorf("%v", lines)
	}
	// And changed while it runs, in millionths.
	if err := n.envoys["sg-1"].Post(t.Context(), "/runtime_modify?dmsc.access_log.sample=1000000"); err != nil {
		t.Fatal(err)
	}
	n.get(t, ingress, "/", "", "dmsc-service-prefix: a/1")
	logged(t, file, 3)
}

// Neighbours ask many times a second whether an Envoy has a FIB: that is no
// traffic, however much of it is written.
func TestTheProbesOfNeighboursAreNotWritten(t *testing.T) {
	envoy := findEnvoy(t)
	for _, shares := range []string{"sample: 1000000", "sample: 999999, sampleerrors: 1000000"} {
		n := newNetwork(t, envoy)
		n.pod(t, pod{name: "pod"})
		file := filepath.Join(n.dir, "log.json")
		n.start(t, n.expand(`
node: sg-1
addrs: {ingress: "{sg-1}", fabric: "{sg-1.fabric}", probe: "{sg-1.probe}"}
accessLog: {to: `+file+`, fabric: true, `+shares+`}
entries: [{prefix: a/1, local: true}]
services: [{prefix: a/1, address: "{pod}"}]
`))
		fabric := n.states["sg-1"].Addrs.Fabric
		for _, header := range []string{"dmsc-service-prefix: dmsc/hello", "dmsc-service-prefix: a/99", "dmsc-service-prefix: dmsc/hello", "accept: x"} {
			n.get(t, fabric, "/", "", header)
		}
		if lines := logged(t, file, 2); lines[0]["prefix"] != "a/99" || lines[1]["prefix"] != nil {
			t.Errorf("%s: %v", shares, lines)
		}
	}
}

// A log that is off is not there: Envoy has nothing to skip.
func TestALogThatIsOffIsNotInTheResources(t *testing.T) {
	s := readScene(t, "testdata/figure2-sg-1.yaml")
	off := translate(t, s)
	s.AccessLog = translator.AccessLog{To: "stdout", Fabric: true, Sample: 10000, SampleErrors: 1e6}
	on := translate(t, s)
	for _, name := range slices.Sorted(maps.Keys(off.Listeners)) {
		has := func(r translator.Resources) bool {
			return strings.Contains(r.Listeners[name].String(), "dmsc/access-log")
		}
		if has(off) || has(on) != (name == "dmsc/ingress" || name == "dmsc/fabric") {
			t.Errorf("listener %s: off %t, on %t", name, has(off), has(on))
		}
	}
	if off.Generation != on.Generation {
		t.Error("the log has changed the routes")
	}
	s.AccessLog.To = "log.json"
	if _, err := translator.Translate(s); err == nil || !strings.Contains(err.Error(), "neither stdout nor an absolute path") {
		t.Errorf("a relative path: %v", err)
	}
}
