package envoysim_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/envoybin"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/translator/envoysim"
	"github.com/dmsc-mesh/dmsc/xds"
)

var (
	seed     = flag.Uint64("envoysim.seed", 0, "seed of the random nodes and requests, 0 = by the clock")
	nodes    = flag.Int("envoysim.nodes", 6, "random nodes, each with an Envoy of its own")
	requests = flag.Int("envoysim.requests", 300, "random requests to each")
)

// What a real Envoy does with a random request under random resources is one of
// the things that the simulator says it may do: the status, dmsc-error, which
// hosts have seen the request in which order, and with which headers.
func TestRealEnvoysDoWhatTheSimulatorSays(t *testing.T) {
	envoy, err := envoybin.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano()) % 1_000_000
	}
	for i := range uint64(*nodes) {
		t.Run(fmt.Sprintf("seed=%d", first+i), func(t *testing.T) {
			t.Parallel()
			compare(t, envoy.Path, rand.New(rand.NewPCG(first+i, 0)))
		})
	}
}

func compare(t *testing.T, envoy string, rng *rand.Rand) {
	w := newWorld(rng)
	state := w.state(t)
	resources, err := translator.Translate(state)
	if err == nil {
		err = xds.SetOf(resources).Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	read := startEnvoy(t, envoy, state, resources)
	if rng.IntN(2) == 0 { // Envoy's own word for what it runs
		id, dumped, err := envoysim.FromConfigDump(read("/config_dump?include_eds"))
		if err != nil || id != "n-1" {
			t.Fatalf("node %q, error %v", id, err)
		}
		resources = dumped
	}
	node, err := envoysim.New(resources)
	if err != nil {
		t.Fatal(err)
	}
	network, err := envoysim.NewNetwork(map[dmsc.NodeID]*envoysim.Node{"n-1": node})
	if err != nil {
		t.Fatal(err)
	}
	network.Pod = func(address string, r envoysim.Request) envoysim.Reply { return w.hosts[address].answer(r) }

	work := make(chan asked)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for q := range work {
				real, err := w.ask(state, q)
				if err == nil {
					err = w.explains(network, q, real)
				}
				if err != nil {
					t.Errorf("%s\n%v", q, err)
				}
			}
		})
	}
	for i := range *requests {
		work <- w.request(i)
	}
	close(work)
	all.Wait()
	if t.Failed() {
		t.Logf("the node:\n%s", w.text.String())
	}
}

// asked is a request and the listener it goes to.
type asked struct {
	id, listener string
	envoysim.Request
}

func (q asked) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s %s host=%s", q.listener, q.Method, q.Path, q.Authority)
	for _, h := range q.Headers {
		fmt.Fprintf(&text, "\n\t%s: %s", h.Name, h.Value)
	}
	return text.String()
}

// seen is what an asker and the hosts see of a request.
type seen struct {
	status uint32
	errors string // dmsc-error
	hosts  []string
}

func (s seen) String() string {
	return fmt.Sprintf("%d dmsc-error=%q\n\t%s", s.status, s.errors, strings.Join(s.hosts, "\n\t"))
}

// explains searches the outcomes that the simulator allows for what has
// happened. When a dead host is ejected, before the request or between its
// tries, is not known.
func (w *world) explains(network *envoysim.Network, q asked, real seen) error {
	var not []string
	const never = 7
	moments := make([]int, len(w.dead)) // of the ejections, in tries
	for {
		n := *network
		n.Dead = func(_ dmsc.NodeID, address string) bool { return slices.Contains(w.dead, address) }
		n.Ejected = func(_ dmsc.NodeID, address string, tries int) bool {
			moment := moments[slices.Index(w.dead, address)]
			return moment < never && tries >= moment
		}
		ways := 0
		for step, err := range n.Outcomes("n-1", q.listener, q.Request) {
			if err != nil {
				return err
			}
			simulated := seen{status: step.Reply.Status, errors: step.Reply.Error(), hosts: w.visits(step)}.String()
			if simulated == real.String() {
				return nil
			}
			if !slices.Contains(not, simulated) {
				not = append(not, simulated)
			}
			if ways++; ways == 20_000 {
				break
			}
		}
		i := slices.IndexFunc(moments, func(m int) bool { return m < never })
		if i < 0 {
			slices.Sort(not)
			return fmt.Errorf("Envoy: %s\nsimulated: %s", real, strings.Join(not[:min(len(not), 5)], "\nor: "))
		}
		moments[i]++
		clear(moments[:i])
	}
}

// visits are the hosts that a request reaches outside the node, in order.
func (w *world) visits(s *envoysim.Step) []string {
	var out []string
	for _, try := range s.Tries {
		switch {
		case try.Refused:
		case try.Next != nil:
			out = append(out, w.visits(try.Next)...)
		default:
			share := s.Decision.Shares[s.Share]
			out = append(out, w.visit(try.Host.Address, share.Request, share.Terminate))
		}
	}
	return out
}

func (w *world) visit(address string, r envoysim.Request, terminated bool) string {
	name := w.hosts[address].name
	if terminated {
		return name + " gets bytes"
	}
	if r.Method == "CONNECT" {
		r.Path = ""
	}
	var lines []string
	for _, line := range r.Headers {
		if strings.Contains(line.Name, "dmsc") && line.Value != "" {
			lines = append(lines, line.Name+"="+line.Value)
		}
	}
	slices.Sort(lines)
	return name + " gets " + r.Path + " " + strings.Join(lines, " ")
}
