package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc/internal/bench"
	"github.com/dmsc-mesh/dmsc/internal/envoybin"
)

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench convergence|sync|xds|fib|failover",
		Short: "Measure real processes on this machine, and compare",
		Args:  oneOf,
		RunE: func(*cobra.Command, []string) error {
			return exit(exitUsage, errors.New("say what to measure: convergence, sync, xds, fib or failover"))
		},
	}
	cmd.AddCommand(benchConvergenceCommand(), benchSyncCommand(), benchXDSCommand(), benchFIBCommand(), benchFailoverCommand(), benchStageCommand())
	return cmd
}

func benchConvergenceCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "convergence",
		Short: "Break a network of eight real nodes again and again, and count until the last Envoy has the new FIB",
		Long: "Start eight agents with their Envoys on the loopback, kill a node, cut and silence links, heal them again,\n" +
			"and count from the fault to each step of the walk of a datum. Exit code 1 when a fault was never answered;\n" +
			"a target that is missed is marked and no failure.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, func() (table, error) { return bench.Convergence(cmd.Context(), f.Options) })
		},
	}
	f.add(cmd, 10, "how many networks are started, in each of which every fault is made once")
	return cmd
}

func benchSyncCommand() *cobra.Command {
	var f benchFlags
	var o bench.SyncOptions
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Give a fresh node a large database, and count until it and its Envoy have all of it",
		Long: "Start an agent beside a neighbour that holds the database of a grid of nodes, and count from the control\n" +
			"stream to the last record, the last route and Envoy's ACK, with the memory and CPU time of the agent: first\n" +
			"with a stand-in for its Envoy, then with a real one.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Nodes < 1 || o.Nodes > 99_999 || o.PrefixesPerNode < 0 {
				return exit(exitUsage, errors.New("--nodes is from 1 to 99999, and --prefixes-per-node not negative"))
			}
			return f.run(cmd, func() (table, error) { o.Options = f.Options; return bench.Sync(cmd.Context(), o) })
		},
	}
	f.add(cmd, 1, "how often")
	cmd.Flags().IntVar(&o.Nodes, "nodes", 10_000, "nodes in the database")
	cmd.Flags().IntVar(&o.PrefixesPerNode, "prefixes-per-node", 10, "prefixes of each")
	return cmd
}

func benchXDSCommand() *cobra.Command {
	f := benchFlags{withoutEnvoy: true}
	var o bench.XDSOptions
	cmd := &cobra.Command{
		Use:   "xds",
		Short: "Compare the xDS server with go-control-plane's caches: one change to a thousand Envoys",
		Long: "Run the same scripted clients against our server and against SnapshotCache and LinearCache of go-control-plane,\n" +
			"each in turn: one cluster of many changes, a next hop, a prefix of a large FIB, the server restarts, and a client\n" +
			"refuses a cluster. A target that is missed is marked and no failure.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Streams < 1 || o.Streams > 5000 || o.Clusters < 1 || o.Clusters > 100_000 {
				return exit(exitUsage, errors.New("--streams is from 1 to 5000, and --clusters from 1 to 100000"))
			}
			if err := prefixCount("--prefixes", o.Prefixes); err != nil {
				return err
			}
			return f.run(cmd, func() (table, error) { o.Options = f.Options; return bench.XDS(cmd.Context(), o) })
		},
	}
	f.add(cmd, 1, "how often")
	cmd.Flags().IntVar(&o.Streams, "streams", 1000, "clients, each with a stream of its own")
	cmd.Flags().IntVar(&o.Clusters, "clusters", 1000, "clusters that all of them have")
	cmd.Flags().IntVar(&o.Prefixes, "prefixes", 10_000, "prefixes of the node whose FIB is served")
	return cmd
}

func benchFIBCommand() *cobra.Command {
	var f benchFlags
	var o bench.FIBOptions
	cmd := &cobra.Command{
		Use:   "fib",
		Short: "Forward by small and large tables of a real Envoy, and count from a change to the first request that goes the new way",
		Long: "Start an Envoy for each size of table, and compare its CPU time per request, round by round in turn. Then change a\n" +
			"next hop, and move one prefix of many, again and again under load, and count until a request goes the new way: with\n" +
			"our xDS server, and with go-control-plane's SnapshotCache in its place. A target that is missed is marked and no failure.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(o.Sizes) == 0 {
				return exit(exitUsage, errors.New("--sizes names at least one size"))
			}
			for _, n := range o.Sizes {
				if err := prefixCount("--sizes", n); err != nil {
					return err
				}
			}
			if err := prefixCount("--prefixes", o.Prefixes); err != nil {
				return err
			}
			if o.RPS < 1 || o.RPS > 20_000 || o.Changes < 1 || o.Rounds < 1 {
				return exit(exitUsage, errors.New("--rps is from 1 to 20000, --changes and --rounds at least 1"))
			}
			return f.run(cmd, func() (table, error) { o.Options = f.Options; return bench.FIB(cmd.Context(), o) })
		},
	}
	f.add(cmd, 1, "how often")
	cmd.Flags().IntSliceVar(&o.Sizes, "sizes", []int{100, 10_000, 100_000}, "prefixes of the tables that are compared with the first")
	cmd.Flags().IntVar(&o.Prefixes, "prefixes", 10_000, "prefixes of the table that is changed")
	cmd.Flags().IntVar(&o.RPS, "rps", 1000, "requests per second meanwhile")
	cmd.Flags().IntVar(&o.Changes, "changes", 20, "how often next hop and prefix change")
	cmd.Flags().IntVar(&o.Rounds, "rounds", 60, "how often each table is forwarded by")
	return cmd
}

func benchFailoverCommand() *cobra.Command {
	var f benchFlags
	var o bench.FailoverOptions
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Kill and freeze Envoys, agents and the whole control plane under load, and count what a client loses",
		Long: "Start the network of the draft's Figure 2 for each fault and each class of service, ask for a service through it at a\n" +
			"fixed rate, kill or freeze what the fault says, bring it back, and count the requests that were lost, the longest\n" +
			"time without an answer, and what the ingress sent again. A target that is missed is marked and no failure.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.RPS < 1 || o.RPS > 20_000 || o.Watch < 100*time.Millisecond || o.Watch > time.Minute {
				return exit(exitUsage, errors.New("--rps is from 1 to 20000, and --watch from 100ms to 1m"))
			}
			return f.run(cmd, func() (table, error) { o.Options = f.Options; return bench.Failover(cmd.Context(), o) })
		},
	}
	f.add(cmd, 1, "how often")
	cmd.Flags().IntVar(&o.RPS, "rps", 400, "requests per second")
	cmd.Flags().DurationVar(&o.Watch, "watch", 3*time.Second, "how long the load is watched after a fault, and after its end")
	return cmd
}

// prefixCount checks how many prefixes a generated network shall have.
func prefixCount(flag string, n int) error {
	if n < 100 || n > 100_000 || n%100 != 0 {
		return exit(exitUsage, fmt.Errorf("%s: %d is not a multiple of 100 up to 100000", flag, n))
	}
	return nil
}

// benchStageCommand is the server that bench xds starts for itself.
func benchStageCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stage JSON", Short: "Be the server that bench xds measures", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return bench.ServeStage(cmd.Context(), args[0]) },
	}
}

// table is what a benchmark has measured.
type table interface {
	Print(io.Writer) error
	PrintJSON(io.Writer) error
}

// benchFlags are what all benchmarks take.
type benchFlags struct {
	bench.Options
	output       string
	withoutEnvoy bool // the benchmark needs none
}

func (f *benchFlags) add(cmd *cobra.Command, runs int, what string) {
	cmd.Flags().IntVar(&f.Runs, "runs", runs, what)
	cmd.Flags().StringVar(&f.Keep, "keep", "", "folder to keep configurations, states and logs in")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
}

// run prints what was measured, also when the benchmark has failed half-way.
func (f *benchFlags) run(cmd *cobra.Command, measure func() (table, error)) error {
	if f.output != "text" && f.output != "json" {
		return exit(exitUsage, fmt.Errorf("output %q is not one of text, json", f.output))
	}
	if f.Runs < 1 {
		return exit(exitUsage, errors.New("--runs is at least 1"))
	}
	var err error
	if !f.withoutEnvoy {
		if f.Envoy, err = envoybin.Find(cmd.Context()); err != nil {
			return exit(exitUsage, err)
		}
	}
	if f.Binary, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	f.Progress = cmd.ErrOrStderr()
	r, failed := measure()
	if f.output == "json" {
		err = r.PrintJSON(cmd.OutOrStdout())
	} else {
		err = r.Print(cmd.OutOrStdout())
	}
	return exit(exitNo, errors.Join(failed, err))
}
