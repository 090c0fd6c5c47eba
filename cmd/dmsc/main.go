// Command dmsc is the one binary of DMSC: the agent of an SG or SR (node), the
// authority (spa), the scheduling centre (scsc), a whole network on this
// machine (demo), and the verbs that look at all of these.
//
//	dmsc node --config sg-1.yaml
//	dmsc demo
//	dmsc spf --topology net.yaml --root sg-1 -o json
//
// Exit codes: 0 yes, 1 the answer is no, 2 usage or bad file, 3 cannot reach,
// 4 timed out.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// run executes the command line and returns the exit code.
func run(ctx context.Context, args []string) int {
	root := &cobra.Command{
		Use:           "dmsc",
		Short:         "Distributed Micro Service Communication on Envoy",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		demoCommand(), nodeCommand(), spaCommand(), scscCommand(), announceCommand(),
		spfCommand(), translateCommand(), checkCommand(), bootstrapCommand(), healthcheckCommand(), toyCommand(),
	)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "dmsc: %v\n", err)
	var e exitError
	if errors.As(err, &e) {
		return e.code
	}
	return exitUsage // cobra's own errors are about the command line
}

// Exit codes (design §9).
const (
	exitNo          = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitTimeout     = 4
)

// exitError carries the exit code of an error.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return e.err.Error() }
func (e exitError) Unwrap() error { return e.err }

// exit gives err an exit code; nil stays nil.
func exit(code int, err error) error {
	if err == nil {
		return nil
	}
	return exitError{code, err}
}
