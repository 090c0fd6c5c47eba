package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/internal/observer"
	"github.com/dmsc-mesh/dmsc/internal/serve"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/scsc"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
	"github.com/dmsc-mesh/dmsc/spa"
)

// daemonCommand is a command that runs with a configuration file. Keys of the
// file can be set one by one: --set listen.api=:0.
func daemonCommand(use, short, long string, run func(ctx context.Context, file string, flags map[string]any, stderr io.Writer) error) *cobra.Command {
	var file string
	var set []string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := map[string]any{}
			for _, kv := range set {
				k, v, ok := strings.Cut(kv, "=")
				if !ok {
					return exit(exitUsage, fmt.Errorf("--set %q is not key=value", kv))
				}
				flags[k] = v
			}
			return run(cmd.Context(), file, flags, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	cmd.Flags().StringArrayVar(&set, "set", nil, "set one key of the configuration: key=value, above the file and DMSC_ variables")
	return cmd
}

func nodeCommand() *cobra.Command {
	return daemonCommand("node --config FILE", "Run the agent of a service gateway or router",
		"Run the agent of one SG or SR beside its Envoy. `dmsc bootstrap` prints what that Envoy starts with.",
		func(ctx context.Context, file string, flags map[string]any, stderr io.Writer) error {
			cfg, err := config.LoadNode(file, flags)
			if err != nil {
				return exit(exitUsage, err)
			}
			n, err := node.New(cfg, cfg.Log.New(stderr))
			if err != nil {
				return exit(exitUsage, fmt.Errorf("node %s: %w", cfg.Node, err))
			}
			return exit(exitNo, n.Run(ctx))
		})
}

func spaCommand() *cobra.Command {
	return daemonCommand("spa --config FILE", "Run a service prefix authentication unit",
		"Decide which pod may announce which prefix at which gateway. The grants file is read again when it changes;\na bad one is reported and changes nothing.",
		func(ctx context.Context, file string, flags map[string]any, stderr io.Writer) error {
			cfg, err := config.LoadSPA(file, flags)
			if err != nil {
				return exit(exitUsage, err)
			}
			log := cfg.Log.New(stderr)
			s := spa.NewServer(spa.ServerConfig{Log: log})
			if err := s.Load(cfg.Grants); err != nil {
				return exit(exitUsage, fmt.Errorf("spa: %w", err))
			}
			g := grpc.NewServer(spa.ServerOptions()...)
			s.Register(g)
			return serveDaemon(ctx, "spa", log, g, cfg.Listen, cfg.Health, admin.Config{
				Metrics: admin.NewMetrics(),
				Ready: func() []admin.Check {
					st := s.Status()
					detail := fmt.Sprintf("generation %d, %d grants", st.Generation, st.Grants)
					if st.LastError != nil {
						detail += fmt.Sprintf("; the newest file is not in force: %v", st.LastError)
					}
					return []admin.Check{{Name: "grants", OK: true, Detail: detail}}
				},
				JSON: map[string]admin.Page{"/api/v1/status": admin.Whole(func() any {
					st := s.Status()
					out := map[string]any{"generation": st.Generation, "grants": st.Grants, "gateways": st.Gateways}
					if st.LastError != nil {
						out["last_error"] = st.LastError.Error()
					}
					return out
				})},
			}, func(ctx context.Context) error { return s.Watch(ctx, cfg.Grants) })
		})
}

func scscCommand() *cobra.Command {
	return daemonCommand("scsc --config FILE", "Run the scheduling centre",
		"Observe a domain, judge what its nodes measure by QoSPolicy files, and steer around what is too slow.\nThe files are read again when they change; a bad one is reported and changes nothing.",
		runSCSC)
}

func runSCSC(ctx context.Context, file string, flags map[string]any, stderr io.Writer) error {
	cfg, err := config.LoadSCSC(file, flags)
	if err != nil {
		return exit(exitUsage, err)
	}
	if cfg.Policies != "" { // before the start is counted
		if _, err := policy.Load(cfg.Policies); err != nil {
			return exit(exitUsage, fmt.Errorf("scsc: %w", err))
		}
	}
	log := cfg.Log.New(stderr).With("node", string(cfg.Node))
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return exit(exitUsage, fmt.Errorf("scsc: make state folder: %w", err))
	}
	term, err := scsc.NextTerm(filepath.Join(cfg.StateDir, "term"), time.Now())
	if err != nil {
		return exit(exitUsage, fmt.Errorf("scsc: %w", err))
	}
	var events eventLog
	metrics := newCentreMetrics()
	s, err := scsc.NewServer(scsc.ServerConfig{
		Center: scsc.Config{Term: term, TTL: cfg.PolicyTTL, MaxUnconfirmed: cfg.MaxUnconfirmed}, Domain: cfg.Domain, Policies: cfg.Policies, Logger: log, OnEvent: func(e scsc.Event) {
			events.add(e)
			metrics.events.WithLabelValues(e.Kind).Inc()
		},
	})
	if err != nil {
		return exit(exitUsage, fmt.Errorf("scsc: %w", err))
	}
	metrics.count(s.Tables())
	var observing atomic.Bool
	o, err := observer.New(observer.Config{
		Node: cfg.Node, Domain: cfg.Domain, Addresses: cfg.Observe, Log: log,
		OnView: func(v *linkstate.View) {
			observing.Store(true)
			s.UpdateLSDB(v)
		},
	})
	if err != nil {
		return exit(exitUsage, fmt.Errorf("scsc: %w", err))
	}
	g := grpc.NewServer(spa.ServerOptions()...)
	s.Register(g)
	log.Info("scsc starts", "term", term)
	return serveDaemon(ctx, "scsc", log, g, cfg.Listen, cfg.Health, admin.Config{
		Metrics: metrics.registry,
		Ready: func() []admin.Check {
			if !observing.Load() {
				return []admin.Check{{Name: "lsdb", Detail: fmt.Sprintf("none of %v has sent its database yet", cfg.Observe)}}
			}
			return []admin.Check{{Name: "lsdb", OK: true, Detail: "observed"}}
		},
		JSON: map[string]admin.Page{
			"/api/v1/policies": rows(s.Tables().Policies, policyPage),
			"/api/v1/nodes":    rows(s.Tables().Nodes, nodePage),
			"/api/v1/links":    rows(s.Tables().Links, linkPage),
			"/api/v1/events":   admin.Whole(func() any { return pages(events.list(), eventPage) }),
		},
	}, s.Run, o.Run)
}

// serveDaemon serves a gRPC server and the health listener, and runs the rest,
// until ctx ends or one of them fails.
func serveDaemon(ctx context.Context, what string, log *slog.Logger, s *grpc.Server, addr, healthAddr string, a admin.Config, run ...func(context.Context) error) error {
	l, err := serve.Listen(addr)
	if err != nil {
		return exit(exitUsage, fmt.Errorf("%s: listen: %w", what, err))
	}
	h, err := serve.Listen(healthAddr)
	if err != nil {
		l.Close()
		return exit(exitUsage, fmt.Errorf("%s: health: %w", what, err))
	}
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	log.Info("serving", "service", what, "listen", l.Addr().String(), "health", h.Addr().String())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve.GRPC(ctx, what, s, l) })
	g.Go(func() error { return admin.Serve(ctx, h, a) })
	for _, r := range run {
		g.Go(func() error { return r(ctx) })
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return exit(exitNo, err)
	}
	return nil
}
