package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// XDSOptions says how large the fleet and its resources are.
type XDSOptions struct {
	Options
	Streams  int // clients, each with a stream of its own
	Clusters int // plain clusters that all of them have
	Prefixes int // of the node whose FIB is served; a multiple of 100
}

const (
	// changes is how often each change is made and measured.
	changes = 4
	// perNode is how many nodes have a set of their own, where they have.
	perNode = 200
	// stageLimit bounds what one server may take for a set or a change.
	stageLimit = 3 * time.Minute
	// refusing is how long refusals are counted.
	refusing = time.Second
)

// XDS measures our server and go-control-plane's caches side by side, with the
// same clients, one after the other: what one changed cluster costs without a
// network and over gRPC, how long a change of the FIB takes to all clients, what
// a stream costs, what a restart sends again, and what a refusal leads to.
func XDS(ctx context.Context, o XDSOptions) (*Comparison, error) {
	c := &Comparison{}
	x := &xdsBench{XDSOptions: o, result: c}
	x.targets()
	return c, o.each(func(dir string) error { return x.run(ctx, dir) })
}

type xdsBench struct {
	XDSOptions
	result *Comparison
}

// The headings of the table.
func (x *xdsBench) shared() string {
	return fmt.Sprintf("1 of %d clusters to %d streams", x.Clusters, x.Streams)
}
func (x *xdsBench) distinct() string {
	return fmt.Sprintf("1 of %d clusters to %d nodes", x.Clusters, min(perNode, x.Streams))
}
func (x *xdsBench) overGRPC() string { return x.shared() + ", gRPC" }
func (x *xdsBench) fib() string {
	return fmt.Sprintf("FIB of %d prefixes, %d streams", x.Prefixes, x.Streams)
}

const (
	eventNextHop = "next hop changed (EDS)"
	eventPrefix  = "one prefix moved (RDS)"
	eventRestart = "restart of the server"
	eventNACK    = "cluster refused (SOTW)"
)

func (x *xdsBench) targets() {
	x.result.events = []string{x.shared(), x.distinct(), x.overGRPC(), x.fib(), eventNextHop, eventPrefix, eventRestart, eventNACK}
	t := x.result.target
	t(x.shared(), "until all have ACKed", "ms", ours, 10)
	t(x.shared(), "allocated", "MB", ours, 2)
	t(x.fib(), "RSS per stream", "kB", ours, 200)
	t(eventNextHop, "ACKed, p99", "ms", ours, 200)
	t(eventPrefix, "until all have ACKed", "ms", ours, 3000)
	t(eventRestart, "resources sent again", "", ours, 0)
	t(eventNACK, "NACKs per second", "1/s", ours, 1)
}

func (x *xdsBench) run(ctx context.Context, dir string) error {
	servers := []string{ours, stockLinear, stockSnapshot}
	for _, kind := range servers {
		x.say("%s: one of %d clusters changes, in process", kind, x.Clusters)
		if err := inProcess(ctx, x.result, x.shared(), kind, x.XDSOptions, 1); err != nil {
			return fmt.Errorf("%s in process: %w", kind, err)
		}
	}
	for _, kind := range []string{ours, stockSnapshot} { // a LinearCache knows no nodes
		if err := inProcess(ctx, x.result, x.distinct(), kind, x.XDSOptions, min(perNode, x.Streams)); err != nil {
			return fmt.Errorf("%s in process, a set for each node: %w", kind, err)
		}
	}
	for i, kind := range servers {
		for _, part := range []struct {
			what string
			run  func(context.Context, string, string) error
		}{{"one cluster changes, over gRPC", x.clusters}, {"a large FIB changes, the server restarts", x.routes}, {"a cluster is refused", x.refused}} {
			x.say("%s: %s", kind, part.what)
			// The path of a Unix socket is short.
			at := filepath.Join(dir, fmt.Sprintf("%d%.2s", i, part.what))
			if err := part.run(ctx, kind, at); err != nil {
				return fmt.Errorf("%s: %s: %w", kind, part.what, err)
			}
		}
	}
	return nil
}

// clusters is the change of one cluster with the server in a process of its own.
func (x *xdsBench) clusters(ctx context.Context, kind, dir string) error {
	s := Stage{Server: kind, Dir: dir, Streams: x.Streams, Clusters: x.Clusters}
	return x.on(ctx, s, false, func(ctx context.Context, st *startedStage, f *fleet) error {
		for range changes {
			got, err := st.change(ctx, changeCluster)
			if err != nil {
				return err
			}
			x.record(x.overGRPC(), kind, got)
		}
		return nil
	}, func(u, before stageUsage) {
		x.result.add(x.overGRPC(), "RSS per stream", "kB", kind, (u.RSS-before.RSS)/1000/float64(x.Streams))
	})
}

func (x *xdsBench) record(event, kind string, got changed) {
	x.result.add(event, "ACKed, p50", "ms", kind, quantile(got.Millis, 0.5))
	x.result.add(event, "ACKed, p99", "ms", kind, quantile(got.Millis, 0.99))
	x.result.add(event, "until all have ACKed", "ms", kind, got.Millis[len(got.Millis)-1])
	x.result.add(event, "CPU", "ms", kind, got.CPU)
	x.result.add(event, "allocated", "MB", kind, got.Allocated/1e6)
}

// routes is what a change of the FIB takes to all clients, and a restart.
func (x *xdsBench) routes(ctx context.Context, kind, dir string) error {
	s := Stage{Server: kind, Dir: dir, Streams: x.Streams, Prefixes: x.Prefixes}
	return x.on(ctx, s, true, func(ctx context.Context, st *startedStage, f *fleet) error {
		for _, c := range []struct{ event, what string }{{eventNextHop, changeNextHop}, {eventPrefix, changePrefix}} {
			for range changes {
				before := f.bytes.Load()
				got, err := st.change(ctx, c.what)
				if err != nil {
					return fmt.Errorf("%s: %w", c.event, err)
				}
				x.record(c.event, kind, got)
				x.result.add(c.event, "sent per stream", "kB", kind, float64(f.bytes.Load()-before)/1000/float64(x.Streams))
			}
		}
		return x.restart(ctx, kind, st, f)
	}, func(u, before stageUsage) {
		x.result.add(x.fib(), "heap per stream", "kB", kind, (u.Heap-before.Heap)/1000/float64(x.Streams))
		x.result.add(x.fib(), "RSS per stream", "kB", kind, (u.RSS-before.RSS)/1000/float64(x.Streams))
	})
}

// restart kills the server and waits until the new one has heard every client
// and nothing moves.
func (x *xdsBench) restart(ctx context.Context, kind string, st *startedStage, f *fleet) error {
	before, back := f.resources.Load(), f.back.Load()
	if err := st.Kill(); err != nil {
		return err
	}
	<-st.Done()
	begun := time.Now()
	if err := st.start(); err != nil {
		return err
	}
	var at stageActivity
	err := lab.Until(ctx, "the clients do not come back", func(ctx context.Context) error {
		if n := f.back.Load() - back; n < int64(x.Streams) {
			return fmt.Errorf("%d of %d are back", n, x.Streams)
		}
		if err := st.orders.Read(ctx, "/activity", nil, &at); err != nil {
			return err
		}
		if at.Requests < int64(x.Streams*len(f.ask)) || time.Since(time.Unix(0, at.LastNano)) < settling {
			return fmt.Errorf("%d requests have come", at.Requests)
		}
		return nil
	})
	if err != nil {
		return err
	}
	x.result.add(eventRestart, "resources sent again", "", kind, float64(f.resources.Load()-before))
	x.result.add(eventRestart, "until all have come back", "ms", kind, milliseconds(time.Unix(0, at.LastNano).Sub(begun)))
	return nil
}

// refused counts what a client does that refuses a cluster, as Envoys do in the
// dialect state of the world.
func (x *xdsBench) refused(ctx context.Context, kind, dir string) (err error) {
	st, end, err := x.stage(Stage{Server: kind, Dir: dir, Streams: 1, Clusters: 10})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	ctx, cancel := context.WithTimeout(ctx, stageLimit)
	defer cancel()
	var refusals atomic.Int64
	gone := make(chan error, 1)
	streamed, stop := context.WithCancel(ctx)
	go func() { gone <- refuse(streamed, dir, &refusals) }()
	defer func() {
		stop()
		err = errors.Join(err, <-gone)
	}()
	var at stageActivity
	err = lab.Until(ctx, "the client is not served", func(ctx context.Context) error {
		if err := st.orders.Read(ctx, "/activity", nil, &at); err != nil {
			return err
		}
		if at.Requests < 2 {
			return errors.New("it has not ACKed yet")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := st.orders.Do(ctx, http.MethodPost, "/change/"+changeBad, nil, &changed{}); err != nil {
		return err
	}
	begun, before := time.Now(), refusals.Load()
	select {
	case <-time.After(refusing):
	case <-ctx.Done():
		return ctx.Err()
	}
	// The first refusal is due; what counts is that it does not go on.
	x.result.add(eventNACK, "NACKs per second", "1/s", kind, float64(refusals.Load()-before)/time.Since(begun).Seconds())
	x.result.add(eventNACK, "NACKs in all", "", kind, float64(refusals.Load()))
	return nil
}

// on runs a fleet against a stage: measure sees it when every client has
// everything, report what the stage uses then and used before they came.
func (x *xdsBench) on(ctx context.Context, s Stage, remember bool, measure func(context.Context, *startedStage, *fleet) error, report func(now, before stageUsage)) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*stageLimit)
	defer cancel()
	made, err := s.variants()
	if err != nil {
		return err
	}
	set, err := made(nil)
	if err != nil {
		return err
	}
	st, end, err := x.stage(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	var before, now stageUsage
	err = lab.Until(ctx, "the server does not start", func(ctx context.Context) error {
		if !st.Running() {
			cancel()
			return errors.New(st.LogTail(3))
		}
		return st.orders.Read(ctx, "/usage", nil, &before)
	})
	if err != nil {
		return err
	}
	f, err := startFleet(ctx, s.Dir, x.Streams, subscriptions(set), remember)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	err = lab.Until(ctx, "the clients are not served", func(ctx context.Context) error {
		if n := f.synced.Load(); n < int64(x.Streams) {
			return fmt.Errorf("%d of %d have everything", n, x.Streams)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := st.orders.Read(ctx, "/usage", nil, &now); err != nil {
		return err
	}
	report(now, before)
	return measure(ctx, st, f)
}

// startedStage is a Stage that runs.
type startedStage struct {
	*lab.Process
	group  *lab.Group
	stage  Stage
	binary string
	orders admin.Client
}

// stage starts a server; end ends it.
func (x *xdsBench) stage(s Stage) (st *startedStage, end func() error, err error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, nil, err
	}
	st = &startedStage{
		group: lab.NewGroup(), stage: s, binary: x.Binary, orders: admin.Client{Address: "unix://" + filepath.Join(s.Dir, "orders.sock")},
	}
	end = func() error { return st.group.Stop(5 * time.Second) }
	if err := st.start(); err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return st, end, nil
}

func (st *startedStage) start() (err error) {
	text, err := json.Marshal(st.stage)
	if err != nil {
		return err
	}
	st.Process, err = st.group.Start(lab.Command{
		Name: st.stage.Server, Path: st.binary, Args: []string{"bench", "stage", string(text)}, Log: filepath.Join(st.stage.Dir, "server.log"),
	})
	return err
}

func (st *startedStage) change(ctx context.Context, what string) (c changed, err error) {
	ctx, cancel := context.WithTimeout(ctx, stageLimit)
	defer cancel()
	return c, st.orders.Do(ctx, http.MethodPost, "/change/"+what, nil, &c)
}
