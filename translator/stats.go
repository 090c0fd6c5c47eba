package translator

import (
	statsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// statsConfig names what Envoy counts in our words, as labels of its Prometheus
// page, beside Envoy's own. All are bounded: there are at most 512 groups, one
// neighbour and one probe cluster per link, one local cluster per name
// delivered here, one policy per name steered here.
//
//	dmsc_kind      group, neighbour, probe, local, pool, demote, xds
//	dmsc_cluster   the cluster without "dmsc/": group/sr-1, local/a/1
//	dmsc_listener  ingress, fabric, demote, probe
//	dmsc_policy    the steered name
func statsConfig() *statsv3.StatsConfig {
	return &statsv3.StatsConfig{
		StatsTags: []*statsv3.TagSpecifier{
			// The first group of each is cut out of the name, the second is the label.
			statsTag("dmsc_kind", `^cluster\.(dmsc/([a-z]+)[^.]*\.)`),
			statsTag("dmsc_cluster", `^cluster\.(dmsc/([^.]+)\.)`),
			statsTag("dmsc_listener", `^(?:http|listener)\.(dmsc_([a-z]+)\.)`),
			statsTag("dmsc_policy", `^vhost\.(dmsc/policy/([^.]+)\.)`),
		},
		// What nobody asks for is not even made: counters of virtual clusters,
		// which no virtual host has, and of the second priority of circuit
		// breakers, which no route has.
		StatsMatcher: &statsv3.StatsMatcher{StatsMatcher: &statsv3.StatsMatcher_ExclusionList{
			ExclusionList: &matcherv3.ListStringMatcher{Patterns: []*matcherv3.StringMatcher{
				{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: ".vcluster."}},
				{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: ".circuit_breakers.high."}},
			}},
		}},
	}
}

func statsTag(name, regex string) *statsv3.TagSpecifier {
	return &statsv3.TagSpecifier{TagName: name, TagValue: &statsv3.TagSpecifier_Regex{Regex: regex}}
}
