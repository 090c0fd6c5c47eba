package rib

// Run is what one Update did: facts about the work, not about time.
type Run struct {
	Kind RunKind
	// Nodes is how many nodes have another distance or other first hops.
	Nodes int
	// Entries is how many entries came, went or changed.
	Entries int
}

// RunKind is how much of the shortest paths an Update computed.
type RunKind uint8

// The kinds of runs, in the order of their cost.
const (
	RunNone        RunKind = iota // nothing that counts has changed
	RunPrefixes                   // names or held links only: no SPF
	RunIncremental                // the shortest paths were repaired
	RunFull                       // the shortest paths were computed anew
)

func (k RunKind) String() string {
	return [...]string{"none", "prefixes", "incremental", "full"}[k]
}

// LastRun tells what the last Update did.
func (e *Engine) LastRun() Run { return e.lastRun }
