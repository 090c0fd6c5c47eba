package scsc

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-memdb"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Tables is the read side of a Server: what it knows, as rows that never
// change. Readers get a consistent picture and never ask the loop.
type Tables struct {
	db     *memdb.MemDB
	halted atomic.Pointer[[]string]
}

// NodeRow is a node with a session or with telemetry.
type NodeRow struct {
	Node             dmsc.NodeID
	Connected        bool
	Reported         time.Time // arrival of its last telemetry; zero for none
	Plan             Plan
	Term, Generation uint64 // of the set it was sent last
	Policies         int    // in that set
}

// LinkRow is one link as its near end measures it.
type LinkRow struct {
	Node     dmsc.NodeID
	Reported time.Time
	LinkReport
}

const (
	tableNodes    = "nodes"
	tableLinks    = "links"
	tablePolicies = "policies"
	indexID       = "id" // the name memdb wants for the unique index
)

// key joins the parts of an index so that no two different keys are equal: no
// part has a zero byte.
func key(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = append(append(b, p...), 0)
	}
	return b
}

// rowIndex is our own indexer: memdb's StringFieldIndex makes keys of struct
// fields by their Go syntax, which collide.
type rowIndex struct{}

func (rowIndex) FromObject(row any) (bool, []byte, error) {
	switch r := row.(type) {
	case NodeRow:
		return true, key(string(r.Node)), nil
	case LinkRow:
		return true, key(string(r.Node), string(r.Link.Remote), string(r.Link.ID)), nil
	case Row:
		return true, key(string(r.Ingress), r.Prefix.String()), nil
	}
	return false, nil, fmt.Errorf("no index for a row of %T", row)
}

// FromArgs takes the parts of the key, or fewer of them for a prefix search.
func (rowIndex) FromArgs(args ...any) ([]byte, error) {
	parts := make([]string, len(args))
	for i, a := range args {
		s, ok := a.(fmt.Stringer)
		if text, isText := a.(string); isText {
			parts[i] = text
		} else if ok {
			parts[i] = s.String()
		} else {
			return nil, fmt.Errorf("key part of %T", a)
		}
	}
	return key(parts...), nil
}

func (x rowIndex) PrefixFromArgs(args ...any) ([]byte, error) { return x.FromArgs(args...) }

func newTables() *Tables {
	schema := &memdb.DBSchema{Tables: make(map[string]*memdb.TableSchema)}
	for _, name := range [...]string{tableNodes, tableLinks, tablePolicies} {
		schema.Tables[name] = &memdb.TableSchema{Name: name, Indexes: map[string]*memdb.IndexSchema{
			indexID: {Name: indexID, Unique: true, Indexer: rowIndex{}},
		}}
	}
	db, err := memdb.NewMemDB(schema)
	if err != nil {
		panic(fmt.Sprintf("scsc: table schema: %v", err)) // it is constant
	}
	return &Tables{db: db}
}

// publish replaces all rows in one transaction.
func (t *Tables) publish(c *Center) error {
	txn := t.db.Txn(true)
	defer txn.Abort()
	insert := func(table string, row any) error {
		if err := txn.Insert(table, row); err != nil {
			return fmt.Errorf("publish %s: %w", table, err)
		}
		return nil
	}
	for _, table := range [...]string{tableNodes, tableLinks, tablePolicies} {
		if _, err := txn.DeleteAll(table, indexID); err != nil {
			return fmt.Errorf("clear %s: %w", table, err)
		}
	}
	nodes := make(map[dmsc.NodeID]NodeRow)
	for id, p := range c.peers {
		nodes[id] = NodeRow{Node: id, Connected: true, Plan: p.plan, Term: p.set.Term, Generation: p.set.Generation, Policies: len(p.set.Policies)}
	}
	for id, r := range c.reports {
		n := nodes[id]
		n.Node, n.Reported = id, r.at
		nodes[id] = n
		for _, l := range r.links {
			if err := insert(tableLinks, LinkRow{id, r.at, l}); err != nil {
				return err
			}
		}
	}
	for _, n := range nodes {
		if err := insert(tableNodes, n); err != nil {
			return err
		}
	}
	for _, r := range c.Rows() {
		if err := insert(tablePolicies, r); err != nil {
			return err
		}
	}
	txn.Commit()
	t.halted.Store(new(c.Halted()))
	return nil
}

// Halted lists the rules whose rollout is halted, sorted by precedence.
func (t *Tables) Halted() []string {
	if h := t.halted.Load(); h != nil {
		return *h
	}
	return nil
}

// Nodes lists the nodes, sorted.
func (t *Tables) Nodes() ([]NodeRow, error) { return rows[NodeRow](t, tableNodes) }

// Links lists the measured links, sorted by (Node, Remote, ID).
func (t *Tables) Links() ([]LinkRow, error) { return rows[LinkRow](t, tableLinks) }

// Policies lists the judged names, sorted by (Ingress, Prefix).
func (t *Tables) Policies() ([]Row, error) { return rows[Row](t, tablePolicies) }

// Link returns one row, false if that end does not report the link.
func (t *Tables) Link(node dmsc.NodeID, link linkstate.LinkKey) (LinkRow, bool, error) {
	row, err := t.db.Txn(false).First(tableLinks, indexID, string(node), string(link.Remote), string(link.ID))
	if err != nil || row == nil {
		return LinkRow{}, false, err
	}
	return row.(LinkRow), true, nil
}

func rows[T any](t *Tables, table string) ([]T, error) {
	it, err := t.db.Txn(false).Get(table, indexID)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", table, err)
	}
	var out []T
	for row := it.Next(); row != nil; row = it.Next() {
		out = append(out, row.(T))
	}
	return out, nil
}
