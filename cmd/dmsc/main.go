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
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run executes the command line and returns the exit code. What was asked for
// goes to stdout; logs and what is wrong go to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var e exitError
	if errors.As(err, &e) {
		fmt.Fprintf(stderr, "dmsc: %v\n", err)
		return e.code
	}
	// Cobra's own errors are about the command line.
	fmt.Fprintf(stderr, "dmsc: %v; see %s --help\n", err, cmd.CommandPath())
	return exitUsage
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "dmsc",
		Short:         "Distributed Micro Service Communication on Envoy",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		demoCommand(), benchCommand(), nodeCommand(), spaCommand(), scscCommand(), announceCommand(),
		statusCommand(), getCommand(), lsdbCommand(), drainCommand(), undrainCommand(), xdsCommand(),
		spfCommand(), explainCommand(), whatifCommand(), simCommand(), genCommand(), translateCommand(), checkCommand(), bootstrapCommand(), healthcheckCommand(), toyCommand(),
	)
	return root
}

// version is the module's version, or the commit a development build is of.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && v == "(devel)" {
			v += " " + s.Value
		}
	}
	return v + " " + info.GoVersion
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
