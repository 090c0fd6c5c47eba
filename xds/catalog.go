package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// compiled is a validated Set. Immutable, and shared by all nodes and streams
// that are to run it.
type compiled struct {
	version string
	types   [numTypes]*catalog
}

// catalog is all of one type in a set. Immutable; sets that do not differ in a
// type share it.
type catalog struct {
	byName  map[string]*resource
	names   []string // sorted; shared by catalogs with the same names
	version string   // of the content
	// takers says which resources of this type need one of another name.
	takers map[ref][]string
	// onDemand are the clusters outside the wildcard.
	onDemand map[string]bool
}

func (c *catalog) get(name string) *resource {
	if c == nil {
		return nil
	}
	return c.byName[name]
}

func (c *compiled) typed(t Type) *catalog {
	if c == nil {
		return nil
	}
	return c.types[t]
}

func (c *compiled) get(t Type, name string) *resource { return c.typed(t).get(name) }

// taken: a resource of this catalog for which is is true needs want.
func (c *catalog) taken(want ref, is func(name string) bool) bool {
	if r := c.get(want.name); r != nil && slices.Contains(r.refs, want) && is(want.name) {
		return true
	}
	return c != nil && slices.ContainsFunc(c.takers[want], is)
}

// newCatalog completes a catalog, or returns one of like that is the same.
func newCatalog(t Type, byName map[string]*resource, onDemand map[string]bool, like ...*compiled) *catalog {
	c := &catalog{byName: byName, onDemand: onDemand}
	for _, other := range like {
		if other == nil {
			continue
		}
		switch o := other.types[t]; {
		case len(o.byName) != len(byName):
		case maps.Equal(o.byName, byName) && maps.Equal(o.onDemand, onDemand):
			return o
		case c.names == nil && !slices.ContainsFunc(o.names, func(name string) bool { return byName[name] == nil }):
			c.names = o.names
		}
	}
	if c.names == nil {
		c.names = slices.Sorted(maps.Keys(byName))
	}
	if t == Clusters || t == Listeners {
		for name, r := range byName {
			for _, need := range r.refs {
				if need.name != name && need.typ != Clusters {
					if c.takers == nil {
						c.takers = map[ref][]string{}
					}
					c.takers[need] = append(c.takers[need], name)
				}
			}
		}
	}
	c.version = versionOfAll(c.sorted())
	return c
}

// contents is the version, "" for none.
func (c *catalog) contents() string {
	if c == nil {
		return ""
	}
	return c.version
}

func (c *catalog) all() map[string]*resource {
	if c == nil {
		return nil
	}
	return c.byName
}

func (c *catalog) sorted() iter.Seq[*resource] {
	return func(yield func(*resource) bool) {
		for _, name := range c.names {
			if !yield(c.byName[name]) {
				return
			}
		}
	}
}

// versionOfAll names what one message holds, in the order of names. For all
// resources of a set's type it is the version of that type.
func versionOfAll(all iter.Seq[*resource]) string {
	var text []byte
	for r := range all {
		text = append(append(append(append(text, r.name...), 0), r.version...), 0)
	}
	return shortHash(text)
}

// newCompiled completes a set, or returns one of like that is the same.
func newCompiled(types [numTypes]*catalog, like ...*compiled) *compiled {
	for _, other := range like {
		if other != nil && other.types == types {
			return other
		}
	}
	whole := sha256.New()
	for _, c := range types {
		fmt.Fprintf(whole, "%s\x00", c.version)
	}
	for _, name := range slices.Sorted(maps.Keys(types[Clusters].onDemand)) {
		fmt.Fprintf(whole, "%s\x00", name)
	}
	return &compiled{version: hex.EncodeToString(whole.Sum(nil)[:8]), types: types}
}
