package rib

// SetMaxGroups lowers the group limit, for small tests of it.
func (e *Engine) SetMaxGroups(n int) { e.maxGroups = n }

// OwnerSets is how many owner sets the Engine knows.
func (e *Engine) OwnerSets() int { return len(e.byKey) }

// Interned is how many node and link ids the Engine remembers.
func (e *Engine) Interned() int { return e.graph.Interned() }
