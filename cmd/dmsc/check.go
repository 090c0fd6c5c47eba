package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/internal/manifest"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/internal/regular"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
	"github.com/dmsc-mesh/dmsc/spa"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE…",
		Short: "Check settings, topology, grants, policy and border files, or folders of them, as the programs would read them",
		Long: "Check files as the programs would read them, with their faults at file:line:column: documents by their kind, and the\n" +
			"settings of dmsc node, spa and scsc, together with the files that these name, as at the start of the process. Settings\n" +
			"are what the file and DMSC_ variables say. What only shows on the machine of the process, such as a port in use, is not\n" +
			"looked at. Faults come in the order in which the programs meet them: what hangs on a part that cannot be read is told when\n" +
			"that is mended. A folder of settings is checked file by file; other documents of a folder belong together.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var faults []error
			for _, path := range spread(args) {
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

// spread replaces folders with settings in them by their files.
func spread(paths []string) (out []string) {
	for _, path := range paths {
		files, _ := filepath.Glob(filepath.Join(path, "*.yaml"))
		if slices.ContainsFunc(files, isSettings) {
			out = append(out, files...)
		} else {
			out = append(out, path)
		}
	}
	return out
}

func isSettings(file string) bool {
	p, err := config.ProcessOf(file)
	return err == nil && p != ""
}

// checkSettings reads the settings of a process, and what they name. It says for
// whose it took a bad file, since a key may be unknown to that process alone.
func checkSettings(path string, process config.Process) (found, error) {
	f, err := settings(path, process)
	if err != nil && process != config.EnvoyProcess {
		err = fmt.Errorf("%w\n%s: taken by its keys for the settings of dmsc %s", err, path, process)
	}
	return f, err
}

func settings(path string, process config.Process) (found, error) {
	switch process {
	case config.EnvoyProcess:
		return found{}, fmt.Errorf("%s is a bootstrap of Envoy; check it with envoy --mode validate -c %s", path, path)
	case config.SPAProcess:
		c, err := config.LoadSPA(path, nil)
		if err != nil {
			return found{}, err
		}
		grants, err := spa.LoadGrants(c.Grants)
		return found{what: fmt.Sprintf("settings of dmsc spa, grants %d", len(grants))}, in(path, err)
	case config.SCSCProcess:
		c, err := config.LoadSCSC(path, nil)
		if err != nil {
			return found{}, err
		}
		var set policy.Set
		if c.Policies != "" {
			set, err = policy.Load(c.Policies)
		}
		return found{what: fmt.Sprintf("settings of dmsc scsc, policies %d", len(set.Rules)), warnings: set.Warnings}, in(path, err)
	default:
		c, err := config.LoadNode(path, nil)
		if err != nil {
			return found{}, err
		}
		return found{what: fmt.Sprintf("settings of dmsc node %s, role %s, links %d", c.Node, c.Role, len(c.Links))}, in(path, node.Check(c))
	}
}

// in says whose settings led to a fault.
func in(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", path, err)
}

// checkPath reads a file, or the files of a folder: settings of a process, or
// documents by their kind.
func checkPath(path string) (found, error) {
	if process, err := config.ProcessOf(path); err == nil && process != "" {
		return checkSettings(path, process)
	}
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
			_, err = set.CheckFiles(regular.ReadFile)
		}
		return found{what: fmt.Sprintf("host aliases %d, external services %d", len(set.Aliases), len(set.Externals))}, err
	}
	return found{}, docs[0].Errorf("$.kind", manifest.CodeKind, "%s is read by no program of this version", docs[0].Kind)
}
