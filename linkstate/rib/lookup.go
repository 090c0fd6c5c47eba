package rib

import (
	"slices"
	"strings"
)

// Lookup returns the entry that answers a name, nil if none does: the longest
// prefix by segments, a function only by its exact name. Case does not matter.
func (r *RIB) Lookup(name string) *Entry {
	name = strings.ToLower(name)
	// A binary search per segment and no index: a RIB is a plain value, and
	// requests are looked up by Envoy, not here.
	for end := len(name); end > 0; end = strings.LastIndexByte(name[:end], '/') {
		en := r.find(name[:end])
		if en != nil && (en.Kind != Function || end == len(name)) {
			return en
		}
	}
	return nil
}

func (r *RIB) find(name string) *Entry {
	i, found := slices.BinarySearchFunc(r.entries, name, func(en *Entry, name string) int {
		return strings.Compare(en.Prefix.String(), name)
	})
	if !found {
		return nil
	}
	return r.entries[i]
}
