package e2e_test

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/client"
	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// While clients ask 1,000 times a second, the very prefixes and links that
// serve them move: a prefix is announced at another gateway and then withdrawn
// at the old one, links are cut and healed, routers are drained, which changes
// the metrics of their links, and taken back. The clients lose nothing; how
// often the ingress had to ask twice is printed.
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
	c := &churn{network: start(t, ""), t: t, r: rand.New(rand.NewPCG(seed, 1)), count: map[string]int{}}
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
	for end := time.Now().Add(length); time.Now().Before(end); {
		switch c.r.IntN(3) {
		case 0:
			c.move()
		case 1:
			c.cut()
		default:
			c.drain()
		}
	}
	c.settle(t)
	after := c.retries()
	t.Logf("measured: %v of churn: %v; the ingress asked again %d times", length, c.count, after-before)
	for name, load := range loads {
		nothingLost(t, name+" while prefixes and links move", load.Stop().Between(calm, time.Now()))
	}
	if c.count["moves"] == 0 || c.count["cuts"] == 0 || c.count["drains"] == 0 {
		t.Errorf("this proves nothing of a part: %v", c.count)
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
	to := gateways[1+c.r.IntN(len(gateways)-1)]
	if to == c.at {
		return
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
