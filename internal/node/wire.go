package node

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/internal/regular"
	"github.com/dmsc-mesh/dmsc/internal/watch"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/peering"
	"github.com/dmsc-mesh/dmsc/scsc"
	"github.com/dmsc-mesh/dmsc/spa"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// wire makes the edges; each one only posts events.
func (n *Node) wire() {
	cfg := n.cfg
	n.peers = peering.New(peering.Config{
		Log: n.log, Node: cfg.Node, Domain: cfg.Domain,
		Deliver: n.heard,
	})
	n.metrics.countIgnored(n.peers.Stats)
	var links []peering.Link
	for _, l := range cfg.Links {
		links = append(links, peering.Link{Key: linkKey(l), Address: l.Dial})
	}
	n.peers.SetLinks(links)

	ads := xds.Config{Log: n.base, KeepInherited: retirement, OnEvent: func(ev xds.Event) { n.deliver(envoySaid{ev, n.trace(ev.Nack)}) }}
	if n.recording != nil {
		ads.Record = xds.RecordTo(n.recording)
	}
	if cfg.Envoy.XDS.PerType {
		// One for each cluster, opened all at once.
		ads.MaxStreamsPerNode, ads.MaxStrangers = 10_000, 1000
	}
	n.envoy = xds.New(ads)
	n.metrics.countXDS(func() xds.Status {
		st, _ := n.envoy.Status(string(n.cfg.Node))
		return st
	})

	n.spa = spa.NewClient(spa.ClientConfig{
		Gateway: cfg.Node, Addresses: cfg.SPA.Addresses, Log: n.log,
		OnVerdicts: func(pod string, verdicts []spa.Verdict) { n.deliver(judged{pod, verdicts}) },
		OnAway:     func(away bool) { n.deliver(spaAway{away}) },
	})
	if len(cfg.SCSC.Addresses) > 0 {
		// One after the other is tried until one answers.
		centres := manual.NewBuilderWithScheme("dmsc")
		var state resolver.State
		for _, a := range cfg.SCSC.Addresses {
			state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
		}
		centres.InitialState(state)
		n.scsc = scsc.NewClient(scsc.ClientConfig{
			Target: centres.Scheme() + ":///scsc", Node: cfg.Node, Domain: cfg.Domain, Logger: n.log,
			Dial:        []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(centres)},
			OnConnected: func(up bool) { n.deliver(scscConnected{up}) },
			OnPlan:      func(p scsc.Plan) { n.deliver(planArrived{p}) },
			OnPolicies:  func(s scsc.PolicySet) { n.deliver(policiesArrived{s}) },
		})
	}
	n.wireProbes()
}

func linkKey(l config.Link) linkstate.LinkKey { return linkstate.LinkKey{Remote: l.Neighbor, ID: l.ID} }

// links are the configured links as the protocol wants them.
func (n *Node) links() []linkstate.LinkConfig {
	var out []linkstate.LinkConfig
	for _, l := range n.cfg.Links {
		out = append(out, linkstate.LinkConfig{
			LinkKey: linkKey(l), Metric: l.Metric, Class: l.Class, Capacity: l.Capacity, Tags: l.Tags, Fabric: l.Fabric,
		})
	}
	return out
}

// Check finds what New would refuse of a configuration, but for what is taken on
// this machine: addresses, folders that cannot be written to. A certificate that
// would keep its listener back is a fault, too.
func Check(cfg *config.Node) error {
	err := check(cfg)
	if o := cfg.Outside; o.Certificate != "" {
		if _, bad := border.LoadPair(o.Certificate, o.Key, time.Now(), regular.ReadFile); bad != nil {
			err = errors.Join(err, fmt.Errorf("outside.tls: %w", bad))
		}
	}
	if cfg.Documents != "" {
		if _, bad := readDocuments(watch.New(cfg.Documents)); bad != nil {
			err = errors.Join(err, fmt.Errorf("documents: %w", bad))
		}
	}
	return err
}

// check finds what a configuration may have and Envoy or the neighbours may not:
// a name for an address, tags for which nobody would take our NodeLSA.
func check(cfg *config.Node) error {
	var faults []error
	address := func(key, addr string) {
		if err := translator.CheckAddress(addr); addr != "" && err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", key, err))
		}
	}
	address("envoy.ingress", cfg.Envoy.Ingress)
	address("envoy.fabric", cfg.Envoy.Fabric)
	address("outside.listen", cfg.Outside.Listen)
	address("envoy.probe", cfg.Envoy.Probe)
	for i, l := range cfg.Links {
		address(fmt.Sprintf("links[%d].fabric", i), l.Fabric)
		if _, err := checkAttributes(l.Tags); err != nil {
			faults = append(faults, fmt.Errorf("links[%d].tags: %w", i, err))
		}
	}
	return errors.Join(faults...)
}

func (n *Node) addrs() translator.Addrs {
	e := n.cfg.Envoy
	return translator.Addrs{Ingress: e.Ingress, Fabric: e.Fabric, Probe: e.Probe, Admin: e.Admin}
}
