package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/hashicorp/go-memdb"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// lsdbTable publishes the LSDB to readers: a go-memdb table written by one
// transaction per turn of the loop, so that a reader sees one state for as long
// as it likes and keeps nobody waiting. The rows are the protocol's own records,
// which never change: the loop formats nothing. The protocol itself does not run
// on the table.
type lsdbTable struct{ db *memdb.MemDB }

const lsdbTableName = "lsa"

func newLSDBTable() *lsdbTable {
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		lsdbTableName: {
			Name: lsdbTableName,
			// The records of one origin stand together: no second index is needed.
			Indexes: map[string]*memdb.IndexSchema{"id": {Name: "id", Unique: true, Indexer: keyIndex{}}},
		},
	}})
	if err != nil {
		panic(fmt.Sprintf("lsdb table: %v", err)) // the schema above is wrong
	}
	return &lsdbTable{db: db}
}

// keyIndex orders records as linkstate.Key.Compare does.
type keyIndex struct{}

func indexOf(k linkstate.Key) []byte {
	b := make([]byte, 0, len(k.Origin)+7)
	b = append(b, k.Origin...)
	b = append(b, 0) // below every byte of a node id
	b = binary.BigEndian.AppendUint16(b, uint16(k.Type))
	return binary.BigEndian.AppendUint32(b, k.Fragment)
}

func (keyIndex) FromObject(row any) (bool, []byte, error) {
	return true, indexOf(row.(*linkstate.LSA).Key), nil
}

func (keyIndex) FromArgs(args ...any) ([]byte, error) {
	if len(args) == 1 {
		if k, ok := args[0].(linkstate.Key); ok {
			return indexOf(k), nil
		}
	}
	return nil, fmt.Errorf("%v is no key", args)
}

func (keyIndex) PrefixFromArgs(args ...any) ([]byte, error) {
	if len(args) == 1 {
		if origin, ok := args[0].(dmsc.NodeID); ok {
			return append([]byte(origin), 0), nil
		}
	}
	return nil, fmt.Errorf("%v is no node id", args)
}

// update brings the rows of the changed keys up to the view.
func (t *lsdbTable) update(v *linkstate.View, changed []linkstate.Key) error {
	if len(changed) == 0 {
		return nil
	}
	txn := t.db.Txn(true)
	defer txn.Abort()
	for _, key := range changed {
		if r := v.Records.Get(key); r != nil {
			if err := txn.Insert(lsdbTableName, r); err != nil {
				return fmt.Errorf("publish record %s: %w", key, err)
			}
		} else if err := txn.Delete(lsdbTableName, &linkstate.LSA{Key: key}); err != nil && !errors.Is(err, memdb.ErrNotFound) {
			return fmt.Errorf("withdraw record %s: %w", key, err)
		}
	}
	txn.Commit()
	return nil
}

// all yields the records of one moment in the order of their keys, from a key
// on. Safe from any goroutine, as are the others.
func (t *lsdbTable) all(from linkstate.Key) iter.Seq[*linkstate.LSA] {
	return t.scan(func(txn *memdb.Txn) (memdb.ResultIterator, error) { return txn.LowerBound(lsdbTableName, "id", from) })
}

// of yields the records of one origin.
func (t *lsdbTable) of(origin dmsc.NodeID) iter.Seq[*linkstate.LSA] {
	return t.scan(func(txn *memdb.Txn) (memdb.ResultIterator, error) {
		return txn.Get(lsdbTableName, "id_prefix", origin)
	})
}

func (t *lsdbTable) scan(begin func(*memdb.Txn) (memdb.ResultIterator, error)) iter.Seq[*linkstate.LSA] {
	txn := t.db.Txn(false)
	return func(yield func(*linkstate.LSA) bool) {
		it, err := begin(txn)
		if err != nil {
			panic(fmt.Sprintf("lsdb table: %v", err)) // the index or its arguments are wrong
		}
		for row := it.Next(); row != nil; row = it.Next() {
			if !yield(row.(*linkstate.LSA)) {
				return
			}
		}
	}
}

// get returns the records with the given keys, as far as they exist.
func (t *lsdbTable) get(keys []linkstate.Key) iter.Seq[*linkstate.LSA] {
	txn := t.db.Txn(false)
	return func(yield func(*linkstate.LSA) bool) {
		for _, k := range keys {
			row, err := txn.First(lsdbTableName, "id", k)
			if err != nil {
				panic(fmt.Sprintf("lsdb table: %v", err))
			}
			if row != nil && !yield(row.(*linkstate.LSA)) {
				return
			}
		}
	}
}
