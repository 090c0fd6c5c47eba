package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/client"
)

// announceFlags are the flags that describe what a pod announces.
type announceFlags struct {
	pod, gateway, address, protocol, health string
	port                                    int
	metric, weight, preference              uint32
	replaySafe                              bool
	lease                                   time.Duration
}

// add defines the flags.
func (f *announceFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.pod, "pod", hostname(), "name of the pod, the holder of the grants")
	fl.StringVar(&f.gateway, "gateway", "127.0.0.1:17800", "API address of the service gateway")
	fl.StringVar(&f.address, "address", "", "IP address of the service (default: as the gateway sees this pod)")
	fl.StringVar(&f.protocol, "protocol", "http1", "http1, http2, grpc or tcp")
	fl.StringVar(&f.health, "health-path", "", `path of the HTTP health check, or "/service" of the gRPC one (default /healthz, or / for gRPC; "-" for none)`)
	fl.Uint32Var(&f.metric, "metric", 0, "cost added to the distance")
	fl.Uint32Var(&f.weight, "weight", 1, "share among equally good instances")
	fl.Uint32Var(&f.preference, "preference", 0, "higher wins before distance is looked at")
	fl.BoolVar(&f.replaySafe, "replay-safe", false, "a request may be sent twice")
	fl.DurationVar(&f.lease, "lease", 30*time.Second, "how long the prefixes outlive this process")
}

func announceCommand() *cobra.Command {
	var f announceFlags
	cmd := &cobra.Command{
		Use:   "announce PREFIX[,PREFIX…] --port N --gateway ADDR",
		Short: "Announce service prefixes for a pod that has no client of its own",
		Long: "Announce service prefixes at a gateway and stay in the foreground: one line per change of a status.\n" +
			"Ctrl-C withdraws. Exit code 1 when every prefix is refused for good, 3 when the gateway was never reached.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			protocol, err := dmsc.ParseProtocol(f.protocol)
			if err != nil {
				return exit(exitUsage, err)
			}
			var services []client.Service
			if f.port < 1 || f.port > 65535 {
				return exit(exitUsage, fmt.Errorf("port %d is not between 1 and 65535", f.port))
			}
			for p := range strings.SplitSeq(args[0], ",") {
				if _, err := dmsc.ParsePrefix(p); err != nil {
					return exit(exitUsage, err)
				}
				services = append(services, client.Service{
					Prefix: p, Address: f.address, Port: f.port, Protocol: protocol, HealthPath: f.health,
					Metric: f.metric, Weight: f.weight, Preference: f.preference, ReplaySafe: f.replaySafe,
				})
			}
			return announce(cmd, f, services)
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().IntVar(&f.port, "port", 0, "port the service listens on")
	_ = cmd.MarkFlagRequired("port")
	return cmd
}

// announce runs the client and prints what the gateway says. It ends when all
// prefixes are refused for good.
func announce(cmd *cobra.Command, f announceFlags, services []client.Service) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	out := cmd.OutOrStdout()
	final := map[string]bool{}
	var reached atomic.Bool
	err := client.Announce(ctx, client.Config{
		Gateway: f.gateway, Pod: f.pod, Services: services, Lease: f.lease,
		OnStatus: func(s client.Status) {
			reached.Store(true)
			line := fmt.Sprintf("%s %s at %s", s.Prefix, s.State, s.Gateway)
			if s.Reason != "" {
				line += fmt.Sprintf(": %s (%s)", s.Reason, s.Code)
			}
			fmt.Fprintln(out, line)
			if ctx.Err() != nil {
				return // the good-bye is no answer
			}
			final[s.Prefix] = s.State == client.Denied && s.Final
			if len(final) == len(services) && allTrue(final) {
				cancel()
			}
		},
		OnDisconnect: func(err error) { fmt.Fprintf(cmd.ErrOrStderr(), "dmsc: %v; trying again\n", err) },
	})
	switch {
	case err != nil:
		return exit(exitNo, err)
	case len(final) == len(services) && allTrue(final):
		return exit(exitNo, fmt.Errorf("every prefix was refused; ask whoever keeps the grants of the SPA"))
	case !reached.Load():
		return exit(exitUnreachable, fmt.Errorf("gateway %s was never reached", f.gateway))
	}
	return nil
}

func allTrue(m map[string]bool) bool {
	for _, v := range m {
		if !v {
			return false
		}
	}
	return true
}

func hostname() string {
	h, _ := os.Hostname()
	return strings.ToLower(h)
}
