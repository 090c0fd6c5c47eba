package dmsc

import "math"

// Metric is the cost of a link, of a prefix at its owner, or the sum of such
// costs along a path. Sums saturate at Unreachable instead of wrapping.
type Metric uint32

const (
	// MaxLinkMetric is the largest metric that may be configured on a link.
	MaxLinkMetric Metric = 1<<24 - 1
	// LastResort is added for passing through a node that carries transit only
	// as a last resort: an SG, a starting or a draining node (design §3, RFC
	// 6987).
	LastResort Metric = 1 << 24
	// Unreachable is the distance to what cannot be reached.
	Unreachable Metric = math.MaxUint32
)

// Add returns m + n, saturating at Unreachable.
func (m Metric) Add(n Metric) Metric {
	if n > Unreachable-m {
		return Unreachable
	}
	return m + n
}
