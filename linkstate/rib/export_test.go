package rib

// SetMaxGroups lowers the group limit, for small tests of it.
func (e *Engine) SetMaxGroups(n int) { e.maxGroups = n }
