package envoysim

import (
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Decision is what one Envoy does with a request.
type Decision struct {
	Listener string
	Table    string
	// Key is what the virtual host was looked up by, Domain the one that
	// matched; both "" when there is no virtual host for the request.
	Key         string
	VirtualHost string
	Domain      string
	// Route is the index of the route within the virtual host, -1 for none.
	Route int
	// Condition is the match of that route, for people.
	Condition string
	// Reply is set when Envoy answers itself, Shares when it forwards.
	Reply  *Reply
	Shares []Share
	Retry  *Retry
}

// Share is one cluster that requests go to, with its weight among the shares.
type Share struct {
	Cluster string
	Weight  uint32
	// Request is as it leaves this node.
	Request Request
	// Hosts are sorted by priority.
	Hosts []Host
	// Terminate: a CONNECT ends here, the host gets its bytes.
	Terminate bool

	outlier bool
	answer  []edits // to the response, in order
	filters upstreamFilters
}

// Retry is when a request is tried again within its cluster.
type Retry struct {
	Times uint32
	// ConnectFailure: when the host cannot be connected to.
	ConnectFailure bool
	// OnHeaders: when the response has what one of these asks for.
	OnHeaders []string
	// PreviousHosts are avoided while there are others, PreviousPriorities
	// passed over until all have been used.
	PreviousHosts      bool
	PreviousPriorities bool

	onHeaders []*routev3.HeaderMatcher
}

// edits are the changes that one level of the configuration makes to headers.
type edits struct {
	remove []string
	add    []*corev3.HeaderValueOption
}

// Route decides on a request that arrives at a listener. An error means that
// there is no such listener or that the configuration is not understood.
func (n *Node) Route(listener string, r Request) (*Decision, error) {
	m, err := n.manager(listener)
	if err != nil {
		return nil, err
	}
	if r.Path == "" && !r.isConnect() {
		r.Path = "/"
	}
	r.Headers = slices.Clone(r.Headers)
	for i, h := range r.Headers {
		r.Headers[i].Value = strings.Trim(h.Value, " \t") // no part of it (RFC 9110 §5.5)
	}
	d := &Decision{Listener: listener, Table: m.table, Route: -1}
	if d.Reply, err = m.admit(&r); d.Reply != nil || err != nil {
		return d, err
	}
	t := n.tables[m.table]
	if t == nil {
		d.Reply, err = m.local(Reply{Status: 404, Flag: "NR"})
		return d, err
	}
	host, domain := t.find(r)
	d.Key = t.key(r)
	if host != nil {
		d.VirtualHost, d.Domain = host.Name, domain
		var route *routev3.Route
		if d.Route, route = routeOf(host, r); route != nil {
			d.Condition = condition(route.Match)
			return d, n.follow(d, m, r, t, host, route)
		}
	}
	d.Reply, err = m.local(Reply{Status: 404, Flag: "NR"})
	return d, err
}

// admit is what happens before a route is looked for. A reply ends the request.
func (m *manager) admit(r *Request) (*Reply, error) {
	underscore := func(h Header) bool { return strings.Contains(h.Name, "_") }
	switch m.GetCommonHttpProtocolOptions().GetHeadersWithUnderscoresAction() {
	case corev3.HttpProtocolOptions_REJECT_REQUEST:
		if slices.ContainsFunc(r.Headers, underscore) {
			return m.local(Reply{Status: 400})
		}
	case corev3.HttpProtocolOptions_DROP_HEADER:
		r.Headers = r.Headers.without(func(name string) bool { return strings.Contains(name, "_") })
	}
	if r.isConnect() && !m.connect {
		return m.local(Reply{Status: 403})
	}
	if !r.isConnect() && !strings.HasPrefix(r.path(), "/") {
		return m.local(Reply{Status: 404, Details: "absolute_path_rejected"}) // OPTIONS *
	}
	if !r.isConnect() {
		reply, err := m.normalize(r)
		if reply != nil || err != nil {
			return reply, err
		}
	}
	if m.StripTrailingHostDot {
		r.Authority = withoutDot(r.Authority)
	}
	var err error
	if *r, err = r.mutate(m.border); err != nil {
		return nil, fmt.Errorf("early header mutation: %w", err)
	}
	return nil, nil
}

// follow does what the route says. Headers are changed by the most specific
// level first.
func (n *Node) follow(d *Decision, m *manager, r Request, t *table, host *routev3.VirtualHost, route *routev3.Route) error {
	answer := []edits{
		{route.ResponseHeadersToRemove, route.ResponseHeadersToAdd},
		{host.ResponseHeadersToRemove, host.ResponseHeadersToAdd},
		{t.ResponseHeadersToRemove, t.ResponseHeadersToAdd},
	}
	if direct := route.GetDirectResponse(); direct != nil {
		headers, err := editAll(nil, answer)
		if err == nil {
			d.Reply, err = m.local(Reply{Status: direct.Status, Headers: headers})
		}
		return err
	}
	action := route.GetRoute()
	var err error
	for _, c := range clustersOf(action) {
		share := Share{Cluster: c.Name, Weight: c.Weight.GetValue(), Request: r}
		share.answer = append([]edits{{c.ResponseHeadersToRemove, c.ResponseHeadersToAdd}}, answer...)
		for _, level := range []edits{
			{c.RequestHeadersToRemove, c.RequestHeadersToAdd},
			{route.RequestHeadersToRemove, route.RequestHeadersToAdd},
			{host.RequestHeadersToRemove, host.RequestHeadersToAdd},
			{t.RequestHeadersToRemove, t.RequestHeadersToAdd},
		} {
			if share.Request, err = share.Request.edit(level.remove, level.add); err != nil {
				return fmt.Errorf("table %s: virtual host %s: %w", t.Name, host.Name, err)
			}
		}
		if known := n.clusters[c.Name]; known != nil {
			share.Hosts, share.outlier, share.filters = known.hosts, known.outlier, known.filters
		} else if len(clustersOf(action)) == 1 {
			d.Reply, err = m.local(Reply{Status: 503, Flag: "NC"})
			return err
		} else {
			return fmt.Errorf("table %s: virtual host %s: there is no cluster %q", t.Name, host.Name, c.Name)
		}
		if share.Request.Path, err = rewrite(action, share.Request.Path); err != nil {
			return err
		}
		if share.Request, err = share.Request.mutate(share.filters.request); err != nil {
			return fmt.Errorf("cluster %s: %w", c.Name, err)
		}
		share.Terminate = r.isConnect() && slices.ContainsFunc(action.UpgradeConfigs, func(u *routev3.RouteAction_UpgradeConfig) bool {
			return u.UpgradeType == "CONNECT" && u.ConnectConfig != nil
		})
		d.Shares = append(d.Shares, share)
	}
	policy := action.RetryPolicy
	if policy == nil {
		policy = host.RetryPolicy
	}
	if asks := policy.GetRetriableRequestHeaders(); len(asks) == 0 || slices.ContainsFunc(asks, r.meets) {
		d.Retry = retryOf(policy)
	}
	return nil
}

// clustersOf are the clusters of a route with their weights; those of weight 0
// get nothing.
func clustersOf(action *routev3.RouteAction) []*routev3.WeightedCluster_ClusterWeight {
	if split := action.GetWeightedClusters(); split != nil {
		return slices.DeleteFunc(slices.Clone(split.Clusters), func(c *routev3.WeightedCluster_ClusterWeight) bool { return c.Weight.GetValue() == 0 })
	}
	return []*routev3.WeightedCluster_ClusterWeight{{Name: action.GetCluster(), Weight: wrapperspb.UInt32(1)}}
}

// understoodRetries are the conditions of retries. Of these the simulator
// knows hosts that cannot be connected to and responses; none of its hosts
// resets a stream.
var understoodRetries = []string{"connect-failure", "refused-stream", "reset-before-request", "reset", "retriable-headers"}

func checkRetry(p *routev3.RetryPolicy) error {
	for on := range strings.SplitSeq(p.GetRetryOn(), ",") {
		if p != nil && !slices.Contains(understoodRetries, on) {
			return fmt.Errorf("retry_policy.retry_on: %q is not understood", on)
		}
	}
	return nil
}

// meets reports whether a condition on headers holds, pseudo headers included.
func (r Request) meets(m *routev3.HeaderMatcher) bool {
	headers := r.Headers
	if value, ok := r.header(m.Name); ok && strings.HasPrefix(m.Name, ":") {
		headers = Headers{{m.Name, value}}
	}
	return holds(m, headers)
}

func retryOf(p *routev3.RetryPolicy) *Retry {
	if p == nil {
		return nil
	}
	retry := &Retry{Times: 1, PreviousHosts: len(p.RetryHostPredicate) > 0, PreviousPriorities: p.RetryPriority != nil}
	if p.NumRetries != nil {
		retry.Times = p.NumRetries.Value
	}
	for on := range strings.SplitSeq(p.RetryOn, ",") {
		switch on {
		case "connect-failure":
			retry.ConnectFailure = true
		case "retriable-headers":
			retry.onHeaders = p.RetriableHeaders
			for _, h := range p.RetriableHeaders {
				retry.OnHeaders = append(retry.OnHeaders, headerCondition(h))
			}
		}
	}
	return retry
}

// respondWith edits the headers of a response. Its values are plain text: what
// Envoy would fill in is refused.
func respondWith(headers Headers, remove []string, add []*corev3.HeaderValueOption) (Headers, error) {
	for _, name := range remove {
		headers = headers.remove(name)
	}
	for _, option := range add {
		if strings.Contains(option.Header.Value, "%") {
			return nil, fmt.Errorf("response header %s: format %q is not understood", option.Header.Key, option.Header.Value)
		}
		headers = headers.apply(option, option.Header.Value)
	}
	return headers, nil
}

func editAll(headers Headers, levels []edits) (Headers, error) {
	var err error
	for _, level := range levels {
		if headers, err = respondWith(headers, level.remove, level.add); err != nil {
			return nil, err
		}
	}
	return headers, nil
}
