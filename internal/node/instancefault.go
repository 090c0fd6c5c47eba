package node

import (
	"cmp"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// InstanceFault is an instance of a pod that the SPA has granted and that is
// not announced all the same: it fails its check.
type InstanceFault struct {
	Pod      string    `json:"pod"`
	Prefix   string    `json:"prefix"`
	Address  string    `json:"address"`
	Since    time.Time `json:"since"`         // it fails
	SinceSec float64   `json:"since_seconds"` // the same, in seconds
	Why      string    `json:"why"`           // which check fails, and how it did last
}

// instanceFaults are all of them, sorted by prefix, address and pod.
func (r *registry) instanceFaults(now time.Time) []InstanceFault {
	var out []InstanceFault
	for _, s := range r.sessions {
		for _, v := range s.services {
			if v.unhealthy(now) && r.verdicts[claim{s.pod, v.Prefix.Prefix}].granted {
				out = append(out, InstanceFault{Pod: s.pod, Prefix: v.Prefix.Prefix.String(), Address: v.Address, Since: v.unhealthySince, Why: v.unhealthyWhy})
			}
		}
	}
	slices.SortFunc(out, func(a, b InstanceFault) int {
		return cmp.Or(cmp.Compare(a.Prefix, b.Prefix), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Pod, b.Pod))
	})
	return slices.CompactFunc(out, func(a, b InstanceFault) bool { return a.Prefix == b.Prefix && a.Address == b.Address && a.Pod == b.Pod })
}

// unhealthy: the instance has failed its check for longer than the grace, and so
// is not announced.
func (v service) unhealthy(now time.Time) bool {
	return !v.unhealthySince.IsZero() && now.Sub(v.unhealthySince) >= unhealthyGrace
}

// healthy reports whether an instance of the session keeps a prefix announced.
func (s *session) healthy(p dmsc.ServicePrefix, now time.Time) bool {
	return slices.ContainsFunc(s.services, func(v service) bool { return v.Prefix.Prefix == p && !v.unhealthy(now) })
}
