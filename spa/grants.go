package spa

import (
	"errors"
	"fmt"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/manifest"
)

// Scope is how far a grant reaches.
type Scope uint8

// The scopes. Exact is the default: with longest-prefix forwarding, authority
// over a subtree is authority to attract any part of it (RFC 9319).
const (
	Exact   Scope = iota // the name itself
	Subtree              // the name and everything below it
)

func (s Scope) String() string { return [...]string{"exact", "subtree"}[s] }

// UnmarshalText reads exact or subtree.
func (s *Scope) UnmarshalText(b []byte) error {
	switch string(b) {
	case "exact":
		*s = Exact
	case "subtree":
		*s = Subtree
	default:
		return fmt.Errorf("scope %q is not one of exact, subtree", b)
	}
	return nil
}

// Grant allows a holder to announce a prefix, or forbids it.
type Grant struct {
	Holder   string // name of the pod; "" in a denial means everybody
	Prefix   dmsc.ServicePrefix
	Scope    Scope
	Gateways []dmsc.NodeID // where it may be announced; none means anywhere
	Deny     bool
	// Source is where the grant stands, file:line, for people.
	Source string
}

type grantsSpec struct {
	Grants []grantSpec `yaml:"grants,required"`
}

type grantSpec struct {
	Holder   string             `yaml:"holder"`
	Prefix   dmsc.ServicePrefix `yaml:"prefix,required"`
	Scope    Scope              `yaml:"scope"`
	Gateways []string           `yaml:"gateways"`
	Deny     bool               `yaml:"deny"`
}

// LoadGrants reads the PrefixGrants documents of a file, or of all *.yaml in a
// folder. The error joins every fault, each with file:line:column.
func LoadGrants(path string) ([]Grant, error) {
	docs, err := manifest.Load(path)
	if err != nil {
		return nil, err
	}
	return readGrants(path, docs)
}

// ParseGrants is LoadGrants for text already read; file names it in errors.
func ParseGrants(file string, data []byte) ([]Grant, error) {
	docs, err := manifest.Parse(file, data)
	if err != nil {
		return nil, err
	}
	return readGrants(file, docs)
}

func readGrants(path string, docs []*manifest.Document) ([]Grant, error) {
	if len(docs) == 0 {
		// An empty file is more often a copy under way than the wish to refuse
		// everybody, which is written grants: [].
		return nil, &manifest.Error{File: path, Code: manifest.CodeMissing, Msg: "there is no document of kind PrefixGrants"}
	}
	type key struct {
		holder string
		prefix dmsc.ServicePrefix
	}
	first := map[key]string{}
	var grants []Grant
	var faults []error
	for _, d := range docs {
		var spec grantsSpec
		err := d.Expect("PrefixGrants")
		if err == nil {
			err = d.Decode(&spec)
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		for i, s := range spec.Grants {
			at := fmt.Sprintf("$.spec.grants[%d]", i)
			line, _ := d.Position(at)
			g := Grant{Holder: s.Holder, Prefix: s.Prefix, Scope: s.Scope, Deny: s.Deny, Source: fmt.Sprintf("%s:%d", d.File, line)}
			faults = append(faults, check(d, at, s, &g))
			k := key{g.Holder, g.Prefix}
			if earlier, twice := first[k]; twice {
				faults = append(faults, d.Errorf(at, manifest.CodeDuplicate, "a grant of %s to %s is already at %s", g.Prefix, whom(g), earlier))
			} else {
				first[k] = g.Source
			}
			grants = append(grants, g)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return grants, nil
}

// check validates one grant and fills in what needs parsing.
func check(d *manifest.Document, at string, s grantSpec, g *Grant) error {
	var faults []error
	if s.Holder == "" && !s.Deny {
		faults = append(faults, d.Errorf(at, manifest.CodeMissing, "holder is missing"))
	}
	if s.Deny && len(s.Gateways) > 0 {
		faults = append(faults, d.Errorf(at+".gateways", manifest.CodeConflict, "a denial holds at every gateway; remove gateways"))
	}
	if s.Prefix.Reserved() && !s.Deny {
		faults = append(faults, d.Errorf(at+".prefix", manifest.CodePrefix, "%s belongs to the network itself and cannot be granted", s.Prefix))
	}
	for i, name := range s.Gateways {
		id, err := dmsc.ParseNodeID(name)
		if err != nil {
			faults = append(faults, d.Errorf(fmt.Sprintf("%s.gateways[%d]", at, i), manifest.CodeValue, "%v", err))
		}
		g.Gateways = append(g.Gateways, id)
	}
	return errors.Join(faults...)
}

func whom(g Grant) string {
	if g.Holder == "" {
		return "everybody"
	}
	return g.Holder
}
