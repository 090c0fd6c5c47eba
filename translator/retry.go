package translator

import (
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// hopRetry repairs a hop without the agent: what has not been written to the
// dead neighbour goes to another member of the group; in class safe what was
// written, too.
//
// protect sends a retry to the alternate (priority 1). Groups of several
// primaries must not do so: a healthy equal-cost member is the better choice.
func hopRetry(c class, protect bool) *routev3.RetryPolicy {
	return retryPolicy(retryOn(c), 2, time.Millisecond, 5*time.Millisecond, protect)
}

// ingressRetry is hopRetry plus what the ingress alone does: it repeats
// requests that the fabric refused before any pod saw them, unless the pods have
// too many already, see PodLimits. A micro-loop lasts
// about 30 ms and Envoy's back-off is jittered from 0, hence 4 × 20–40 ms
// (measured, reference R6).
func ingressRetry(c class, protect bool) *routev3.RetryPolicy {
	p := retryPolicy(retryOn(c)+",retriable-headers", 4, 20*time.Millisecond, 40*time.Millisecond, protect)
	forNow := headerMatches(headerError, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: final}})
	forNow.InvertMatch = true // without the header it does not match either
	p.RetriableHeaders = []*routev3.HeaderMatcher{forNow}
	return p
}

func retryOn(c class) string {
	const unseen = "connect-failure,refused-stream,reset-before-request"
	if c == classSafe {
		return unseen + ",reset"
	}
	return unseen
}

func retryPolicy(on string, times uint32, base, longest time.Duration, protect bool) *routev3.RetryPolicy {
	p := &routev3.RetryPolicy{
		RetryOn:    on,
		NumRetries: wrapperspb.UInt32(times),
		RetryBackOff: &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: durationpb.New(base),
			MaxInterval:  durationpb.New(longest),
		},
		HostSelectionRetryMaxAttempts: 3,
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name: "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
				TypedConfig: typed(&previoushostsv3.PreviousHostsPredicate{}),
			},
		}},
	}
	if protect {
		p.RetryPriority = &routev3.RetryPolicy_RetryPriority{
			Name: "envoy.retry_priorities.previous_priorities",
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{
				TypedConfig: typed(&previousprioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: 1}),
			},
		}
	}
	return p
}
