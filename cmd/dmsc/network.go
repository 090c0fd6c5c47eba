package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
)

// networkFlags are for verbs that look at a whole network, of a topology file or
// of nodes that run.
type networkFlags struct {
	topology string
	nodeFlags
}

func (f *networkFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&f.topology, "topology", "f", "", "topology file, - for stdin (default: Figure 2)")
	fl.StringArrayVar(&f.nodes, "server", nil, "running node to ask: NAME=ADDRESS, ADDRESS, @FILE, or a name in "+nodesEnv+" (repeatable)")
	addTimeout(cmd, &f.timeout, 10*time.Second, "how long a running node may take to answer")
	fl.StringVarP(&f.output, "output", "o", "table", "table, json or yaml")
	cmd.MarkFlagsMutuallyExclusive("topology", "server")
}

// live reports whether the network is one that runs: who has a fleet does not
// mean Figure 2.
func (f *networkFlags) live() bool {
	return len(f.nodes) > 0 || f.topology == "" && os.Getenv(nodesEnv) != ""
}
