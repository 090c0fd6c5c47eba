package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/client"
	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// While clients ask 1,000 times a second, the very prefixes and links that
// serve them move: a prefix is announced at another gateway and then withdrawn
// at the old one, links are cut and healed, routers are drained and taken back,
// the metric of a link changes in the settings of its agent, which is killed and
// started again, and a link turns so slow that the SCSC steers around it. The
// clients lose nothing; how often the ingress had to ask twice is printed.
//
// DMSC_CHURN is how long it lasts (20s; make churn takes 60s).
func TestNothingIsLostWhilePrefixesAndLinksMove(t *testing.T) {
	length := 20 * time.Second
	if text := os.Getenv("DMSC_CHURN"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("DMSC_CHURN: %v", err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &churn{network: start(t, qos), t: t, r: rand.New(rand.NewPCG(seed, 1)), count: map[string]int{}}
	c.at = "sg-4"
	c.pod = c.announce(t, c.at, moving, ok, replaySafe)
	c.reachable(t, "sg-1", moving, 200)

	loads := map[string]*lab.Runner{moving: c.load("sg-1", moving, "/", 500), "b/4": c.load("sg-1", "b/4", "/", 500)}
	defer func() {
		for _, load := range loads {
			load.Stop()
		}
	}()
	calm := steady(t, loads[moving], 200)
	before := c.retries()
	kinds := []func(){c.move, c.cut, c.drain, c.recost, c.slow}
	for end := time.Now().Add(length); time.Now().Before(end); {
		c.r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		for _, change := range kinds {
			change()
		}
	}
	c.settle(t)
	after := c.retries()
	t.Logf("measured: %v of churn: %v; the ingress asked again %d times", length, c.count, after-before)
	for name, load := range loads {
		nothingLost(t, name+" while prefixes and links move", load.Stop().Between(calm, time.Now()))
	}
	for _, kind := range []string{"moves", "cuts", "drains", "metrics", "slow links", "steered around"} {
		if c.count[kind] == 0 {
			t.Errorf("this proves nothing of a part: %v", c.count)
		}
	}
}

// moving is the prefix that moves.
const moving = "test/moving"

func replaySafe(s *client.Service) { s.ReplaySafe = true }

type churn struct {
	*network
	t     *testing.T
	r     *rand.Rand
	pod   *pod
	at    dmsc.NodeID // where moving is announced
	count map[string]int
}

// move makes before it breaks: the prefix is served at another gateway, and
// known there, before it is withdrawn at the old one.
func (c *churn) move() {
	c.t.Helper()
	to := c.at
	for to == c.at {
		to = gateways[1+c.r.IntN(len(gateways)-1)]
	}
	next := c.announce(c.t, to, moving, ok, replaySafe)
	c.reachable(c.t, to, moving, 200)
	c.pod.withdraw()
	c.pod, c.at = next, to
	c.count["moves"]++
	time.Sleep(time.Duration(c.r.IntN(300)) * time.Millisecond) // the next thing may come in the middle of this
}

// cut cuts a link for a while, mostly one that the requests of sg-1 take.
func (c *churn) cut() {
	c.t.Helper()
	ends := [][2]dmsc.NodeID{
		{"sg-1", "sr-1"}, {"sg-1", "sr-2"}, {"sg-4", "sr-2"}, {"sg-4", "sr-3"}, {"sg-3", "sr-3"}, {"sr-1", "sr-2"}, {"sr-2", "sr-3"}, {"sr-1", "sr-3"},
	}
	end := ends[c.r.IntN(len(ends))]
	link := c.Link(end[0], end[1])
	link.Cut(true)
	c.count["cuts"]++
	time.Sleep(time.Duration(300+c.r.IntN(700)) * time.Millisecond)
	link.Cut(false)
	c.settle(c.t)
}

// drain takes a router out of the way and back.
func (c *churn) drain() {
	c.t.Helper()
	victim := []dmsc.NodeID{"sr-1", "sr-2", "sr-3"}[c.r.IntN(3)]
	c.order(c.t, victim, "drain")
	c.count["drains"]++
	time.Sleep(time.Duration(200+c.r.IntN(500)) * time.Millisecond)
	c.order(c.t, victim, "undrain")
}

// recost gives a link that the requests may take another metric: the agent of one
// end reads it when it is started again, and floods it.
func (c *churn) recost() {
	c.t.Helper()
	ends := [][2]dmsc.NodeID{{"sg-1", "sr-1"}, {"sg-1", "sr-2"}, {"sr-2", "sg-4"}, {"sr-3", "sg-4"}, {"sr-1", "sr-3"}, {"sr-2", "sr-3"}}
	end := ends[c.r.IntN(len(ends))]
	link := c.Link(end[0], end[1])
	was := link.Metric
	if link.A != end[0] {
		was = link.ReverseMetric
	}
	metric := was
	for metric == was {
		metric = dmsc.Metric(5 + 5*c.r.IntN(6))
	}
	if err := c.SetMetric(end[0], end[1], metric); err != nil {
		c.t.Fatal(err)
	}
	agent := c.Node(end[0]).Agent
	if err := agent.Kill(); err != nil {
		c.t.Fatal(err)
	}
	<-agent.Done()
	if err := c.StartDaemon(agent); err != nil {
		c.t.Fatal(err)
	}
	want := fmt.Sprintf("%s/%s=%d", end[1], link.ID, metric)
	until(c.t, 20*time.Second, "the metric is not known at sg-2", func(ctx context.Context) error {
		links, err := c.linksOf(ctx, "sg-2", end[0])
		if err == nil && !slices.Contains(links, want) {
			err = fmt.Errorf("%v, want %s", links, want)
		}
		return err
	})
	c.settle(c.t)
	c.count["metrics"]++
}

// slow slows a link that the requests of sg-1 may take, until the SCSC has
// steered around it, or does not within the time that it has for that: the link
// may be one that they do not take at present.
func (c *churn) slow() {
	c.t.Helper()
	ends := [][2]dmsc.NodeID{{"sg-1", "sr-1"}, {"sg-1", "sr-2"}}
	end := ends[c.r.IntN(len(ends))]
	link := c.Link(end[0], end[1])
	before := c.steered()
	link.SetDelay(60 * time.Millisecond)
	defer link.SetDelay(0)
	c.count["slow links"]++
	for late := time.Now().Add(5 * time.Second); time.Now().Before(late); time.Sleep(50 * time.Millisecond) {
		if slices.ContainsFunc(c.steered(), func(policy string) bool { return !slices.Contains(before, policy) }) {
			c.count["steered around"]++
			return
		}
	}
}

// steered lists the policies that the Envoy of sg-1 follows.
func (c *churn) steered() (policies []string) {
	c.t.Helper()
	var rows []struct {
		Ingress, Rollout string
		PolicyID         string `json:"policy_id"`
	}
	if err := lab.Get(c.t.Context(), c.SCSC.Health, "/api/v1/policies", &rows); err != nil {
		c.t.Fatal(err)
	}
	for _, r := range rows {
		if r.Ingress == "sg-1" && r.Rollout == "confirmed" {
			policies = append(policies, r.PolicyID)
		}
	}
	return policies
}

// retries counts what the ingress has asked again.
func (c *churn) retries() (sum uint64) {
	c.t.Helper()
	counters, err := c.Node("sg-1").Envoy.Counters(c.t.Context(), `^cluster\..*upstream_rq_retry$`)
	if err != nil {
		c.t.Fatal(err)
	}
	for name, n := range counters {
		if strings.HasSuffix(name, ".upstream_rq_retry") {
			sum += n
		}
	}
	return sum
}
