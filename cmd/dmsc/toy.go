package main

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/client"
	"github.com/dmsc-mesh/dmsc/internal/toy"
)

func toyCommand() *cobra.Command {
	var f announceFlags
	var listen, prefix string
	var delay time.Duration
	cmd := &cobra.Command{
		Use:    "toy --listen ADDR --prefix PREFIX",
		Short:  "Run an echo service that stands for a pod, and announce it",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			protocol, err := dmsc.ParseProtocol(f.protocol)
			if err != nil {
				return exit(exitUsage, err)
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return exit(exitUsage, err)
			}
			_, port, err := net.SplitHostPort(l.Addr().String())
			if err != nil {
				return err
			}
			if f.port, err = strconv.Atoi(port); err != nil {
				return err
			}
			g, ctx := errgroup.WithContext(cmd.Context())
			g.Go(func() error {
				return toy.Serve(ctx, toy.Config{Listener: l, Pod: f.pod, Prefix: prefix, Delay: delay, Protocol: protocol})
			})
			if f.gateway != "" {
				cmd.SetContext(ctx)
				g.Go(func() error {
					// A refused toy goes on serving: that is what shows that nobody routes to it.
					if err := announce(cmd, f, []client.Service{{
						Prefix: prefix, Address: f.address, Port: f.port, Protocol: protocol, HealthPath: f.health,
						Metric: f.metric, Weight: f.weight, Preference: f.preference, ReplaySafe: f.replaySafe,
					}}); err != nil {
						fmt.Fprintf(cmd.ErrOrStderr(), "dmsc: toy %s: %v\n", prefix, err)
					}
					return nil
				})
			}
			return g.Wait()
		},
	}
	fl := cmd.Flags()
	f.add(fl)
	fl.StringVar(&listen, "listen", "127.0.0.1:0", "where to serve")
	fl.StringVar(&prefix, "prefix", "", "service prefix")
	fl.DurationVar(&delay, "delay", 0, "time before each answer")
	_ = cmd.MarkFlagRequired("prefix")
	return cmd
}
