package xds_test

import (
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/dmsc-mesh/dmsc/internal/seeds"
)

// TestEveryClientIsServedByTheRules plays random scripts of publishing and of
// clients, over the wire. A client is an Envoy, or one that does whatever the
// protocol allows, in either dialect. wire judges every message; when nothing
// is on its way any more, the client holds what is published, and an Envoy got
// there without the clock.
//
// Package seeds says which scripts. From 200 on they must have seen everything
// that the rules are about.
func TestEveryClientIsServedByTheRules(t *testing.T) {
	scripts := seeds.For(t, 400)
	var mu sync.Mutex
	sum := map[string]int{}
	scripts.Each(t, func(t *testing.T, seed uint64) {
		p := play{seed: seed, steps: 40}
		if p.run(t); p.fault != "" {
			p = p.shortest(t)
			t.Fatalf("%s\n\nthe shortest script that shows it:\n%s", p.fault, strings.Join(p.log, "\n"))
		}
		mu.Lock()
		defer mu.Unlock()
		for what, n := range p.stats {
			sum[what] += n
		}
	})
	t.Log(sum)
	if scripts.Count() < 200 {
		return
	}
	for _, what := range []string{
		"an Envoy, delta", "an Envoy, sotw", "any client, delta", "any client, sotw",
		"refusals", "removals", "routes that need a cluster", "stale requests",
		"reconnects", "replicas", "nothing sent to a client that returns", "lies", "waits ended by the clock",
	} {
		if sum[what] == 0 {
			t.Errorf("these scripts prove nothing of %q", what)
		}
	}
}

// play is one script. Each step draws from its own source, so that a step left
// out changes little of the others.
type play struct {
	seed  uint64
	steps int
	skip  map[int]bool

	log   []string
	fault string
	stats map[string]int
}

// shortest leaves out steps for as long as the script goes on failing.
func (p play) shortest(t *testing.T) play {
	best := p
	for size := p.steps / 2; size > 0; size /= 2 {
		for from := 0; from < p.steps; from += size {
			try := play{seed: p.seed, steps: p.steps, skip: maps.Clone(best.skip)}
			if try.skip == nil {
				try.skip = map[int]bool{}
			}
			for i := from; i < from+size; i++ {
				try.skip[i] = true
			}
			if len(try.skip) == len(best.skip) {
				continue
			}
			if try.run(t); try.fault != "" {
				best = try
			}
		}
	}
	return best
}

func (p *play) run(t *testing.T) {
	p.stats = map[string]int{}
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, p)
		for step := range p.steps {
			if s.c.fault != "" {
				break
			}
			if !p.skip[step] {
				s.act(rand.New(rand.NewPCG(p.seed, uint64(step+1))))
			}
		}
		if s.c.fault == "" {
			s.curtain()
		}
		p.fault = s.c.fault
		s.c.End()
		synctest.Wait()
	})
}
