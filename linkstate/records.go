package linkstate

import (
	"iter"

	"github.com/tidwall/btree"
)

// Records is an immutable set of records in the order of their keys. Two that
// follow each other share all that has not changed, so that a picture of a
// database costs what changed in it and not its size (docs/adr/0007). The zero
// value is empty.
type Records struct{ tree *btree.BTreeG[*LSA] }

// NewRecords returns the set of the given records, of which the last with a key
// counts.
func NewRecords(records ...*LSA) Records {
	t := newTree()
	for _, l := range records {
		t.Set(l)
	}
	return Records{t}
}

// Whoever changes a tree owns it, and copies are never changed: no locks.
func newTree() *btree.BTreeG[*LSA] {
	return btree.NewBTreeGOptions(func(a, b *LSA) bool { return a.Key.Compare(b.Key) < 0 }, btree.Options{NoLocks: true})
}

// Len is the number of records.
func (r Records) Len() int {
	if r.tree == nil {
		return 0
	}
	return r.tree.Len()
}

// Get returns the record with a key, nil if there is none.
func (r Records) Get(k Key) *LSA {
	if r.tree == nil {
		return nil
	}
	l, _ := r.tree.Get(&LSA{Key: k})
	return l
}

// All yields every record, sorted by key.
func (r Records) All() iter.Seq[*LSA] {
	return func(yield func(*LSA) bool) {
		if r.tree != nil {
			r.tree.Scan(yield)
		}
	}
}
