package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// What running Envoys say of themselves leads a request over the nodes that it
// really takes to the address of the pod that really answers; at a node that is
// not there the walk ends, and names it.
func TestExplainFollowsARequestThroughRunningEnvoys(t *testing.T) {
	n := shared(t)
	real := n.get(t, "sg-1", "b/4")
	via := real.header.Get("x-echo-via")
	servers := map[string]string{}
	for _, id := range n.IDs() {
		servers[string(id)] = "http://" + n.Node(id).Agent.Health
	}
	explain := func() (nodes, text string, code int) {
		cmd := exec.CommandContext(t.Context(), binary, "explain", "--node", "sg-1", "b/4")
		for name, address := range servers {
			cmd.Args = append(cmd.Args, "--server", name+"="+address)
		}
		out, _ := cmd.CombinedOutput() // the exit code says it
		var hops []string
		for _, m := range regexp.MustCompile(`(?m)^\d+ (\S+) dmsc/`).FindAllStringSubmatch(string(out), -1) {
			hops = append(hops, "<"+m[1]+">")
		}
		return strings.Join(hops, ","), string(out), cmd.ProcessState.ExitCode()
	}

	nodes, text, code := explain()
	pod := regexp.MustCompile(`(?m)^answer 200 of (\S+), which gets$`).FindStringSubmatch(text)
	if code != 0 || nodes != via || pod == nil {
		t.Fatalf("exit code %d, by %s, the request goes by %s:\n%s", code, nodes, via, text)
	}
	resp, err := h1.Get("http://" + pod[1])
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), fmt.Sprintf(`"pod":%q`, real.echo.Pod)) {
		t.Errorf("at %s answers %d %s %v, not %s", pod[1], resp.StatusCode, body, err, real.echo.Pod)
	}

	next := strings.Trim(strings.Split(via, ",")[1], "<>")
	servers[next] = "127.0.0.1:1"
	nodes, text, code = explain()
	if code != 3 || nodes != "<sg-1>" || !strings.Contains(text, "dmsc: the request goes on to "+next+" at ") ||
		!strings.HasSuffix(text, ", of which nothing is known: "+next+": 127.0.0.1:1: cannot be reached: connect: connection refused\n") {
		t.Errorf("without %s: exit code %d, by %s:\n%s", next, code, nodes, text)
	}
}

// The database of a running node tells of the network that its topology file
// describes.
func TestWhatifOfARunningNodeIsThatOfItsTopology(t *testing.T) {
	n := shared(t)
	whatif := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), binary, append([]string{"whatif", "--fail-node", "sr-2", "--from", "sg-1", "b/4"}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v", args, err)
		}
		return string(out)
	}
	live, offline := whatif("--server", n.Node("sr-3").Agent.Health), whatif()
	if live != offline || !strings.Contains(live, " moved ") {
		t.Errorf("of sr-3's database:\n%s\nof Figure 2:\n%s", live, offline)
	}
}
