package translator

import (
	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	matchingv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/matching/v3"
	compositev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/composite/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// hopFilter adds "dmsc-hop: <node>;us=<n>;path=<p>" to the response of a
// request that carries dmsc-trace: n is the time from the request's arrival to
// the first byte of the next hop's response, in microseconds; it is "-" when
// this node answered itself. p is the explicit path as it leaves this node, "-"
// without one. The innermost hop comes first.
func (b *builder) hopFilter() *hcmv3.HttpFilter {
	hop := headerOption(headerHop, string(b.Node)+";us=%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)%;path=%REQ(dmsc-path)%",
		corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
	return &hcmv3.HttpFilter{
		Name: "dmsc/hop",
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: typed(&matchingv3.ExtensionWithMatcher{
			ExtensionConfig: &corev3.TypedExtensionConfig{Name: "dmsc/hop/traced", TypedConfig: typed(&compositev3.Composite{})},
			XdsMatcher: executeIf(headerTrace, &corev3.TypedExtensionConfig{
				Name: "dmsc/hop/mutation",
				TypedConfig: typed(&headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{
					ResponseMutations: []*mutationv3.HeaderMutation{appendHeader(hop)},
				}}),
			}),
		})},
	}
}

// executeIf runs a filter for requests with the header. Leaving it out for those
// without would not do: a request that is refused before its headers are
// complete has none to decide by.
func executeIf(header string, filter *corev3.TypedExtensionConfig) *xdsmatcherv3.Matcher {
	present := &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
		Input: &xdscorev3.TypedExtensionConfig{
			Name:        "header",
			TypedConfig: typed(&matcherv3.HttpRequestHeaderMatchInput{HeaderName: header}),
		},
		Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: &xdsmatcherv3.StringMatcher{
			MatchPattern: &xdsmatcherv3.StringMatcher_SafeRegex{SafeRegex: &xdsmatcherv3.RegexMatcher{
				EngineType: &xdsmatcherv3.RegexMatcher_GoogleRe2{GoogleRe2: &xdsmatcherv3.RegexMatcher_GoogleRE2{}}, // rejected without
				Regex:      ".+",
			}},
		}},
	}
	return &xdsmatcherv3.Matcher{MatcherType: &xdsmatcherv3.Matcher_MatcherList_{MatcherList: &xdsmatcherv3.Matcher_MatcherList{
		Matchers: []*xdsmatcherv3.Matcher_MatcherList_FieldMatcher{{
			Predicate: &xdsmatcherv3.Matcher_MatcherList_Predicate{
				MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{SinglePredicate: present},
			},
			OnMatch: &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{Action: &xdscorev3.TypedExtensionConfig{
				Name:        "dmsc/hop/execute",
				TypedConfig: typed(&compositev3.ExecuteFilterAction{TypedConfig: filter}),
			}}},
		}},
	}}}
}
