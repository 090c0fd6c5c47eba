package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/internal/manifest"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
	"github.com/dmsc-mesh/dmsc/spa"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE…",
		Short: "Check topology, grants, policy and border files, or folders of them, as the programs would read them",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var faults []error
			for _, path := range args {
				found, err := checkPath(path)
				if err != nil {
					faults = append(faults, err)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", path, found.what)
				for _, w := range found.warnings {
					fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", w)
				}
			}
			return exit(exitUsage, errors.Join(faults...))
		},
	}
}

// found is what a good file or folder has in it.
type found struct {
	what     string
	warnings []error // doubtful, but the file is in force
}

// checkPath reads a file, or the files of a folder, by their kind.
func checkPath(path string) (found, error) {
	docs, err := manifest.Load(path)
	if err != nil {
		return found{}, err
	}
	if len(docs) == 0 {
		return found{}, &manifest.Error{File: path, Code: manifest.CodeMissing, Msg: "there is no document"}
	}
	for _, d := range docs[1:] {
		if d.Kind != docs[0].Kind && !(slices.Contains(border.Kinds, d.Kind) && slices.Contains(border.Kinds, docs[0].Kind)) {
			return found{}, d.Errorf("$.kind", manifest.CodeKind, "%s stands beside %s; give each kind a file of its own", d.Kind, docs[0].Kind)
		}
	}
	switch docs[0].Kind {
	case "Topology":
		t, err := topology.Load(path)
		if err != nil {
			return found{}, err
		}
		return found{what: fmt.Sprintf("topology %s, nodes %d, links %d, pods %d", t.Name, len(t.Nodes), len(t.Links), len(t.Pods))}, nil
	case "PrefixGrants":
		grants, err := spa.LoadGrants(path)
		return found{what: fmt.Sprintf("grants %d", len(grants))}, err
	case policy.Kind:
		set, err := policy.Load(path)
		return found{what: fmt.Sprintf("policies %d", len(set.Rules)), warnings: set.Warnings}, err
	}
	if slices.Contains(border.Kinds, docs[0].Kind) {
		set, err := border.Load(path)
		if err == nil {
			err = set.CheckFiles(os.ReadFile)
		}
		return found{what: fmt.Sprintf("host aliases %d, external services %d", len(set.Aliases), len(set.Externals))}, err
	}
	return found{}, docs[0].Errorf("$.kind", manifest.CodeKind, "%s is read by no program of this version", docs[0].Kind)
}
