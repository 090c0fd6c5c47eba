package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc/internal/manifest"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
	"github.com/dmsc-mesh/dmsc/spa"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE…",
		Short: "Check topology, grants and policy files as the programs would read them",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var faults []error
			for _, file := range args {
				what, err := checkFile(file)
				if err != nil {
					faults = append(faults, err)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", file, what)
			}
			return exit(exitUsage, errors.Join(faults...))
		},
	}
}

// checkFile reads one file by its kind and says what is in it.
func checkFile(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	docs, err := manifest.Parse(file, data)
	if err != nil {
		return "", err
	}
	var kinds []string
	for _, d := range docs {
		kinds = append(kinds, d.Kind)
	}
	kinds = slices.Compact(kinds)
	switch {
	case slices.Equal(kinds, []string{"Topology"}):
		t, err := topology.Parse(file, data)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("topology %s of %d nodes, %d links and %d pods", t.Name, len(t.Nodes), len(t.Links), len(t.Pods)), nil
	case slices.Equal(kinds, []string{"PrefixGrants"}):
		grants, err := spa.ParseGrants(file, data)
		return fmt.Sprintf("%d grants", len(grants)), err
	case slices.Equal(kinds, []string{"QoSPolicy"}):
		set, err := policy.Parse(file, data)
		return fmt.Sprintf("%d policies", len(set.Rules)), err
	case len(kinds) == 0:
		return "", fmt.Errorf("%s has no document", file)
	}
	return "", fmt.Errorf("%s has documents of the kinds %v; a file is of one kind: Topology, PrefixGrants or QoSPolicy", file, kinds)
}
