package envoysim

import (
	"fmt"
	"slices"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	matchingv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/matching/v3"
	compositev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/composite/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	codecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// mutationsOf collects what filters do to the headers of requests and of
// responses. Those that a matcher has to choose are left out (checkMatched).
func mutationsOf(filters []*hcmv3.HttpFilter) (request, response []*mutationv3.HeaderMutation, err error) {
	for _, filter := range filters {
		f, err := filter.GetTypedConfig().UnmarshalNew()
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", filter.Name, err)
		}
		switch f := f.(type) {
		case *headermutationv3.HeaderMutation:
			request = append(request, f.GetMutations().GetRequestMutations()...)
			response = append(response, f.GetMutations().GetResponseMutations()...)
		case *matchingv3.ExtensionWithMatcher:
			if err := checkMatched(f); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", filter.Name, err)
			}
		case *routerv3.Router, *codecv3.UpstreamCodec, *ondemandv3.OnDemand: // the last only waits
		default:
			return nil, nil, fmt.Errorf("%s: filter %s is not understood", filter.Name, f.ProtoReflect().Descriptor().FullName())
		}
	}
	return request, response, nil
}

// checkMatched lets filters pass that a matcher chooses if they add to responses
// and do nothing else, as the trace does.
func checkMatched(f *matchingv3.ExtensionWithMatcher) error {
	inner := []*anypb.Any{f.GetExtensionConfig().GetTypedConfig()}
	for _, m := range f.GetXdsMatcher().GetMatcherList().GetMatchers() {
		action, err := m.GetOnMatch().GetAction().GetTypedConfig().UnmarshalNew()
		if err != nil {
			return err
		}
		if execute, ok := action.(*compositev3.ExecuteFilterAction); ok {
			inner = append(inner, execute.GetTypedConfig().GetTypedConfig())
		}
	}
	for _, packed := range inner {
		filter, err := packed.UnmarshalNew()
		if err != nil {
			return err
		}
		if _, ok := filter.(*compositev3.Composite); ok {
			continue // runs what the matcher says
		}
		mutation, ok := filter.(*headermutationv3.HeaderMutation)
		adds := func(m *mutationv3.HeaderMutation) bool { return m.GetAppend() != nil }
		if !ok || len(mutation.GetMutations().GetRequestMutations()) > 0 || !all(mutation.GetMutations().GetResponseMutations(), adds) {
			return fmt.Errorf("filter %s behind a matcher is not understood", filter.ProtoReflect().Descriptor().FullName())
		}
	}
	return nil
}

func all[T any](list []T, is func(T) bool) bool {
	return !slices.ContainsFunc(list, func(x T) bool { return !is(x) })
}

// filtered is what mutations leave of the headers of a response.
func filtered(headers Headers, mutations []*mutationv3.HeaderMutation) (Headers, error) {
	r, err := Request{Headers: headers}.mutate(mutations)
	return r.Headers, err
}
