package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// terminal keeps what a command prints, for others to wait for.
type terminal struct {
	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{} // closed, and made anew, by each Write
}

func newTerminal() *terminal { return &terminal{news: make(chan struct{})} }

func (o *terminal) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.news)
	o.news = make(chan struct{})
	return o.text.Write(b)
}

func (o *terminal) read() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.news
}

func (o *terminal) String() string { text, _ := o.read(); return text }

// wait returns the first line that contains text.
func (o *terminal) wait(t *testing.T, text string) string {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		all, news := o.read()
		for line := range strings.Lines(all) {
			if strings.Contains(line, text) {
				return line
			}
		}
		select {
		case <-news:
		case <-late:
			t.Fatalf("%q was not printed:\n%s", text, all)
		}
	}
}

// running is a dmsc command that has not ended yet.
type running struct {
	stdout, stderr *terminal
	interrupt      context.CancelFunc // Ctrl-C
	code           chan int
}

// start runs dmsc beside the test, which ends it.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stdout: newTerminal(), stderr: newTerminal(), interrupt: cancel, code: make(chan int, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.code <- run(ctx, args, r.stdout, r.stderr)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return r
}

// exit waits for the end and returns the exit code.
func (r *running) exit(t *testing.T) int {
	t.Helper()
	select {
	case code := <-r.code:
		return code
	case <-time.After(20 * time.Second):
		t.Fatalf("did not end:\n%s%s", r.stdout, r.stderr)
		return 0
	}
}

// logged waits for a line of the log and returns its fields.
func (r *running) logged(t *testing.T, msg string) map[string]string {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(r.stderr.wait(t, `"msg":"`+msg+`"`)), &fields); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for k, v := range fields {
		out[k] = fmt.Sprint(v)
	}
	return out
}

// startSPA runs an SPA with what stands below grants: in its file, and returns
// its address and that of its health listener.
func startSPA(t *testing.T, grants string) (addr, health string) {
	t.Helper()
	file := shortTempDir(t) + "/grants.yaml"
	writeFile(t, file, "apiVersion: dmsc.io/v1alpha1\nkind: PrefixGrants\nmetadata: {name: test}\nspec:\n  grants:\n"+grants, 0o644)
	f := start(t, "spa", "--set", "grants="+file, "--set", "log.format=json", "--set", "listen=127.0.0.1:0", "--set", "health=127.0.0.1:0").logged(t, "serving")
	return f["listen"], f["health"]
}

// startNode runs an SG without links and without an Envoy.
func startNode(t *testing.T, spa string) (api, health string) {
	t.Helper()
	f := start(t, "node", "--set", "node=sg-1", "--set", "role=SG", "--set", "state_dir="+shortTempDir(t), "--set", "log.format=json",
		"--set", "listen.api=127.0.0.1:0", "--set", "listen.peering=127.0.0.1:0", "--set", "listen.health=127.0.0.1:0",
		"--set", "envoy.fabric=127.0.0.1:1", "--set", "spa.addresses="+spa).logged(t, "node is up")
	return f["api"], f["health"]
}

// nobody is an address that refuses connections.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestAnnounceAtADeadGatewayExitsWith3WhenInterrupted(t *testing.T) {
	gateway := nobody(t)
	r := start(t, "announce", "a/1", "--pod", "pod-1", "--port", "8080", "--gateway", gateway)
	r.stderr.wait(t, "trying again")
	r.interrupt()
	if code := r.exit(t); code != exitUnreachable {
		t.Errorf("exit %d", code)
	}
	if want := "dmsc: gateway " + gateway + " was never reached"; !strings.Contains(r.stderr.String(), want) {
		t.Errorf("%q is missing in\n%s", want, r.stderr)
	}
}

func TestAnnounceThatIsRefusedForGoodExitsWith1(t *testing.T) {
	spa, _ := startSPA(t, "    - {holder: pod-1, prefix: a/1}\n")
	gateway, _ := startNode(t, spa)
	r := start(t, "announce", "b/1,b/2", "--pod", "pod-1", "--port", "8080", "--gateway", gateway)
	if code := r.exit(t); code != exitNo {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"b/1 denied at sg-1: ", "b/2 denied at sg-1: "} {
		r.stdout.wait(t, want)
	}
	if want := "dmsc: every prefix was refused; ask whoever keeps the grants of the SPA\n"; !strings.HasSuffix(r.stderr.String(), want) {
		t.Errorf("stderr is %q", r.stderr)
	}
}

func TestAnnounceOfWhatTheGatewayCallsInvalidExitsWith1(t *testing.T) {
	spa, _ := startSPA(t, "    - {holder: pod-1, prefix: a/1}\n")
	gateway, _ := startNode(t, spa)
	r := start(t, "announce", "a/1", "--pod", "Pod_1", "--port", "8080", "--gateway", gateway)
	if code := r.exit(t); code != exitNo || !strings.Contains(r.stderr.String(), `node id "Pod_1"`) && !strings.Contains(r.stderr.String(), "pod") {
		t.Errorf("exit %d\n%s", code, r.stderr)
	}
}

// One granted prefix keeps the command alive; Ctrl-C withdraws, and is no error.
func TestAnnounceStaysWhileAnyPrefixIsGrantedAndWithdrawsOnCtrlC(t *testing.T) {
	spa, _ := startSPA(t, "    - {holder: pod-1, prefix: a/1}\n")
	gateway, health := startNode(t, spa)
	r := start(t, "announce", "a/1,b/1", "--pod", "pod-1", "--port", "8080", "--gateway", gateway)
	r.stdout.wait(t, "a/1 announced at sg-1\n")
	r.stdout.wait(t, "b/1 denied at sg-1: ")
	// The pod is told a moment before the pages are.
	eventually(t, health, "/api/v1/lsdb", func(body string) bool { return strings.Contains(body, `"a/1"`) })
	if body := page(t, health, "/api/v1/lsdb"); strings.Contains(body, `"b/1"`) {
		t.Errorf("the LSDB has b/1:\n%s", body)
	}
	r.interrupt()
	if code := r.exit(t); code != 0 || r.stderr.String() != "" {
		t.Errorf("exit %d\n%s", code, r.stderr)
	}
	eventually(t, health, "/api/v1/status", func(body string) bool { return strings.Contains(body, `"pods": []`) })
}

// eventually waits until a page is as it should be.
func eventually(t *testing.T, addr, path string, ok func(body string) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := lab.Until(ctx, path+" is not as it should be", func(context.Context) error {
		if body := page(t, addr, path); !ok(body) {
			return errors.New(body)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func page(t *testing.T, addr, path string) string {
	t.Helper()
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

var snakeCase = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// camel lists the keys in v that are not lower_snake_case, with their place.
func camel(at string, v any) (bad []string) {
	switch v := v.(type) {
	case map[string]any:
		for k, w := range v {
			if !snakeCase.MatchString(k) {
				bad = append(bad, at+"."+k)
			}
			bad = append(bad, camel(at+"."+k, w)...)
		}
	case []any:
		for _, w := range v {
			bad = append(bad, camel(at+"[]", w)...)
		}
	}
	return bad
}

// Every page is JSON in lower_snake_case, with pods, records and an SPA to be
// shown. What the pages of the SCSC hold is in TestPagesOfTheSCSC.
func TestPagesAreLowerSnakeCase(t *testing.T) {
	spa, spaHealth := startSPA(t, "    - {holder: pod-1, prefix: a/1}\n")
	gateway, nodeHealth := startNode(t, spa)
	start(t, "announce", "a/1", "--pod", "pod-1", "--port", "8080", "--gateway", gateway).stdout.wait(t, "a/1 announced at sg-1\n")
	eventually(t, nodeHealth, "/api/v1/lsdb", func(body string) bool { return strings.Contains(body, `"a/1"`) })
	scsc := start(t, "scsc", "--set", "state_dir="+shortTempDir(t), "--set", "observe="+nobody(t), "--set", "log.format=json",
		"--set", "listen=127.0.0.1:0", "--set", "health=127.0.0.1:0").logged(t, "serving")
	for addr, paths := range map[string][]string{
		spaHealth:      {"/api/v1/status"},
		nodeHealth:     {"/api/v1/status", "/api/v1/lsdb"},
		scsc["health"]: {"/api/v1/policies", "/api/v1/nodes", "/api/v1/links", "/api/v1/events"},
	} {
		for _, path := range paths {
			var v any
			body := page(t, addr, path)
			if err := json.Unmarshal([]byte(body), &v); err != nil {
				t.Errorf("%s: %v\n%s", path, err, body)
			}
			if bad := camel(path, v); len(bad) > 0 {
				t.Errorf("not lower_snake_case: %v\n%s", bad, body)
			}
			if strings.Contains(body, ": null") {
				t.Errorf("%s has a null:\n%s", path, body)
			}
		}
	}
}
