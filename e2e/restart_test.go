package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/client"
	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// An agent that is killed and comes back is felt by nobody: its Envoy keeps its
// FIB and is sent nothing, its neighbours keep their links, no node computes
// another path (its neighbours other alternates at most), and no request is
// lost (design §4, state file).
func TestAnAgentKilledAndRestartedIsFeltByNobody(t *testing.T) {
	n := start(t, "")
	// Transit and ingress of a/4, which may not be asked twice.
	for _, victim := range []dmsc.NodeID{"sr-2", "sg-1"} {
		t.Run(string(victim), func(t *testing.T) { n.restartUnnoticed(t, victim) })
	}
	// Egress: the SPA's word is not needed for what it has allowed before.
	t.Run("sg-4 without an SPA", func(t *testing.T) {
		if err := n.SPA.Kill(); err != nil {
			t.Fatal(err)
		}
		n.restartUnnoticed(t, "sg-4")
		if s := n.status(t, "sg-4"); !s.SPAAway {
			t.Error("sg-4 does not know that its SPA is away")
		}
		if err := n.StartDaemon(n.SPA); err != nil {
			t.Fatal(err)
		}
		until(t, 15*time.Second, "the SPA is not found again", func(context.Context) error {
			if n.status(t, "sg-4").SPAAway {
				return fmt.Errorf("away")
			}
			return nil
		})
		n.settle(t)
	})
}

// restartUnnoticed kills and restarts an agent under a load of a/4 at sg-1, and
// fails the test when anybody was told of it or a request was lost.
func (n *network) restartUnnoticed(t *testing.T, victim dmsc.NodeID) {
	t.Helper()
	n.settle(t)
	n.rest(t, victim)
	load := n.load("sg-1", "a/4", "/", rate)
	defer load.Stop()
	calm := steady(t, load, rate/4)
	n.settle(t)
	nd := n.Node(victim)
	recorded := filepath.Join(nd.Dir, "xds.jsonl")
	before, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	incarnation := n.status(t, victim).Incarnation
	updates := n.updates(t, victim)
	stop := n.witness(t, victim)

	at := time.Now()
	if err := nd.Agent.Kill(); err != nil {
		t.Fatal(err)
	}
	<-nd.Agent.Done()
	steady(t, load, rate/4) // a while without an agent
	if err := n.StartDaemon(nd.Agent); err != nil {
		t.Fatal(err)
	}
	took := until(t, 20*time.Second, "the agent is not back", func(ctx context.Context) error {
		s, err := n.Status(ctx, victim)
		if err == nil && (!s.Ready || s.Incarnation <= incarnation) {
			err = fmt.Errorf("ready %t, incarnation %d", s.Ready, s.Incarnation)
		}
		return err
	})
	n.settle(t)
	steady(t, load, rate/2) // and with the new one
	t.Logf("measured: the restarted agent of %s was ready after %v (%v after the kill)", victim, took, since(at))

	for _, noticed := range stop() {
		t.Errorf("the restart of %s was noticed: %s", victim, noticed)
	}
	if after := n.updates(t, victim); !maps.Equal(after, updates) {
		t.Errorf("the Envoy of %s has taken updates: %v, then %v", victim, updates, after)
	}
	after, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	n.sentNothing(t, victim, after[len(before):])
	nothingLost(t, "a/4 while "+string(victim)+"'s agent is killed and restarted", load.Stop().Between(calm, time.Now()))
}

// rest waits until a node's Envoy holds the groups that its FIB uses and no
// others: those that went out of use stay for five seconds.
func (n *network) rest(t *testing.T, id dmsc.NodeID) {
	t.Helper()
	until(t, 15*time.Second, "retired groups stay", func(ctx context.Context) error {
		s, err := n.Status(ctx, id)
		if err != nil {
			return err
		}
		used := map[string]bool{}
		for _, e := range s.FIB {
			if len(e.NextHops) > 0 {
				used["dmsc/group/"+strings.Join(append([]string{strings.Join(e.NextHops, "+")}, e.Backup...), "~")] = true
			}
		}
		page, err := n.Node(id).Envoy.Get(ctx, "/clusters?format=json")
		if err != nil {
			return err
		}
		var clusters struct {
			Statuses []struct{ Name string } `json:"cluster_statuses"`
		}
		if err := json.Unmarshal(page, &clusters); err != nil {
			return err
		}
		held := map[string]bool{}
		for _, c := range clusters.Statuses {
			if strings.HasPrefix(c.Name, "dmsc/group/") {
				held[c.Name] = true
			}
		}
		if !maps.Equal(used, held) {
			return fmt.Errorf("%s uses %v, its Envoy holds %v", id, slices.Sorted(maps.Keys(used)), slices.Sorted(maps.Keys(held)))
		}
		return nil
	})
}

// sentNothing reads the xDS stream of a restarted agent: Envoy comes with what
// it has, and is sent nothing new and told to remove nothing.
func (n *network) sentNothing(t *testing.T, victim dmsc.NodeID, recorded []byte) {
	t.Helper()
	brought := 0
	for s := bufio.NewScanner(bytes.NewReader(recorded)); s.Scan(); {
		var m struct {
			Dir     string            `json:"dir"`
			TypeURL string            `json:"type_url"`
			Sent    map[string]string `json:"sent"`
			Removed []string          `json:"removed"`
			Initial map[string]string `json:"initial"`
			Err     string            `json:"err"`
		}
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		brought += len(m.Initial)
		if m.Err != "" || len(m.Sent) > 0 || len(m.Removed) > 0 {
			t.Errorf("after the restart of %s: %s", victim, s.Text())
		}
	}
	if brought == 0 {
		t.Errorf("the Envoy of %s did not come back with what it has: %s", victim, recorded)
	}
	t.Logf("measured: after its restart %s's Envoy came with %d resources and was sent 0", victim, brought)
}

// updates are Envoy's own counts of what xDS made it change or refuse.
func (n *network) updates(t *testing.T, id dmsc.NodeID) map[string]uint64 {
	t.Helper()
	c, err := n.Node(id).Envoy.Counters(t.Context(), `(update_success|update_rejected|config_reload|listener_(added|modified|removed)|cluster_(added|modified|removed))$`)
	if err != nil {
		t.Fatal(err)
	}
	if c["cluster_manager.cds.update_success"] == 0 || c["listener_manager.lds.update_success"] == 0 {
		t.Fatalf("the Envoy of %s counts no updates: %v", id, c)
	}
	return c
}

// witness watches all nodes but one. The returned function ends it and tells
// what has changed meanwhile: a FIB, an adjacency with that node that was not
// advertised for a moment, its links in somebody's database.
func (n *network) witness(t *testing.T, but dmsc.NodeID) (stop func() []string) {
	t.Helper()
	type picture struct{ fib, links string }
	look := func(ctx context.Context, id dmsc.NodeID) (p picture, faults []string, err error) {
		s, err := n.Status(ctx, id)
		if err != nil {
			return p, nil, err
		}
		for _, a := range s.Adjacencies {
			if a.Neighbor != but {
				continue
			}
			if a.State != "full" && a.State != "held" {
				faults = append(faults, fmt.Sprintf("%s: the adjacency is %s", id, a.State))
			}
			// A neighbour takes no held node as an alternate (design §4).
			for i := range s.FIB {
				s.FIB[i].Backup, s.FIB[i].NoBackup, s.FIB[i].Group = nil, "", ""
			}
		}
		p.fib = fmt.Sprint(s.FIB)
		links, err := n.linksOf(ctx, id, but)
		p.links = strings.Join(links, " ")
		return p, faults, err
	}
	others := slices.DeleteFunc(n.IDs(), func(id dmsc.NodeID) bool { return id == but })
	base := map[dmsc.NodeID]picture{}
	for _, id := range others {
		p, faults, err := look(t.Context(), id)
		if err != nil || len(faults) > 0 {
			t.Fatalf("before the restart: %v %v", faults, err)
		}
		base[id] = p
	}
	ctx, cancel := context.WithCancel(t.Context())
	var watching errgroup.Group
	var found []string
	looks := 0
	watching.Go(func() error {
		for ctx.Err() == nil {
			for _, id := range others {
				p, faults, err := look(ctx, id)
				if ctx.Err() != nil {
					return nil
				}
				if err != nil {
					return err
				}
				looks++
				if p.fib != base[id].fib {
					faults = append(faults, fmt.Sprintf("%s: the FIB was\n%s\nand became\n%s", id, base[id].fib, p.fib))
				}
				if p.links != base[id].links {
					faults = append(faults, fmt.Sprintf("%s: %s's links were %s and became %s", id, but, base[id].links, p.links))
				}
				for _, f := range faults {
					if !slices.Contains(found, f) {
						found = append(found, f)
					}
				}
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		return nil
	})
	return func() []string {
		cancel()
		if err := watching.Wait(); err != nil {
			t.Error(err)
		}
		t.Logf("measured: %d looks at the other nodes while %s's agent was restarted", looks, but)
		return found
	}
}

// lsa is a record as /api/v1/lsdb shows it.
type lsa struct {
	Key       string          `json:"key"`
	Order     string          `json:"order"`
	Tombstone bool            `json:"tombstone"`
	Bytes     int             `json:"bytes"`
	Content   json.RawMessage `json:"content"`
}

// record is a node's copy of a record; the zero lsa if it has none.
func (n *network) record(ctx context.Context, at dmsc.NodeID, key string) (lsa, error) {
	var rows []lsa
	if err := lab.Get(ctx, n.Node(at).Agent.Health, "/api/v1/lsdb", &rows); err != nil {
		return lsa{}, err
	}
	for _, r := range rows {
		if r.Key == key {
			return r, nil
		}
	}
	return lsa{}, nil
}

// linksOf are the links of a node by its record as held at another one, each
// with its metric.
func (n *network) linksOf(ctx context.Context, at, id dmsc.NodeID) ([]string, error) {
	r, err := n.record(ctx, at, string(id)+".node")
	if err != nil {
		return nil, err
	}
	var content struct {
		Links []struct {
			Neighbor dmsc.NodeID `json:"neighbor"`
			Link     dmsc.LinkID `json:"link"`
			Metric   dmsc.Metric `json:"metric"`
		} `json:"links"`
	}
	if err := json.Unmarshal(r.Content, &content); err != nil {
		return nil, fmt.Errorf("%s's record of %s: %w: %s", at, id, err, r.Content)
	}
	if len(content.Links) == 0 {
		return nil, fmt.Errorf("%s's record of %s has no links: %s", at, id, r.Content)
	}
	var links []string
	for _, l := range content.Links {
		links = append(links, fmt.Sprintf("%s/%s=%d", l.Neighbor, l.Link, l.Metric))
	}
	return links, nil
}

// SPA and SCSC are not in the request path: while both are dead the network
// forwards and heals, and a new prefix waits for the SPA (design §1, §7).
func TestNothingIsLostWhileSPAAndSCSCAreDead(t *testing.T) {
	n := start(t, qos)
	load := n.load("sg-1", "b/4", "/", rate)
	defer load.Stop()
	calm := steady(t, load, rate/4)
	for _, d := range []*lab.Daemon{n.SPA, n.SCSC} {
		if err := d.Kill(); err != nil {
			t.Fatal(err)
		}
		<-d.Done()
	}
	steady(t, load, rate/2)

	late := n.announceOnly(t, "sg-3", "test/late", ok, 30*time.Second)
	until(t, 5*time.Second, "the prefix does not wait for the SPA", func(context.Context) error {
		if s := late.status(); s.State != client.Pending || s.Code != "spa_unavailable" {
			return fmt.Errorf("%s %s", s.State, s.Code)
		}
		return nil
	})
	for _, gw := range gateways {
		if a := n.get(t, gw, "test/late"); a.status != 404 {
			t.Errorf("a prefix that no SPA has allowed answers %d at %s", a.status, gw)
		}
	}

	// And it still heals by itself.
	if err := n.KillNode("sr-2"); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	until(t, 5*time.Second, "the traffic does not go another way", func(context.Context) error {
		if _, ok := lab.First(load.Since(at), at, func(x lab.Result) bool { return around(x.Via, "sr-2") }); !ok {
			return fmt.Errorf("%d answers since the kill", len(load.Since(at)))
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.StartNode(ctx, "sr-2"); err != nil {
		t.Fatal(err)
	}

	at = time.Now()
	for _, d := range []*lab.Daemon{n.SPA, n.SCSC} {
		if err := n.StartDaemon(d); err != nil {
			t.Fatal(err)
		}
	}
	until(t, 15*time.Second, "the prefix is not announced", func(context.Context) error {
		if s := late.status(); s.State != client.Announced {
			return fmt.Errorf("%s %s", s.State, s.Code)
		}
		return nil
	})
	for _, gw := range gateways {
		n.reachable(t, gw, "test/late", 200)
	}
	t.Logf("measured: a prefix that waited for the SPA was reachable everywhere %v after its start", since(at))
	until(t, 15*time.Second, "the SCSC does not hear from every node", func(ctx context.Context) error {
		var rows []struct {
			Node      dmsc.NodeID `json:"node"`
			Connected bool        `json:"connected"`
		}
		if err := lab.Get(ctx, n.SCSC.Health, "/api/v1/nodes", &rows); err != nil {
			return err
		}
		connected := 0
		for _, r := range rows {
			if r.Connected {
				connected++
			}
		}
		if connected != len(n.IDs()) {
			return fmt.Errorf("%d of %d nodes are connected", connected, len(n.IDs()))
		}
		return nil
	})
	n.settle(t)
	nothingLost(t, "b/4 while SPA and SCSC are dead and sr-2 falls and returns", load.Stop().Between(calm, time.Now()))
}
