package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// The nodes that a reading verb asks, by their health listeners.

const (
	nodesEnv       = "DMSC_NODES"
	defaultAddress = "http://127.0.0.1:17805"
	nodeHelp       = `Nodes are asked at their health listeners: --node sg-1=http://10.0.0.1:17805, repeated for several, a bare address, or
@FILE with one of these a line. ` + nodesEnv + ` lists the nodes of a fleet in the same form, separated by spaces or commas; all of
them are asked, or those that --node names. Without both it is ` + defaultAddress + `.`
)

// nodeAt is one node to ask.
type nodeAt struct{ name, address string } // name "" = not known yet

func (t nodeAt) String() string {
	if t.name == "" {
		return t.address
	}
	return t.name + " (" + t.address + ")"
}

// nodeFlags are what every reading verb takes.
type nodeFlags struct {
	nodes   []string
	timeout time.Duration
	output  string
}

func (f *nodeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.nodes, "node", nil, "node to ask: NAME=ADDRESS, ADDRESS, @FILE, or a name in "+nodesEnv+" (repeatable)")
	addTimeout(cmd, &f.timeout, 10*time.Second, "how long a node may take to answer")
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "table, json or yaml")
}

// targets are the nodes to ask, each once.
func (f *nodeFlags) targets() ([]nodeAt, error) {
	fleet, err := parseTargets(strings.FieldsFunc(os.Getenv(nodesEnv), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' }), nil)
	if err != nil {
		return nil, exit(exitUsage, fmt.Errorf("%s: %w", nodesEnv, err))
	}
	asked, err := parseTargets(f.nodes, fleet)
	switch {
	case err != nil:
		return nil, exit(exitUsage, err)
	case len(asked) > 0:
		return asked, nil
	case len(fleet) > 0:
		return fleet, nil
	}
	return []nodeAt{{address: defaultAddress}}, nil
}

// parseTargets reads entries; a bare name is one of the fleet.
func parseTargets(entries []string, fleet []nodeAt) (out []nodeAt, err error) {
	for _, e := range entries {
		var more []nodeAt
		name, address, named := strings.Cut(e, "=")
		path, file := strings.CutPrefix(e, "@")
		switch {
		case file:
			if more, err = readTargets(path, fleet); err != nil {
				return nil, err
			}
		case named && (name == "" || address == ""):
			return nil, fmt.Errorf("node %q is not NAME=ADDRESS", e)
		case named:
			more = []nodeAt{{name, address}}
		case strings.Contains(e, ":"):
			more = []nodeAt{{"", e}}
		default:
			i := slices.IndexFunc(fleet, func(t nodeAt) bool { return t.name == e })
			if i < 0 {
				return nil, fmt.Errorf("the address of node %q is not known: %s lists %s; say where it is: %s=http://HOST:17805", e, nodesEnv, names(fleet), e)
			}
			more = []nodeAt{fleet[i]}
		}
		for _, t := range more {
			if !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	return out, nil
}

// readTargets reads a file with one node a line; "#" begins a comment.
func readTargets(path string, fleet []nodeAt) ([]nodeAt, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read nodes: %w", err)
	}
	defer file.Close()
	var entries []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "@") {
			return nil, fmt.Errorf("read nodes: %s: a file of nodes names no other", path)
		} else if line != "" {
			entries = append(entries, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read nodes: %w", err)
	}
	out, err := parseTargets(entries, fleet)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

func names(fleet []nodeAt) string {
	var out []string
	for _, t := range fleet {
		if t.name != "" {
			out = append(out, t.name)
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

// asked is one node that has said who it is.
type asked struct {
	nodeAt
	admin.Client
	about node.Summary
}

// answer is what one node said, or why it did not.
type answer[T any] struct {
	nodeAt
	value    T
	warnings string // what a person has to know of it
	code     int    // exit code of err
	err      error
}

// answersOf has every node tell about itself, then reads from each what is wanted. The
// answers come in the order of the targets; the error is about those.
func answersOf[T any](ctx context.Context, f *nodeFlags, read func(context.Context, asked) (T, error)) ([]answer[T], error) {
	targets, err := f.targets()
	if err != nil {
		return nil, err
	}
	answers := make([]answer[T], len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, f.timeout)
			defer cancel()
			a := asked{nodeAt: t, Client: admin.Client{Address: t.address}}
			out := answer[T]{nodeAt: t}
			err := a.Read(ctx, "/api/v1/node", nil, &a.about)
			if err == nil && a.about.Node == "" {
				err = fmt.Errorf("%s: %w: /api/v1/node", t.address, admin.ErrNoPage)
			}
			if err == nil {
				out.warnings = a.introduce()
				out.value, err = read(ctx, a)
			}
			if err != nil {
				out.code, out.err = f.explain(t, err)
			}
			answers[i] = out
		})
	}
	wg.Wait()
	return answers, nil
}

// askNodes is answersOf for who wants nothing but the answers: without those that
// failed, of which the error tells. Warnings go to warn.
func askNodes[T any](ctx context.Context, f *nodeFlags, warn io.Writer, read func(context.Context, asked) (T, error)) ([]T, error) {
	answers, err := answersOf(ctx, f, read)
	if err != nil {
		return nil, err
	}
	var out []T
	var failed []error
	code := 0
	for _, a := range answers {
		fmt.Fprint(warn, a.warnings)
		if a.err == nil {
			out = append(out, a.value)
			continue
		}
		code, failed = cmp.Or(code, a.code), append(failed, a.err)
	}
	return out, exit(code, errors.Join(failed...))
}

// introduce settles the node's name and returns what a reader has to know of it.
func (a *asked) introduce() (warnings string) {
	own := string(a.about.Node)
	if a.name != "" && a.name != own {
		warnings = fmt.Sprintf("warning: %s calls itself %s\n", a.nodeAt, own)
	}
	a.name = own
	if !a.about.Ready {
		warnings += fmt.Sprintf("warning: %s is not ready (%s); this is what it believes so far\n", own, strings.Join(a.about.NotReady, "; "))
	}
	if level := a.about.Drain.Level; level != "" && level != linkstate.DrainNone.String() {
		warnings += fmt.Sprintf("%s is drained (%s) until dmsc undrain\n", own, level)
	}
	return warnings
}

// explain gives a failure its exit code and the next step.
func (f *nodeFlags) explain(t nodeAt, err error) (int, error) {
	name := ""
	if t.name != "" {
		name = t.name + ": "
	}
	var refused *admin.RefusedError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout, fmt.Errorf("%s%s has not answered within %v; give it longer with --timeout", name, t.address, f.timeout)
	case errors.Is(err, admin.ErrNoPage):
		return exitUnreachable, fmt.Errorf("%s%w; is it the health listener of a node, and its dmsc as new as this one (%s)?", name, err, version())
	case errors.As(err, &refused) && refused.Status == 400:
		return exitUsage, fmt.Errorf("%s%s", name, refused.Text)
	}
	return exitUnreachable, fmt.Errorf("%s%w", name, err)
}
