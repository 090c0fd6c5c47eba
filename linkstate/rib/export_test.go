package rib

// SetMaxGroups lowers the group limit, for small tests of it.
func (e *Engine) SetMaxGroups(n int) { e.maxGroups = n }

// CachedPaths is how many owner sets the Engine remembers the way to.
func (e *Engine) CachedPaths() int { return len(e.paths) }
