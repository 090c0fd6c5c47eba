package translator

import (
	"fmt"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// Filters say which replies are marked and which requests are logged.

// flagged is for replies with one of Envoy's response flags.
func flagged(flags ...string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
		ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: flags},
	}}
}

// replied is for replies with the status.
func replied(status uint32) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			// Envoy wants a key to change it by at run time; nobody sets it.
			Op: accesslogv3.ComparisonFilter_EQ, Value: &corev3.RuntimeUInt32{DefaultValue: status, RuntimeKey: "dmsc.status"},
		}},
	}}
}

// detailed is for replies that Envoy gave for this reason.
func detailed(reason string) *accesslogv3.AccessLogFilter {
	return cel(fmt.Sprintf("response.code_details == %q", reason))
}

// cel is for requests of which the expression is true.
func cel(expression string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name:       "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: typed(&celv3.ExpressionFilter{Expression: expression})},
		},
	}}
}

// sampled is for so many requests of a million, by their request id where they
// have one. The key changes it at run time, in Envoy's admin listener.
func sampled(key string, share uint32) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_RuntimeFilter{
		RuntimeFilter: &accesslogv3.RuntimeFilter{
			RuntimeKey:     key,
			PercentSampled: &typev3.FractionalPercent{Numerator: share, Denominator: typev3.FractionalPercent_MILLION},
		},
	}}
}

// noProbe is for requests that are not a neighbour's question whether this Envoy
// has a FIB.
func noProbe() *accesslogv3.AccessLogFilter {
	hello := headerMatches(headerPrefix, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: helloPrefix}})
	hello.InvertMatch, hello.TreatMissingHeaderAsEmpty = true, true
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_HeaderFilter{HeaderFilter: &accesslogv3.HeaderFilter{Header: hello}}}
}

func both(filters ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{Filters: filters}}}
}

func either(filters ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_OrFilter{OrFilter: &accesslogv3.OrFilter{Filters: filters}}}
}
