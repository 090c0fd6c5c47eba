package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
	"github.com/dmsc-mesh/dmsc/scsc"
	"github.com/dmsc-mesh/dmsc/spa"
)

func contextWithCancel(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	return context.WithCancel(cmd.Context())
}

// daemonCommand is a command that runs with a configuration file. Keys of the
// file can be set one by one: --set listen.api=:0.
func daemonCommand(use, short, long string, run func(ctx context.Context, file string, flags map[string]any) error) *cobra.Command {
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
			return run(cmd.Context(), file, flags)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	cmd.Flags().StringArrayVar(&set, "set", nil, "set one key of the configuration: key=value, above the file and DMSC_ variables")
	return cmd
}

func nodeCommand() *cobra.Command {
	return daemonCommand("node --config FILE", "Run the agent of a service gateway or router",
		"Run the agent of one SG or SR beside its Envoy. `dmsc bootstrap` prints what that Envoy starts with.",
		func(ctx context.Context, file string, flags map[string]any) error {
			cfg, err := config.LoadNode(file, flags)
			if err != nil {
				return exit(exitUsage, err)
			}
			n, err := node.New(cfg, cfg.Log.New(os.Stderr))
			if err != nil {
				return exit(exitUsage, fmt.Errorf("node %s: %w", cfg.Node, err))
			}
			return exit(exitNo, n.Run(ctx))
		})
}

func spaCommand() *cobra.Command {
	return daemonCommand("spa --config FILE", "Run a service prefix authentication unit",
		"Decide which pod may announce which prefix at which gateway. The grants file is read again when it changes;\na bad one is reported and changes nothing.",
		func(ctx context.Context, file string, flags map[string]any) error {
			cfg, err := config.LoadSPA(file, flags)
			if err != nil {
				return exit(exitUsage, err)
			}
			log := cfg.Log.New(os.Stderr)
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
				JSON: map[string]func() any{"/api/v1/status": func() any {
					st := s.Status()
					out := map[string]any{"generation": st.Generation, "grants": st.Grants, "gateways": st.Gateways}
					if st.LastError != nil {
						out["last_error"] = st.LastError.Error()
					}
					return out
				}},
			}, func(ctx context.Context) error { return s.Watch(ctx, cfg.Grants) })
		})
}

func scscCommand() *cobra.Command {
	return daemonCommand("scsc --config FILE", "Run the scheduling centre",
		"Observe a domain, judge what its nodes measure by QoSPolicy files, and steer around what is too slow.\nThe files are read again when they change; a bad one is reported and changes nothing.",
		runSCSC)
}

func runSCSC(ctx context.Context, file string, flags map[string]any) error {
	cfg, err := config.LoadSCSC(file, flags)
	if err != nil {
		return exit(exitUsage, err)
	}
	log := cfg.Log.New(os.Stderr).With("node", string(cfg.Node))
	term, err := nextTerm(cfg.StateDir)
	if err != nil {
		return exit(exitUsage, fmt.Errorf("scsc: %w", err))
	}
	var events eventLog
	s, err := scsc.NewServer(scsc.ServerConfig{
		Center: scsc.Config{Term: term}, Domain: cfg.Domain, Policies: cfg.Policies, Logger: log, OnEvent: events.add,
	})
	if err != nil {
		return exit(exitUsage, fmt.Errorf("scsc: %w", err))
	}
	o, err := observer.New(observer.Config{
		Node: cfg.Node, Domain: cfg.Domain, Addresses: cfg.Observe, OnView: s.UpdateLSDB, Log: log,
	})
	if err != nil {
		return exit(exitUsage, fmt.Errorf("scsc: %w", err))
	}
	g := grpc.NewServer(spa.ServerOptions()...)
	s.Register(g)
	log.Info("scsc starts", "term", term)
	return serveDaemon(ctx, "scsc", log, g, cfg.Listen, cfg.Health, admin.Config{
		Metrics: admin.NewMetrics(),
		JSON: map[string]func() any{
			"/api/v1/policies": rows(s.Tables().Policies),
			"/api/v1/nodes":    rows(s.Tables().Nodes),
			"/api/v1/links":    rows(s.Tables().Links),
			"/api/v1/events":   func() any { return events.list() },
		},
	}, s.Run, o.Run)
}

// rows serves a table.
func rows[T any](list func() ([]T, error)) func() any {
	return func() any {
		out, err := list()
		if err != nil {
			return map[string]string{"error": err.Error()}
		}
		if out == nil {
			out = []T{}
		}
		return out
	}
}

// nextTerm counts the starts of an SCSC in its state folder. Without the file
// it starts at the clock's seconds, above any term it may have had.
func nextTerm(dir string) (uint64, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("make state folder: %w", err)
	}
	path := filepath.Join(dir, "term")
	term := uint64(time.Now().Unix())
	if b, err := os.ReadFile(path); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil {
			term = n
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("read term: %w", err)
	}
	term++
	next := path + ".next"
	if err := os.WriteFile(next, []byte(strconv.FormatUint(term, 10)+"\n"), 0o600); err != nil {
		return 0, fmt.Errorf("write term: %w", err)
	}
	return term, os.Rename(next, path)
}

// serveDaemon serves a gRPC server and the health listener, and runs the rest,
// until ctx ends or one of them fails.
func serveDaemon(ctx context.Context, what string, log *slog.Logger, s *grpc.Server, addr, healthAddr string, a admin.Config, run ...func(context.Context) error) error {
	l, err := admin.Listen(addr)
	if err != nil {
		return exit(exitUsage, fmt.Errorf("%s: listen: %w", what, err))
	}
	h, err := admin.Listen(healthAddr)
	if err != nil {
		l.Close()
		return exit(exitUsage, fmt.Errorf("%s: health: %w", what, err))
	}
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	log.Info("serving", "service", what, "listen", l.Addr().String(), "health", h.Addr().String())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := s.Serve(l); err != nil && ctx.Err() == nil {
			return fmt.Errorf("serve %s: %w", what, err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		s.Stop()
		return nil
	})
	g.Go(func() error { return admin.Serve(ctx, h, a) })
	for _, r := range run {
		g.Go(func() error { return r(ctx) })
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return exit(exitNo, err)
	}
	return nil
}
