//go:build compose

package compose_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What the compose file promises to be (design §9).
var (
	gateways = []string{"sg-1", "sg-2", "sg-3", "sg-4"}
	nodes    = append(slices.Clone(gateways), "sr-1", "sr-2", "sr-3")
	links    = []string{
		"sg-1 sr-1", "sg-1 sr-2", "sg-2 sr-1", "sg-2 sr-2", "sg-3 sr-1", "sg-3 sr-3", "sg-4 sr-2", "sg-4 sr-3",
		"sr-1 sr-2", "sr-1 sr-3", "sr-2 sr-3",
	}
	owners = map[string]string{"a/1": "pod-1", "b/1": "pod-1", "c/2": "pod-2", "d/3": "pod-3", "a/4": "pod-4", "b/4": "pod-4"}
)

// Ways from sg-1 to b/4: the shortest, the shortest without sr-2, and any that
// avoids the link between sr-2 and sg-4.
var (
	short  = way{"sg-1>sr-2>sg-4", func(via string) bool { return via == "sg-1>sr-2>sg-4" }}
	detour = way{"sg-1>sr-1>sr-3>sg-4", func(via string) bool { return via == "sg-1>sr-1>sr-3>sg-4" }}
	wide   = way{"…>sr-3>sg-4", func(via string) bool { return strings.HasSuffix(via, ">sr-3>sg-4") }}
)

// A rule that the 100 Mbit/s between sr-2 and sg-4 keep, one that they break
// while all other links, with 1 Gbit/s, keep it, and one with a fault.
const (
	modest = `apiVersion: dmsc.io/v1alpha1
kind: QoSPolicy
metadata: {name: b-room}
spec:
  selector: {prefix: b/4}
  thresholds:
    bandwidth: {enter: 10Mbps}
  recovery: {holdDown: 1s}
`
	demanding = `apiVersion: dmsc.io/v1alpha1
kind: QoSPolicy
metadata: {name: b-room}
spec:
  selector: {prefix: b/4}
  thresholds:
    bandwidth: {enter: 200Mbps}
  recovery: {holdDown: 1s}
`
	faulty = `apiVersion: dmsc.io/v1alpha1
kind: QoSPolicy
metadata: {name: b-room}
spec:
  selector: {prefix: b/4}
  thresholds:
    bandwidth: {enter: 200 parsecs}
`
)

// TestFigure2AsContainers is one network and a story about it: the parts run in
// this order on what the ones before have left.
func TestFigure2AsContainers(t *testing.T) {
	n := start(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *network)
	}{
		{"nodes share a network only where Figure 2 has a link", nodesShareNetworksOnlyOnLinks},
		{"every gateway reaches every announced prefix", everyGatewayReachesEveryPrefix},
		{"every health check turns healthy", everyHealthCheckTurnsHealthy},
		{"a refused pod learns why and nobody routes to it", refusedPodIsToldAndRoutedNowhere},
		{"traffic outlives a killed agent", trafficOutlivesAKilledAgent},
		{"traffic leaves a killed router and returns to it", trafficLeavesAKilledRouter},
		{"an edited policy moves traffic and a faulty one changes nothing", editedPolicyMovesTraffic},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(t, n.in(t)) }) {
			return
		}
	}
}

func nodesShareNetworksOnlyOnLinks(t *testing.T, n *network) {
	members := map[string][]string{} // network → nodes
	for line := range strings.Lines(n.containers(`{{.Label "com.docker.compose.service"}} {{.Networks}}`)) {
		service, networks, _ := strings.Cut(strings.TrimSpace(line), " ")
		node, ok := strings.CutSuffix(service, "-envoy") // the agent uses its network
		if !ok {
			continue
		}
		for name := range strings.SplitSeq(networks, ",") {
			members[name] = append(members[name], node)
		}
	}
	var shared []string
	for _, together := range members {
		slices.Sort(together)
		for i, a := range together {
			for _, b := range together[i+1:] {
				shared = append(shared, a+" "+b)
			}
		}
	}
	slices.Sort(shared)
	if !slices.Equal(shared, links) {
		t.Errorf("nodes that share a network:\n%s\nlinks of Figure 2:\n%s", strings.Join(shared, ", "), strings.Join(links, ", "))
	}
}

func everyGatewayReachesEveryPrefix(t *testing.T, n *network) {
	took := eventually(t, time.Minute, func() error {
		for _, gateway := range gateways {
			for prefix, pod := range owners {
				switch a, err := n.ask(gateway, prefix); {
				case err != nil:
					return fmt.Errorf("%s from %s: %w", prefix, gateway, err)
				case a.pod != pod:
					return fmt.Errorf("%s from %s: %s answers, not %s", prefix, gateway, a.pod, pod)
				}
			}
		}
		return nil
	})
	t.Logf("all %d prefixes from all %d gateways, %v after Compose was done", len(owners), len(gateways), took.Round(time.Millisecond))
	if a, err := n.ask("sg-1", "b/4"); err != nil || !short.is(a.via) {
		t.Errorf("b/4 from sg-1 went %s (%v), shortest is %s", a.via, err, short.name)
	}
}

func everyHealthCheckTurnsHealthy(t *testing.T, n *network) {
	eventually(t, time.Minute, func() error {
		var waiting []string
		healthy := 0
		for line := range strings.Lines(n.containers(`{{.Label "com.docker.compose.service"}} {{.Status}}`)) {
			switch {
			case strings.Contains(line, "(healthy)"):
				healthy++
			case strings.Contains(line, "health"):
				waiting = append(waiting, strings.TrimSpace(line))
			}
		}
		if want := len(nodes) + 2; healthy != want { // and SPA, SCSC
			return fmt.Errorf("%d of %d are healthy; %s", healthy, want, strings.Join(waiting, ", "))
		}
		return nil
	})
}

func refusedPodIsToldAndRoutedNowhere(t *testing.T, n *network) {
	out, err := n.command("docker", "run", "--rm", "--network", project+"_pods-2", "dmsc:e2e",
		"announce", "c/9", "--pod", "pod-2", "--gateway", "sg-2:17800", "--port", "8080")
	if err == nil {
		t.Errorf("dmsc announce c/9 exits 0 although nobody granted c/9")
	}
	if !regexp.MustCompile(`(?m)^c/9 denied at sg-2: .+`).MatchString(out) {
		t.Errorf("dmsc announce c/9 does not say that it was denied and why: %q (%v)", out, err)
	}
	t.Logf("the pod is told:\n%s", strings.TrimSpace(out))
	for _, gateway := range gateways {
		if a, err := n.ask(gateway, "c/9"); a.status != 404 || !strings.HasPrefix(a.reason, "no-route") {
			t.Errorf("c/9 from %s: status %d, dmsc-error %q (%v), want 404 no-route", gateway, a.status, a.reason, err)
		}
	}
}

// The Envoy is a container of its own and keeps its FIB; the neighbours see the
// data path alive and hold the adjacency (graceful restart). Traffic may prefer
// another way while the agent starts.
func trafficOutlivesAKilledAgent(t *testing.T, n *network) {
	traffic := n.send("sg-1", "b/4")
	traffic.eventuallyTakes(short)
	n.run("kill", "sr-2")
	n.run("start", "sr-2")
	eventually(t, time.Minute, func() error {
		if s := n.containers("{{.Status}}", "--filter", "label=com.docker.compose.service=sr-2"); !strings.Contains(s, "(healthy)") {
			return fmt.Errorf("the agent of sr-2 is %s", strings.TrimSpace(s))
		}
		return nil
	})
	traffic.eventuallyTakes(short)
	result := traffic.stop()
	if len(result.lost) > 0 {
		t.Errorf("%s while only an agent was down: %v", result, result.lost)
	}
	t.Logf("agent of sr-2 killed and back: %s", result)
}

func trafficLeavesAKilledRouter(t *testing.T, n *network) {
	traffic := n.send("sg-1", "b/4")
	traffic.eventuallyTakes(short)
	n.run("kill", "sr-2", "sr-2-envoy")
	traffic.eventuallyTakes(detour)
	n.run("start", "sr-2", "sr-2-envoy")
	back := traffic.eventuallyTakes(short)
	result := traffic.stop()
	// One request at a time is under way, so one can be on the dead router.
	if len(result.lost) > 1 {
		t.Errorf("%s: %v", result, result.lost)
	}
	if result.gap > time.Second {
		t.Errorf("no answer for %v", result.gap)
	}
	t.Logf("sr-2 killed: %s; back on it %v after its start", result, back.Round(time.Millisecond))
}

func editedPolicyMovesTraffic(t *testing.T, n *network) {
	traffic := n.send("sg-1", "b/4")
	traffic.eventuallyTakes(short)

	n.writePolicy(demanding)
	away := traffic.eventuallyTakes(wide)

	n.writePolicy(faulty)
	n.eventuallyLogs("scsc", `"policies are refused, the last good ones stay".*policy\.yaml:7:`)
	traffic.eventuallyTakes(wide) // still

	n.writePolicy(modest)
	back := traffic.eventuallyTakes(short)
	result := traffic.stop()
	if len(result.lost) > 0 {
		t.Errorf("%s while a policy moved traffic: %v", result, result.lost)
	}
	t.Logf("moved %v after the edit, back after %v: %s", away.Round(time.Millisecond), back.Round(time.Millisecond), result)
}
