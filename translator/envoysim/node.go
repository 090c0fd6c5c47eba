package envoysim

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc/translator"
)

// Node is one Envoy with its resources.
type Node struct {
	managers map[string]*manager // by listener
	tables   map[string]*table
	clusters map[string]*cluster
	sockets  map[string]string // listener of an address, "IP:port" or "unix:///path"
}

// manager is the HTTP connection manager of a listener.
type manager struct {
	*hcmv3.HttpConnectionManager
	border  []*mutationv3.HeaderMutation
	answer  []*mutationv3.HeaderMutation
	table   string
	connect bool // CONNECT is let in
}

// New makes a Node of resources. It refuses, naming the field, whatever it
// would have to guess the meaning of; the error joins all such places.
func New(r translator.Resources) (*Node, error) {
	n := &Node{
		managers: make(map[string]*manager),
		tables:   make(map[string]*table),
		clusters: make(map[string]*cluster),
		sockets:  make(map[string]string),
	}
	err := errors.Join(
		load("listener", r.Listeners, n.addListener),
		load("route table", r.Routes, n.addTable),
		load("cluster", r.Clusters, n.addCluster),
		load("endpoints", r.Endpoints, n.addEndpoints),
	)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func load[M proto.Message](kind string, resources map[string]M, add func(M) error) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(resources)) {
		err := refuse(kind, name, resources[name])
		if err == nil {
			if err = add(resources[name]); err != nil {
				err = fmt.Errorf("%s %s: %w", kind, name, err)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Listeners are the names of the node's listeners, sorted.
func (n *Node) Listeners() []string { return slices.Sorted(maps.Keys(n.managers)) }

func (n *Node) addListener(l *listenerv3.Listener) error {
	if len(l.FilterChains) != 1 || len(l.FilterChains[0].Filters) != 1 {
		return errors.New("filter_chains: anything but one chain with one filter is not understood")
	}
	m := &manager{HttpConnectionManager: new(hcmv3.HttpConnectionManager)}
	if err := l.FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(m.HttpConnectionManager); err != nil {
		return fmt.Errorf("filter_chains: %w", err)
	}
	for _, extension := range m.EarlyHeaderMutationExtensions {
		var early earlyv3.HeaderMutation
		if err := extension.TypedConfig.UnmarshalTo(&early); err != nil {
			return fmt.Errorf("early_header_mutation_extensions: %w", err)
		}
		m.border = append(m.border, early.Mutations...)
	}
	for i, mapper := range m.GetLocalReplyConfig().GetMappers() {
		if err := checkFilter(mapper.Filter); err != nil {
			return fmt.Errorf("local_reply_config.mappers[%d].filter: %w", i, err)
		}
	}
	switch m.PathWithEscapedSlashesAction {
	case hcmv3.HttpConnectionManager_IMPLEMENTATION_SPECIFIC_DEFAULT, hcmv3.HttpConnectionManager_KEEP_UNCHANGED, hcmv3.HttpConnectionManager_REJECT_REQUEST:
	default:
		return fmt.Errorf("path_with_escaped_slashes_action: %s is not understood", m.PathWithEscapedSlashesAction)
	}
	var request []*mutationv3.HeaderMutation
	var err error
	if request, m.answer, err = mutationsOf(m.HttpFilters); err != nil {
		return fmt.Errorf("http_filters: %w", err)
	}
	if len(request) > 0 {
		return errors.New("http_filters: request_mutations are not understood")
	}
	for _, upgrade := range m.UpgradeConfigs {
		m.connect = m.connect || upgrade.UpgradeType == "CONNECT"
	}
	m.table = m.GetRds().GetRouteConfigName()
	if inline := m.GetRouteConfig(); inline != nil {
		m.table = inline.Name
		if n.tables[inline.Name] == nil {
			if err := n.addTable(inline); err != nil {
				return fmt.Errorf("route_config: %w", err)
			}
		}
	}
	n.managers[l.Name] = m
	if l.GetInternalListener() == nil {
		n.sockets[translator.AddressText(l.Address)] = l.Name
	}
	return nil
}

func (n *Node) manager(listener string) (*manager, error) {
	m := n.managers[listener]
	if m == nil {
		return nil, fmt.Errorf("there is no listener %q, only %q", listener, n.Listeners())
	}
	return m, nil
}
