package scsc

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// This file alone knows both our types and the wire's. What comes in is checked
// here, so that nothing behind it has to doubt it.

func telemetryToWire(seq uint64, at time.Time, t Telemetry) *dmscv1.Telemetry {
	out := &dmscv1.Telemetry{Seq: seq, MeasuredAt: timestamppb.New(at), Window: durationpb.New(t.Window)}
	for _, l := range t.Links {
		out.Links = append(out.Links, &dmscv1.LinkReport{
			Remote: string(l.Link.Remote), Id: string(l.Link.ID), Probes: l.Probes, Lost: l.Lost,
			RttMin: durationpb.New(l.RTTMin), RttMedian: durationpb.New(l.RTTMedian), RttP95: durationpb.New(l.RTTP95),
			Jitter: durationpb.New(l.Jitter), SentBps: l.SentBPS, ReceivedBps: l.ReceivedBPS, CapacityBps: l.CapacityBPS,
		})
	}
	for _, s := range t.Services {
		out.Services = append(out.Services, &dmscv1.ServiceReport{
			Prefix: s.Prefix.String(), Address: s.Address, Healthy: s.Healthy, Delay: durationpb.New(s.Delay),
			Jitter: durationpb.New(s.Jitter), InFlight: s.InFlight, RequestsPerSecond: s.RequestsPerSecond,
		})
	}
	return out
}

// telemetryFromWire skips what is malformed and names it in the error; the rest
// of the report holds.
func telemetryFromWire(w *dmscv1.Telemetry) (Telemetry, error) {
	t := Telemetry{Window: positive(w.GetWindow())}
	var faults []error
	for _, l := range w.GetLinks() {
		remote, err1 := dmsc.ParseNodeID(l.GetRemote())
		id, err2 := dmsc.ParseLinkID(l.GetId())
		if err := errors.Join(err1, err2); err != nil {
			faults = append(faults, fmt.Errorf("link report: %w", err))
			continue
		}
		t.Links = append(t.Links, LinkReport{
			Link: linkstate.LinkKey{Remote: remote, ID: id}, Probes: l.GetProbes(), Lost: min(l.GetLost(), l.GetProbes()),
			RTTMin: positive(l.GetRttMin()), RTTMedian: positive(l.GetRttMedian()), RTTP95: positive(l.GetRttP95()),
			Jitter: positive(l.GetJitter()), SentBPS: l.GetSentBps(), ReceivedBPS: l.GetReceivedBps(), CapacityBPS: l.GetCapacityBps(),
		})
	}
	for _, s := range w.GetServices() {
		p, err := dmsc.ParsePrefix(s.GetPrefix())
		if err != nil {
			faults = append(faults, fmt.Errorf("service report: %w", err))
			continue
		}
		t.Services = append(t.Services, ServiceReport{
			Prefix: p, Address: s.GetAddress(), Healthy: s.GetHealthy(), Delay: positive(s.GetDelay()),
			Jitter: positive(s.GetJitter()), InFlight: s.GetInFlight(), RequestsPerSecond: s.GetRequestsPerSecond(),
		})
	}
	return t, errors.Join(faults...)
}

// positive reads a duration; none, a negative or an overlong one counts as the
// nearest that makes sense.
func positive(d *durationpb.Duration) time.Duration {
	return min(max(d.AsDuration(), 0), time.Hour)
}

func setToWire(s PolicySet) *dmscv1.PolicySet {
	out := &dmscv1.PolicySet{Term: s.Term, Generation: s.Generation, Ttl: durationpb.New(s.TTL)}
	for _, p := range s.Policies {
		w := &dmscv1.Policy{Id: p.ID, Rule: p.Rule, Prefix: p.Prefix.String(), Ingress: string(p.Ingress), Reason: p.Reason}
		for _, path := range p.Paths {
			nodes := make([]string, len(path.Nodes))
			for i, n := range path.Nodes {
				nodes[i] = string(n)
			}
			w.Paths = append(w.Paths, &dmscv1.WeightedPath{Nodes: nodes, Instance: path.Instance.String(), Weight: path.Weight})
		}
		out.Policies = append(out.Policies, w)
	}
	return out
}

// setFromWire refuses a set of which any part is malformed: half of it would be
// a decision that nobody has made.
func setFromWire(w *dmscv1.PolicySet) (PolicySet, error) {
	s := PolicySet{Term: w.GetTerm(), Generation: w.GetGeneration(), TTL: max(w.GetTtl().AsDuration(), 0)}
	for _, p := range w.GetPolicies() {
		pol, err := policyFromWire(p)
		if err != nil {
			return PolicySet{}, fmt.Errorf("policy %s: %w", p.GetId(), err)
		}
		s.Policies = append(s.Policies, pol)
	}
	return s, nil
}

func policyFromWire(w *dmscv1.Policy) (Policy, error) {
	prefix, err1 := dmsc.ParsePrefix(w.GetPrefix())
	ingress, err2 := dmsc.ParseNodeID(w.GetIngress())
	if err := errors.Join(err1, err2); err != nil {
		return Policy{}, err
	}
	p := Policy{ID: w.GetId(), Rule: w.GetRule(), Prefix: prefix, Ingress: ingress, Reason: w.GetReason()}
	var weights uint32
	for _, wp := range w.GetPaths() {
		path, err := pathFromWire(wp)
		if err != nil {
			return Policy{}, err
		}
		if weights += path.Weight; weights > 100 {
			return Policy{}, fmt.Errorf("weights add up to more than 100")
		}
		p.Paths = append(p.Paths, path)
	}
	if len(p.Paths) == 0 {
		return Policy{}, fmt.Errorf("no path")
	}
	return p, nil
}

func pathFromWire(w *dmscv1.WeightedPath) (Path, error) {
	if n := len(w.GetNodes()); n < 2 || n > MaxPathNodes {
		return Path{}, fmt.Errorf("path of %d nodes, 2 to %d are allowed", n, MaxPathNodes)
	}
	if w.GetWeight() < 1 || w.GetWeight() > 100 {
		return Path{}, fmt.Errorf("weight %d is not 1 to 100", w.GetWeight())
	}
	p := Path{Weight: w.GetWeight()}
	seen := make(map[dmsc.NodeID]bool)
	for _, s := range w.GetNodes() {
		n, err := dmsc.ParseNodeID(s)
		if err != nil {
			return Path{}, err
		}
		if seen[n] {
			return Path{}, fmt.Errorf("path visits %s twice", n)
		}
		seen[n] = true
		p.Nodes = append(p.Nodes, n)
	}
	if s := w.GetInstance(); s != "" {
		var err error
		if p.Instance, err = dmsc.ParsePrefix(s); err != nil {
			return Path{}, err
		}
	}
	return p, nil
}

func planToWire(p Plan) *dmscv1.ReportingPlan {
	return &dmscv1.ReportingPlan{
		Generation: p.Generation, Interval: durationpb.New(p.Interval),
		SuspectInterval: durationpb.New(p.SuspectInterval), Suspects: p.Suspects,
	}
}

// The bounds of a reporting interval (qos.proto).
const (
	minInterval = 100 * time.Millisecond
	maxInterval = time.Minute
)

func planFromWire(w *dmscv1.ReportingPlan) Plan {
	bounded := func(d *durationpb.Duration) time.Duration {
		return min(max(d.AsDuration(), minInterval), maxInterval)
	}
	return Plan{
		Generation: w.GetGeneration(), Interval: bounded(w.GetInterval()),
		SuspectInterval: bounded(w.GetSuspectInterval()), Suspects: w.GetSuspects(),
	}
}

// State values are those of the wire.
func statusToWire(s Status) *dmscv1.PolicyStatus {
	return &dmscv1.PolicyStatus{
		Term: s.Term, Generation: s.Generation, PolicyId: s.PolicyID,
		State: dmscv1.PolicyState(s.State), Reason: s.Reason,
	}
}

func statusFromWire(w *dmscv1.PolicyStatus) Status {
	s := Status{Term: w.GetTerm(), Generation: w.GetGeneration(), PolicyID: w.GetPolicyId(), Reason: w.GetReason()}
	if v := w.GetState(); v >= 0 && int(v) < len(stateNames) {
		s.State = State(v)
	}
	return s
}
