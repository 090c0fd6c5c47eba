package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/internal/serve"
	"github.com/dmsc-mesh/dmsc/translator"
)

// SyncOptions says how large the database is.
type SyncOptions struct {
	Options
	Nodes, PrefixesPerNode int
}

// syncLimit bounds one sync, until Envoy has all of it.
const syncLimit = 60 * time.Second

// Sync starts a fresh agent beside a neighbour that holds a large database, and
// measures until it has the database, the routes, and its Envoy the FIB: first
// with a stand-in for the Envoy, then with a real one. The records come over a
// real control stream and are not signed.
func Sync(ctx context.Context, o SyncOptions) (*Result, error) {
	r := newResult()
	return r, o.each(func(dir string) error {
		for _, withEnvoy := range []bool{false, true} {
			name := map[bool]string{false: "agent", true: "agent and Envoy"}[withEnvoy]
			o.say("%s", name)
			s := &syncing{SyncOptions: o, dir: fmt.Sprintf("%s-%t", dir, withEnvoy), withEnvoy: withEnvoy, name: name, result: r}
			if err := s.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
}

// syncing is one sync.
type syncing struct {
	SyncOptions
	dir, name string
	withEnvoy bool
	result    *Result
}

func (s *syncing) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, syncLimit)
	defer cancel()
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	ports, err := lab.HoldPorts(5)
	if err != nil {
		return err
	}
	defer func() {
		for _, p := range ports {
			err = errors.Join(err, p.Close())
		}
	}()
	peeringAt, dataAt, fabricAt, api, health := ports[0].Addr(), ports[1].Addr(), ports[2].Addr(), ports[3].Addr(), ports[4].Addr()
	known := records(grid(s.Nodes, s.PrefixesPerNode))
	d, err := hold(known, dataAt)
	if err != nil {
		return err
	}

	// The neighbour, and what stands for the Envoys.
	services, stop := context.WithCancel(ctx)
	var g errgroup.Group
	defer func() {
		stop()
		err = errors.Join(err, g.Wait())
	}()
	run := func(addr string, f func(context.Context, net.Listener) error) error {
		l, err := serve.Listen(addr)
		if err == nil {
			g.Go(func() error { defer l.Close(); return f(services, l) })
		}
		return err
	}
	answer := func(ctx context.Context, l net.Listener) error { return answering(ctx, l, standIn) }
	errs := []error{
		run(peeringAt, d.serve),
		run(dataAt, func(ctx context.Context, l net.Listener) error {
			return answering(ctx, l, func(*http.Request) dmsc.NodeID { return holder })
		}),
	}
	if !s.withEnvoy {
		errs = append(errs, run(fabricAt, answer), run("unix://"+s.path("probe.sock"), answer))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.measure(ctx, len(known), map[string]any{
		"node": string(fresh), "domain": benchDomain, "role": "SR", "state_dir": s.path("state"),
		"listen": map[string]any{"api": api, "xds": "unix://" + s.path("xds.sock"), "peering": "127.0.0.1:0", "health": health},
		"links":  []map[string]any{{"neighbor": string(holder), "dial": peeringAt, "fabric": fabricAt}},
		"spa":    map[string]any{"addresses": []string{"127.0.0.1:1"}},
		"envoy":  map[string]any{"fabric": fabricAt, "probe": "unix://" + s.path("probe.sock"), "admin": "unix://" + s.path("admin.sock")},
	})
}

func (s *syncing) path(name string) string { return filepath.Join(s.dir, name) }

// measure starts the fresh node and its Envoy, waits until it has everything,
// and reads its timeline.
func (s *syncing) measure(ctx context.Context, count int, cfg map[string]any) (err error) {
	text, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("node.yaml"), text, 0o644); err != nil {
		return err
	}
	group := lab.NewGroup()
	defer func() { err = errors.Join(err, group.Stop(5*time.Second)) }()
	agent, err := group.Start(lab.Command{Name: "agent", Path: s.Binary, Args: []string{"node", "--config", s.path("node.yaml")}, Log: s.path("agent.log")})
	if err != nil {
		return err
	}
	if s.withEnvoy {
		boot, err := translator.Bootstrap(fresh, "unix://"+s.path("admin.sock"), "unix://"+s.path("xds.sock"))
		if err != nil {
			return err
		}
		text, err := translator.YAML(boot)
		if err != nil {
			return err
		}
		if err := os.WriteFile(s.path("envoy.yaml"), text, 0o644); err != nil {
			return err
		}
		if _, err := lab.LaunchEnvoy(group, lab.EnvoyConfig{
			Name: "envoy", Binary: s.Envoy.Path, Bootstrap: s.path("envoy.yaml"), Admin: s.path("admin.sock"), Log: s.path("envoy.log"),
		}); err != nil {
			return err
		}
	}
	health := cfg["listen"].(map[string]any)["health"].(string)
	var line []node.Moment
	err = lab.Until(ctx, "the fresh node does not come to rest", func(ctx context.Context) error {
		time.Sleep(look) // a large network's timeline is not to be read all the time
		if !agent.Running() {
			return errors.New(agent.LogTail(3))
		}
		if err := lab.Get(ctx, health, "/api/v1/timeline", &line); err != nil {
			return err
		}
		if last := line[len(line)-1]; time.Since(time.Unix(0, last.UnixNano)) < 2*time.Second {
			return fmt.Errorf("still at work: %s", last.Step)
		}
		if p := at(line, node.StepPublished); p == 0 || p < at(line, node.StepComputed) || s.withEnvoy && at(line, node.StepAcked) < p {
			return errors.New("what was computed is not published and acked yet")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, agent.LogTail(5))
	}
	var have node.Summary
	if err := lab.Get(ctx, health, "/api/v1/node", &have); err != nil {
		return err
	}
	if have.LSDB.Records < count {
		return fmt.Errorf("%d of %d records came", have.LSDB.Records, count)
	}
	s.report(line, agent)
	return nil
}

// at is when a step was last done.
func at(line []node.Moment, step node.Step) (t int64) {
	for _, m := range line {
		if m.Step == step {
			t = m.UnixNano
		}
	}
	return t
}

func (s *syncing) report(line []node.Moment, agent *lab.Process) {
	up := at(line, node.StepStreamUp)
	database := int64(0) // the last record
	for _, m := range line {
		if m.Step == node.StepChanged && len(m.Changed) > 0 && (m.Changed[0] == "topology" || m.Changed[0] == "prefixes") {
			database = m.UnixNano
		}
	}
	add := func(what Phase, t int64) {
		if t >= up {
			s.result.count(s.name, string(what), "ms", milliseconds(time.Duration(t-up)))
		}
	}
	add(Synced, database)
	add("all routes computed", at(line, node.StepComputed))
	add("all routes published", at(line, node.StepPublished))
	if s.withEnvoy {
		add("all routes in Envoy", at(line, node.StepAcked))
	}
	s.result.count(s.name, "CPU of the agent so far", "ms", milliseconds(cpuTime(agent)))
	rss, peak := memory(agent.PID())
	s.result.count(s.name, string(Resident), "MB", rss)
	s.result.count(s.name, "its highest RSS", "MB", peak)
}

// memory reads the resident set of a process and its peak, in MB.
func memory(pid int) (rss, peak float64) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		field, value, _ := strings.Cut(lines.Text(), ":")
		kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch field {
		case "VmRSS":
			rss = kb / 1000
		case "VmHWM":
			peak = kb / 1000
		}
	}
	return rss, peak
}
