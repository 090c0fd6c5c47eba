package translator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// maxPath is the longest explicit path, in nodes.
const maxPath = 16

// Validate reports what keeps the steering from being applied at the ingress
// self: paths start there, name 2 to 16 nodes, none twice, and their weights
// add up to at most 100. Translate refuses a State with an invalid one; check
// what comes from outside before it enters a State.
func (s Steering) Validate(self dmsc.NodeID) error {
	var sum uint64
	for _, p := range s.Paths {
		sum += uint64(p.Weight)
		switch {
		case len(p.Nodes) < 2 || len(p.Nodes) > maxPath:
			return s.errorf("a path has %d nodes, 2 to %d are allowed", len(p.Nodes), maxPath)
		case p.Nodes[0] != self:
			return s.errorf("path %s does not start at %s", pathMark(p.Nodes...), self)
		case !simple(p.Nodes):
			return s.errorf("path %s names a node twice", pathMark(p.Nodes...))
		case !p.Instance.IsZero() && !instanceOf(p.Instance, s.Prefix):
			return s.errorf("instance %s is not directly below it", p.Instance)
		}
	}
	if sum > 100 {
		return s.errorf("weights add up to %d, at most 100 are allowed", sum)
	}
	return nil
}

func (s Steering) errorf(format string, args ...any) error {
	return fmt.Errorf("steering of %s by policy %q: %w", s.Prefix, s.PolicyID, fmt.Errorf(format, args...))
}

func simple(nodes []dmsc.NodeID) bool {
	for i, n := range nodes {
		if slices.Contains(nodes[:i], n) {
			return false
		}
	}
	return true
}

func instanceOf(instance, function dmsc.ServicePrefix) bool {
	f, ok := instance.Function()
	return ok && f == function
}

// usable are the paths that get a share. One whose first hop is no neighbour
// (any more) gets none: demotion would send its requests the ordinary way
// anyhow.
func (b *builder) usable(s Steering) []WeightedPath {
	var paths []WeightedPath
	for _, p := range s.Paths {
		if p.Weight > 0 && len(p.Nodes) > 1 && b.isNeighbour(p.Nodes[1]) {
			paths = append(paths, p)
		}
	}
	return paths
}

// steered splits the requests of an entry between explicit paths and, with
// what these leave of 100, the ordinary FIB.
func (b *builder) steered(e *rib.Entry, paths []WeightedPath) *routev3.Route {
	c := classOf(e)
	var shares []*routev3.WeightedCluster_ClusterWeight
	rest := uint32(100)
	for _, p := range paths {
		rest -= p.Weight
		share := weighted(NeighbourCluster(p.Nodes[1]), p.Weight)
		// The last but one node takes the path away; of two nodes that is us.
		if len(p.Nodes) > 2 {
			share.RequestHeadersToAdd = append(share.RequestHeadersToAdd, setHeader(headerPath, pathClass(c)+pathMark(p.Nodes...)))
		}
		if e.Kind == rib.Function && !p.Instance.IsZero() {
			share.RequestHeadersToAdd = append(share.RequestHeadersToAdd, setHeader(headerInstance, p.Instance.String()))
		}
		shares = append(shares, share)
	}
	if rest > 0 {
		shares = append(shares, weighted(b.ordinaryCluster(e), rest))
	}
	return &routev3.Route{
		StatPrefix: "steered", // counted by the name that is steered, see statsConfig
		Match:      c.match(),
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_WeightedClusters{
				WeightedClusters: &routev3.WeightedCluster{Clusters: shares},
			},
			Timeout: noDeadline(),
		}},
	}
}

// ordinaryCluster is where the share without a path goes. Local delivery takes
// the turn through the fabric table: this route repeats requests on
// dmsc-error, and only there a pod's own dmsc-error is removed first.
func (b *builder) ordinaryCluster(e *rib.Entry) string {
	if e.Local {
		return demoteName
	}
	return GroupCluster(e.Group)
}

func (b *builder) isNeighbour(id dmsc.NodeID) bool {
	return slices.ContainsFunc(b.Neighbours, func(n Neighbour) bool { return n.Remote == id })
}

func weighted(cluster string, weight uint32) *routev3.WeightedCluster_ClusterWeight {
	return &routev3.WeightedCluster_ClusterWeight{Name: cluster, Weight: wrapperspb.UInt32(weight)}
}

// pathClass is what stands before the first ">" of a path, so that the class
// of a request is known to nodes that look at nothing but its path.
func pathClass(c class) string {
	if c == classOnce {
		return ""
	}
	return string(c)
}

// pathMark writes nodes as ">sg-1>sr-1>". It is delimited on both sides: the
// mark of a pair occurs in a path exactly where the path has this pair.
func pathMark(nodes ...dmsc.NodeID) string {
	var m strings.Builder
	m.WriteByte('>')
	for _, n := range nodes {
		m.WriteString(string(n))
		m.WriteByte('>')
	}
	return m.String()
}
