package border

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/translator"
)

// Set is what documents say. Those who hold one do not change it.
type Set struct {
	Aliases   []translator.Alias    // sorted by host, then path
	Externals []translator.External // sorted by host, then name
}

func (s *Set) sort() {
	slices.SortFunc(s.Aliases, func(x, y translator.Alias) int {
		return cmp.Or(strings.Compare(x.Host, y.Host), strings.Compare(x.Path, y.Path), cmp.Compare(x.From, y.From))
	})
	slices.SortFunc(s.Externals, func(x, y translator.External) int {
		return cmp.Or(strings.Compare(x.Host, y.Host), strings.Compare(x.Name, y.Name))
	})
}

// Validate reports whether Envoy can take all of it: what Load returns it can.
func (s Set) Validate() error {
	var faults []error
	for _, a := range s.Aliases {
		faults = append(faults, a.Validate())
	}
	for _, e := range s.Externals {
		faults = append(faults, e.Validate())
	}
	return errors.Join(faults...)
}

// Ref names a document.
type Ref struct{ Kind, Name string }

// Of is what one document says.
func (s Set) Of(r Ref) Set { return s.filter(func(o Ref) bool { return o == r }) }

// Without is what all the others say.
func (s Set) Without(r Ref) Set { return s.filter(func(o Ref) bool { return o != r }) }

func (s Set) filter(keep func(Ref) bool) (out Set) {
	for _, a := range s.Aliases {
		if keep(Ref{KindAlias, a.Name}) {
			out.Aliases = append(out.Aliases, a)
		}
	}
	for _, e := range s.Externals {
		if keep(Ref{KindExternal, e.Name}) {
			out.Externals = append(out.Externals, e)
		}
	}
	return out
}

// Revert is the set with one document as it was in an earlier set. ok is false
// if it was not there, or if another document claims by now what it claimed
// then; the set is without the document in that case.
func (s Set) Revert(r Ref, earlier Set) (out Set, ok bool) {
	out, old := s.Without(r), earlier.Of(r)
	if len(old.Aliases)+len(old.Externals) == 0 || out.overlaps(old) || old.overlaps(out) {
		return out, false
	}
	out.Aliases = append(out.Aliases, old.Aliases...)
	out.Externals = append(out.Externals, old.Externals...)
	out.sort()
	return out, true
}

// overlaps reports whether documents of s and o claim the same, by the rules of
// reader.claim and reader.owns. What s lets out and o lets in counts, not the
// other way round.
func (s Set) overlaps(o Set) bool {
	return slices.ContainsFunc(s.Externals, func(x translator.External) bool {
		return slices.ContainsFunc(o.Externals, func(y translator.External) bool {
			return x.Host == y.Host && x.Port == y.Port && (x.Protocol == dmsc.TCP) == (y.Protocol == dmsc.TCP)
		}) || slices.ContainsFunc(o.Aliases, func(y translator.Alias) bool {
			return x.Host == y.Host && y.From&translator.Pods != 0
		})
	}) || slices.ContainsFunc(s.Aliases, func(x translator.Alias) bool {
		return slices.ContainsFunc(o.Aliases, func(y translator.Alias) bool {
			return x.Host == y.Host && x.Path == y.Path && x.From&y.From != 0
		})
	})
}
