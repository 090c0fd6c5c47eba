package node

import (
	"fmt"

	"github.com/hashicorp/go-memdb"

	"github.com/dmsc-mesh/dmsc/linkstate"
)

// lsdbTable publishes the LSDB's rows to readers: a go-memdb table written by
// one transaction per turn of the loop, so that a reader sees one consistent
// state for as long as it holds its transaction. Rows are never changed in
// place. The protocol itself does not run on it.
type lsdbTable struct {
	db   *memdb.MemDB
	rows map[linkstate.Key]*lsdbRow // what is in the table; the loop's own
}

// lsdbRow is one record as readers see it.
type lsdbRow struct {
	Key       string `json:"key"`
	Origin    string `json:"origin"`
	Order     string `json:"order"`
	NotAfter  string `json:"not_after"`
	Tombstone bool   `json:"tombstone"`
	Bytes     int    `json:"bytes"`
	Content   any    `json:"content,omitempty"`
}

const lsdbTableName = "lsa"

func newLSDBTable() *lsdbTable {
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		lsdbTableName: {
			Name: lsdbTableName,
			Indexes: map[string]*memdb.IndexSchema{
				"id":     {Name: "id", Unique: true, Indexer: &memdb.StringFieldIndex{Field: "Key"}},
				"origin": {Name: "origin", Indexer: &memdb.StringFieldIndex{Field: "Origin"}},
			},
		},
	}})
	if err != nil {
		panic(fmt.Sprintf("lsdb table: %v", err)) // the schema above is wrong
	}
	return &lsdbTable{db: db, rows: map[linkstate.Key]*lsdbRow{}}
}

// update brings the rows of the changed keys up to the view.
func (t *lsdbTable) update(v *linkstate.View, changed []linkstate.Key) error {
	if len(changed) == 0 {
		return nil
	}
	current := make(map[linkstate.Key]*linkstate.LSA, v.Records.Len())
	for r := range v.Records.All() {
		current[r.Key] = r
	}
	txn := t.db.Txn(true)
	defer txn.Abort()
	for _, key := range changed {
		if r := current[key]; r != nil {
			row := &lsdbRow{
				Key: key.String(), Origin: string(key.Origin), Order: r.Order.String(), NotAfter: r.NotAfter.UTC().Format("2006-01-02T15:04:05Z"),
				Tombstone: r.Tombstone, Bytes: len(r.Body), Content: contentPage(r.Content),
			}
			if err := txn.Insert(lsdbTableName, row); err != nil {
				return fmt.Errorf("publish record %s: %w", key, err)
			}
			t.rows[key] = row
		} else if row := t.rows[key]; row != nil {
			if err := txn.Delete(lsdbTableName, row); err != nil {
				return fmt.Errorf("withdraw record %s: %w", key, err)
			}
			delete(t.rows, key)
		}
	}
	txn.Commit()
	return nil
}

// list returns all rows in the order of their keys. Safe from any goroutine.
func (t *lsdbTable) list() ([]*lsdbRow, error) {
	it, err := t.db.Txn(false).Get(lsdbTableName, "id")
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	out := []*lsdbRow{}
	for row := it.Next(); row != nil; row = it.Next() {
		out = append(out, row.(*lsdbRow))
	}
	return out, nil
}
