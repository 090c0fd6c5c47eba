package translator

import (
	"github.com/dmsc-mesh/dmsc"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// The headers of the fabric (design §5).
const (
	// headerPrefix is the only one a client may set (besides headerTrace).
	headerPrefix = "dmsc-service-prefix"
	// headerKey is what a table is looked up by, with keyEnd after it: at the
	// ingress the prefix, in the fabric the path if there is one, else the prefix.
	// It lives within one node, which writes it over on arrival.
	headerKey = "dmsc-key"
	// headerVia lists the nodes a request has passed, as "<sg-1>,<sr-1>".
	headerVia = "dmsc-via"
	// headerPath is an explicit path ">sg-1>sr-1>sg-4>", after the class.
	headerPath = "dmsc-path"
	// headerInstance is the instance chosen for a function, beside a path only.
	headerInstance = "dmsc-instance"
	headerTrace    = "dmsc-trace"
	// headerDemoted marks, within one node, what went through its demote
	// listener. Its value is the key of the second time.
	headerDemoted = "dmsc-demoted"

	// headerError marks a reply to a request that no pod has seen, but for
	// codeNotUpgraded: "<code>; node=<id>".
	headerError      = "dmsc-error"
	headerHop        = "dmsc-hop"
	headerNode       = "dmsc-node"
	headerGeneration = "dmsc-generation"
)

// The codes of headerError.
const (
	codeLoop       = "loop"
	codeNoRoute    = "no-route"
	codeNoPrefix   = "no-prefix"
	codeNotAllowed = "not-allowed"
	codeNoHealthy  = "no-healthy"
	codeStarting   = "starting"

	// Those of a border and of names of another protocol.
	codeOverloaded  = "overloaded"
	codeTooLarge    = "headers-too-large"
	codeTimeout     = "headers-timeout"
	codeBadRequest  = "bad-request"
	codeUnsupported = "unsupported"
	codeConnectOnly = "connect-only"
	codeNoConnect   = "no-connect"

	// Those that begin with final are not asked again for. codeNotUpgraded is the
	// only one of an answer that a pod has given.
	final           = "not-"
	codeNotUpgraded = "not-upgraded"
	codeNotAdmitted = "not-admitted"
)

// What delivery removes: pods get the prefix and the via, and what they answer
// must not pass for an answer of the fabric.
var (
	hiddenFromPods   = []string{headerPath, headerInstance, headerTrace, headerDemoted}
	forbiddenForPods = []string{headerError, headerHop, headerNode, headerGeneration}
)

// hostPrefix starts the key of requests without a service prefix; ":" is
// outside the grammar, so no prefix looks like it.
const hostPrefix = "host:"

// keyEnd ends every key: "a/1/.", "a/1//." and "a/1/x/." of the names a/1, a/1/
// and a/1/x. A wildcard of Envoy stands for at least one character, so that
// without it a prefix would need three domains and not one (see domains).
const keyEnd = "/."

// setKey is the mutation that writes the key. No name at all is the key keyEnd,
// which is nobody's.
func setKey(of string) *mutationv3.HeaderMutation {
	return appendHeader(setHeader(headerKey, "%REQ("+of+")%"+keyEnd))
}

func setHeader(key, value string) *corev3.HeaderValueOption {
	return headerOption(key, value, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
}

func headerOption(key, value string, action corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: key, Value: value},
		AppendAction: action,
	}
}

func errorHeader(code string, node dmsc.NodeID) *corev3.HeaderValueOption {
	return setHeader(headerError, code+"; node="+string(node))
}

// appendVia makes every table record this node as passed.
func appendVia(node dmsc.NodeID) []*corev3.HeaderValueOption {
	return []*corev3.HeaderValueOption{
		headerOption(headerVia, viaMark(node), corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD),
	}
}

// viaMark is delimited on both sides: no node's mark contains another's.
func viaMark(node dmsc.NodeID) string { return "<" + string(node) + ">" }

// borderMutations are the trust border of the pod-facing listener. There is no
// "all but these" matcher, so the two headers a client may set are kept aside
// under names that no longer start with dmsc-; the ones a client chose for
// those names are removed first. %REQ()% reads the first line only, so a
// doubled header cannot smuggle a second value past the route.
func borderMutations() []*mutationv3.HeaderMutation {
	const keepPrefix, keepTrace = "x-dmsc-keep-0", "x-dmsc-keep-1"
	m := []*mutationv3.HeaderMutation{
		remove(keepPrefix),
		appendHeader(setHeader(keepPrefix, "%REQ("+headerPrefix+")%")),
		remove(keepTrace),
		appendHeader(setHeader(keepTrace, "%REQ("+headerTrace+")%")),
	}
	m = append(m, removeOurs()...)
	return append(m,
		appendHeader(setHeader(headerPrefix, "%REQ("+keepPrefix+")%")),
		remove(keepPrefix),
		appendHeader(setHeader(headerTrace, "%REQ("+keepTrace+")%")),
		remove(keepTrace),
		appendHeader(headerOption(headerPrefix, hostPrefix+"%REQ(:AUTHORITY)%", corev3.HeaderValueOption_ADD_IF_ABSENT)),
		setKey(headerPrefix),
	)
}

// removeOurs removes every header that means something to the fabric or to
// Envoy.
func removeOurs() []*mutationv3.HeaderMutation {
	return []*mutationv3.HeaderMutation{
		removePrefixed("dmsc-"),
		removePrefixed("x-envoy-"),
		// Many servers read _ as -.
		removePrefixed("dmsc_"),
		removePrefixed("x_envoy_"),
		removePrefixed("x_forwarded_"),
	}
}

// keyMutations set the key of the fabric table.
func keyMutations() []*mutationv3.HeaderMutation {
	return []*mutationv3.HeaderMutation{
		remove(headerDemoted),
		setKey(headerPath + "?" + headerPrefix),
	}
}

// demoteMutations make a request an ordinary one again. The via is removed and
// not overwritten: the route table appends this node after it. What comes here
// again, because the ordinary way is dead, is looked up as demotedAgain.
func demoteMutations() []*mutationv3.HeaderMutation {
	return []*mutationv3.HeaderMutation{
		remove(headerPath),
		remove(headerVia),
		remove(headerInstance),
		setKey(headerDemoted + "?" + headerPrefix),
		remove(headerDemoted),
		appendHeader(setHeader(headerDemoted, demotedAgain)),
	}
}

func earlyMutation(mutations []*mutationv3.HeaderMutation) []*corev3.TypedExtensionConfig {
	return []*corev3.TypedExtensionConfig{{
		Name:        "dmsc/border",
		TypedConfig: typed(&earlyv3.HeaderMutation{Mutations: mutations}),
	}}
}

func remove(header string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: header}}
}

func removePrefixed(prefix string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
		RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{
			KeyMatcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}},
		},
	}}
}

func appendHeader(option *corev3.HeaderValueOption) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: option}}
}

// typed packs an extension's configuration. Its bytes are deterministic, since
// versions are hashes of them.
func typed(m proto.Message) *anypb.Any {
	packed := new(anypb.Any)
	if err := anypb.MarshalFrom(packed, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(err) // only text that is not UTF-8 fails, and no such text is put in
	}
	return packed
}
