package node

import (
	"fmt"
	"iter"
	"slices"

	"github.com/hashicorp/go-memdb"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// lsdbTable publishes the LSDB to readers: a go-memdb table written by one
// transaction per turn of the loop, so that a reader sees one state for as long
// as it likes and keeps nobody waiting. A row is an origin with the protocol's
// own records, which never change: the loop formats nothing. (A row per record
// took as much memory as the records.) The protocol itself does not run on the
// table.
type lsdbTable struct{ db *memdb.MemDB }

const lsdbTableName = "origin"

// originRow is what one node announces, immutable.
type originRow struct {
	origin  dmsc.NodeID
	records []*linkstate.LSA // sorted by key, at least one
}

func newLSDBTable() *lsdbTable {
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		lsdbTableName: {
			Name:    lsdbTableName,
			Indexes: map[string]*memdb.IndexSchema{"id": {Name: "id", Unique: true, Indexer: originIndex{}}},
		},
	}})
	if err != nil {
		panic(fmt.Sprintf("lsdb table: %v", err)) // the schema above is wrong
	}
	return &lsdbTable{db: db}
}

// originIndex orders rows as linkstate.Key.Compare does.
type originIndex struct{}

// The end is marked by a zero, which is below every byte of a node id.
func indexOf(id dmsc.NodeID) []byte { return append([]byte(id), 0) }

func (originIndex) FromObject(row any) (bool, []byte, error) {
	return true, indexOf(row.(*originRow).origin), nil
}

func (originIndex) FromArgs(args ...any) ([]byte, error) {
	if len(args) == 1 {
		if id, ok := args[0].(dmsc.NodeID); ok {
			return indexOf(id), nil
		}
	}
	return nil, fmt.Errorf("%v is no node id", args)
}

// update brings the rows up to the view. changed is sorted, each key once.
func (t *lsdbTable) update(v *linkstate.View, changed []linkstate.Key) error {
	if len(changed) == 0 {
		return nil
	}
	txn := t.db.Txn(true)
	defer txn.Abort()
	for len(changed) > 0 {
		n := 1 // of one origin
		for n < len(changed) && changed[n].Origin == changed[0].Origin {
			n++
		}
		was, is := row(txn, changed[0].Origin), &originRow{origin: changed[0].Origin}
		is.records = merged(was.records, v.Records, changed[:n])
		changed = changed[n:]
		var err error
		switch {
		case len(is.records) > 0:
			err = txn.Insert(lsdbTableName, is)
		case len(was.records) > 0:
			err = txn.Delete(lsdbTableName, is)
		}
		if err != nil {
			return fmt.Errorf("publish the records of %s: %w", is.origin, err)
		}
	}
	txn.Commit()
	return nil
}

// merged are the sorted records of an origin with those under the changed keys
// as the view has them.
func merged(was []*linkstate.LSA, now linkstate.Records, changed []linkstate.Key) []*linkstate.LSA {
	out := make([]*linkstate.LSA, 0, len(was)+len(changed))
	for _, k := range changed {
		i, found := find(was, k)
		out, was = append(out, was[:i]...), was[i:]
		if found {
			was = was[1:]
		}
		if r := now.Get(k); r != nil {
			out = append(out, r)
		}
	}
	return append(out, was...)
}

func find(records []*linkstate.LSA, k linkstate.Key) (int, bool) {
	return slices.BinarySearchFunc(records, k, func(l *linkstate.LSA, k linkstate.Key) int { return l.Key.Compare(k) })
}

// row returns the row of an origin, an empty one if there is none.
func row(txn *memdb.Txn, origin dmsc.NodeID) *originRow {
	r, err := txn.First(lsdbTableName, "id", origin)
	if err != nil {
		panic(fmt.Sprintf("lsdb table: %v", err)) // the index or its arguments are wrong
	}
	if r == nil {
		return &originRow{}
	}
	return r.(*originRow)
}

// all yields the records of one moment in the order of their keys, from a key
// on. Safe from any goroutine, as are the others.
func (t *lsdbTable) all(from linkstate.Key) iter.Seq[*linkstate.LSA] {
	txn := t.db.Txn(false)
	return func(yield func(*linkstate.LSA) bool) {
		it, err := txn.LowerBound(lsdbTableName, "id", from.Origin)
		if err != nil {
			panic(fmt.Sprintf("lsdb table: %v", err))
		}
		for r := it.Next(); r != nil; r = it.Next() {
			i, _ := find(r.(*originRow).records, from)
			for _, l := range r.(*originRow).records[i:] {
				if !yield(l) {
					return
				}
			}
		}
	}
}

// of yields the records of one origin.
func (t *lsdbTable) of(origin dmsc.NodeID) iter.Seq[*linkstate.LSA] {
	return slices.Values(row(t.db.Txn(false), origin).records)
}

// get yields the records with the given keys, as far as they exist.
func (t *lsdbTable) get(keys []linkstate.Key) iter.Seq[*linkstate.LSA] {
	txn := t.db.Txn(false)
	return func(yield func(*linkstate.LSA) bool) {
		for _, k := range keys {
			records := row(txn, k.Origin).records
			if i, found := find(records, k); found && !yield(records[i]) {
				return
			}
		}
	}
}
