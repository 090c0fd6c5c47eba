package envoysim

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// knowledge says of a message which of its fields this package interprets and
// which it may pass over, because they do not change where a request goes. A
// field in neither is refused: a simulator that ignores what it does not know
// is wrong without saying so.
type knowledge struct{ reads, ignores string }

// understood lists all messages that may occur in resources, by their full
// name. What is ignored is not looked into.
var understood = map[protoreflect.FullName]knowledge{
	"envoy.config.listener.v3.Listener": {
		"name address internal_listener filter_chains",
		"stat_prefix enable_reuse_port ignore_global_conn_limit bypass_overload_manager traffic_direction per_connection_buffer_limit_bytes",
	},
	"envoy.config.listener.v3.Listener.InternalListenerConfig": {},
	"envoy.config.listener.v3.FilterChain":                     {"filters", "name transport_socket transport_socket_connect_timeout"},
	"envoy.config.listener.v3.Filter":                          {"typed_config", "name"},
	"envoy.config.core.v3.Address":                             {"socket_address pipe envoy_internal_address", ""},
	"envoy.config.core.v3.SocketAddress":                       {"address port_value", ""},
	"envoy.config.core.v3.Pipe":                                {"path", "mode"},
	"envoy.config.core.v3.EnvoyInternalAddress":                {"server_listener_name", "endpoint_id"},

	"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager": {
		"rds route_config early_header_mutation_extensions local_reply_config http_filters upgrade_configs common_http_protocol_options" +
			" normalize_path merge_slashes strip_trailing_host_dot path_with_escaped_slashes_action",
		"stat_prefix scheme_header_transformation codec_type stream_idle_timeout request_timeout request_headers_timeout drain_timeout delayed_close_timeout" +
			" server_header_transformation generate_request_id preserve_external_request_id use_remote_address skip_xff_append" +
			" xff_num_trusted_hops internal_address_config scheme_header_transformation always_set_request_id_in_response http_protocol_options http2_protocol_options max_request_headers_kb" +
			" access_log access_log_options",
	},
	"envoy.extensions.filters.network.http_connection_manager.v3.Rds":                                 {"route_config_name", "config_source"},
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig": {"upgrade_type", ""},
	"envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig":                    {"mappers", "body_format"},
	"envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper":                      {"filter headers_to_add status_code", "body body_format_override"},
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter":                          {"typed_config", "name"},
	"envoy.config.core.v3.HttpProtocolOptions":                                                        {"headers_with_underscores_action", "max_headers_count idle_timeout max_connection_duration max_requests_per_connection"},
	"envoy.config.accesslog.v3.AccessLogFilter":                                                       {"response_flag_filter status_code_filter extension_filter", ""},
	"envoy.config.accesslog.v3.ResponseFlagFilter":                                                    {"flags", ""},
	"envoy.config.accesslog.v3.StatusCodeFilter":                                                      {"comparison", ""},
	"envoy.config.accesslog.v3.ComparisonFilter":                                                      {"op value", ""},
	"envoy.config.core.v3.RuntimeUInt32":                                                              {"default_value", "runtime_key"},
	"envoy.config.accesslog.v3.ExtensionFilter":                                                       {"typed_config", "name"},
	"envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter":                                 {"expression", ""},
	"envoy.config.core.v3.TypedExtensionConfig":                                                       {"typed_config", "name"},
	"envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation":                   {"mutations", ""},
	"envoy.config.common.mutation_rules.v3.HeaderMutation":                                            {"remove append remove_on_match", ""},
	"envoy.config.common.mutation_rules.v3.HeaderMutation.RemoveOnMatch":                              {"key_matcher", ""},
	"envoy.type.matcher.v3.RegexMatchAndSubstitute":                                                   {"pattern substitution", ""},
	"envoy.type.matcher.v3.RegexMatcher":                                                              {"regex", "google_re2"},
	"envoy.type.matcher.v3.StringMatcher":                                                             {"exact prefix suffix contains safe_regex ignore_case", ""},
	"envoy.config.core.v3.HeaderValueOption":                                                          {"header append_action", ""},
	"envoy.config.core.v3.HeaderValue":                                                                {"key value", ""},

	// The filters. A matcher chooses whether one runs.
	"envoy.extensions.filters.http.on_demand.v3.OnDemand":                             {"", "odcds"},
	"envoy.extensions.filters.http.router.v3.Router":                                  {"", "suppress_envoy_headers dynamic_stats start_child_span upstream_log"},
	"envoy.extensions.common.matching.v3.ExtensionWithMatcher":                        {"extension_config xds_matcher", ""},
	"envoy.extensions.filters.http.composite.v3.Composite":                            {},
	"envoy.extensions.filters.http.composite.v3.ExecuteFilterAction":                  {"typed_config", ""},
	"envoy.extensions.filters.common.matcher.action.v3.SkipFilter":                    {},
	"xds.type.matcher.v3.Matcher":                                                     {"matcher_list", ""},
	"xds.type.matcher.v3.Matcher.MatcherList":                                         {"matchers", ""},
	"xds.type.matcher.v3.Matcher.MatcherList.FieldMatcher":                            {"on_match", "predicate"},
	"xds.type.matcher.v3.Matcher.OnMatch":                                             {"action", ""},
	"xds.core.v3.TypedExtensionConfig":                                                {"typed_config", "name"},
	"envoy.extensions.filters.http.header_mutation.v3.HeaderMutation":                 {"mutations", ""},
	"envoy.extensions.filters.http.header_mutation.v3.Mutations":                      {"request_mutations response_mutations", ""},
	"envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec":                   {},
	"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":                          {"http_filters", "explicit_http_config"},
	"envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate":            {},
	"envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig": {"update_frequency", ""},

	"envoy.config.route.v3.RouteConfiguration": {
		"name vhost_header virtual_hosts request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove",
		"validate_clusters max_direct_response_body_size_bytes",
	},
	"envoy.config.route.v3.VirtualHost": {
		"name domains routes retry_policy request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove",
		"per_request_buffer_limit_bytes request_body_buffer_limit metadata",
	},
	"envoy.config.route.v3.Route": {
		"match route direct_response request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove",
		"name metadata decorator stat_prefix per_request_buffer_limit_bytes request_body_buffer_limit",
	},
	"envoy.config.route.v3.RouteMatch":                              {"prefix path path_separated_prefix safe_regex connect_matcher headers", ""},
	"envoy.config.route.v3.RouteMatch.ConnectMatcher":               {},
	"envoy.config.route.v3.HeaderMatcher":                           {"name string_match present_match invert_match", ""},
	"envoy.config.route.v3.DirectResponseAction":                    {"status", "body"},
	"envoy.config.route.v3.RouteAction":                             {"cluster weighted_clusters upgrade_configs retry_policy regex_rewrite", "timeout idle_timeout"},
	"envoy.config.route.v3.RouteAction.UpgradeConfig":               {"upgrade_type connect_config", ""},
	"envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig": {},
	"envoy.config.route.v3.WeightedCluster":                         {"clusters", ""},
	"envoy.config.route.v3.WeightedCluster.ClusterWeight":           {"name weight request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove", ""},
	"envoy.config.route.v3.RetryPolicy":                             {"retry_on num_retries retriable_headers retriable_request_headers retry_priority retry_host_predicate host_selection_retry_max_attempts", "retry_back_off"},
	"envoy.config.route.v3.RetryPolicy.RetryPriority":               {"typed_config", "name"},
	"envoy.config.route.v3.RetryPolicy.RetryHostPredicate":          {"typed_config", "name"},

	"envoy.config.cluster.v3.Cluster": {
		"name type cluster_type load_assignment eds_cluster_config lb_policy common_lb_config health_checks outlier_detection" +
			" typed_extension_protocol_options",
		"connect_timeout ignore_health_on_host_removal circuit_breakers wait_for_warm_on_init transport_socket" +
			" transport_socket_matches track_cluster_stats per_connection_buffer_limit_bytes alt_stat_name metadata" +
			" close_connections_on_host_health_failure",
	},
	"envoy.config.cluster.v3.Cluster.CustomClusterType":     {"typed_config", "name"},
	"envoy.extensions.clusters.dns.v3.DnsCluster":           {"", "*"},
	"envoy.config.cluster.v3.Cluster.EdsClusterConfig":      {"", "eds_config"},
	"envoy.config.cluster.v3.Cluster.CommonLbConfig":        {"healthy_panic_threshold", "update_merge_window"},
	"envoy.type.v3.Percent":                                 {"value", ""},
	"envoy.config.cluster.v3.OutlierDetection":              {"", "*"},
	"envoy.config.core.v3.HealthCheck":                      {"", "*"},
	"envoy.config.endpoint.v3.ClusterLoadAssignment":        {"cluster_name endpoints policy", ""},
	"envoy.config.endpoint.v3.ClusterLoadAssignment.Policy": {"overprovisioning_factor", ""},
	"envoy.config.endpoint.v3.LocalityLbEndpoints":          {"priority lb_endpoints", "locality load_balancing_weight"},
	"envoy.config.endpoint.v3.LbEndpoint":                   {"endpoint health_status load_balancing_weight", "metadata"},
	"envoy.config.endpoint.v3.Endpoint":                     {"address health_check_config", "hostname"},
	"envoy.config.endpoint.v3.Endpoint.HealthCheckConfig":   {"disable_active_health_check", ""},

	"google.protobuf.BoolValue":   {"value", ""},
	"google.protobuf.UInt32Value": {"value", ""},
}

// refuse names each field of a resource that is not understood.
func refuse(kind, name string, m proto.Message) error {
	var errs []error
	refuseMessage(m.ProtoReflect(), "", func(field, reason string) {
		errs = append(errs, fmt.Errorf("%s %s: %s%s", kind, name, strings.TrimPrefix(field, "."), reason))
	})
	return errors.Join(errs...)
}

func refuseMessage(m protoreflect.Message, path string, report func(field, reason string)) {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil {
			report(path, ": "+err.Error())
			return
		}
		refuseMessage(inner.ProtoReflect(), path, report)
		return
	}
	name := m.Descriptor().FullName()
	k, ok := understood[name]
	if !ok {
		report(path, fmt.Sprintf(": a %s is not understood", name))
		return
	}
	if len(m.GetUnknown()) > 0 {
		report(path, ": has fields that this version of Envoy's API does not know")
	}
	ignored, read := strings.Fields(k.ignores), strings.Fields(k.reads)
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := path + "." + string(field.Name())
		switch {
		case k.ignores == "*" || slices.Contains(ignored, string(field.Name())):
		case !slices.Contains(read, string(field.Name())):
			report(at, " is not understood")
		case field.IsMap() && field.MapValue().Message() != nil:
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				refuseMessage(v.Message(), at+"["+key.String()+"]", report)
				return true
			})
		case field.Message() == nil:
		case field.IsList():
			for i := range v.List().Len() {
				refuseMessage(v.List().Get(i).Message(), fmt.Sprintf("%s[%d]", at, i), report)
			}
		default:
			refuseMessage(v.Message(), at, report)
		}
		return true
	})
}
