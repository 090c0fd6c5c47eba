package envoysim

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/dmsc-mesh/dmsc"
)

// Network is a set of nodes whose hosts are each other's listeners. Fields may
// be set before the first walk.
type Network struct {
	// Dead says which hosts do not take connections, seen from a node; nil
	// means that all do.
	Dead func(from dmsc.NodeID, address string) bool
	// Ejected says which dead hosts outlier detection has noticed, where a
	// cluster has it, after so many tries of the request at any node; nil means
	// none. Active checks always have.
	Ejected func(from dmsc.NodeID, address string, tries int) bool
	// Pod answers for hosts that are no node's listener; nil means 200.
	Pod func(address string, r Request) Reply

	nodes   map[dmsc.NodeID]*Node
	sockets map[string]socket
	build   func(dmsc.NodeID) (*Node, error)
}

type socket struct {
	node     dmsc.NodeID
	listener string
}

// NewNetwork joins nodes by the addresses of their listeners. Two listeners on
// one address are an error.
func NewNetwork(nodes map[dmsc.NodeID]*Node) (*Network, error) {
	n := &Network{nodes: nodes, sockets: make(map[string]socket)}
	for _, id := range slices.Sorted(maps.Keys(nodes)) {
		for address, listener := range nodes[id].sockets {
			if other, taken := n.sockets[address]; taken {
				return nil, fmt.Errorf("listener %s of %s has the address %s of %s", listener, id, address, other.node)
			}
			n.sockets[address] = socket{id, listener}
		}
	}
	return n, nil
}

// Join is NewNetwork for Envoys that run, each on a machine of its own: they
// listen on 0.0.0.0, or all on one loopback address. It takes from at whose
// listener dmsc/fabric others reach at an address.
func Join(nodes map[dmsc.NodeID]*Node, at map[string]dmsc.NodeID) *Network {
	n := &Network{nodes: nodes, sockets: make(map[string]socket)}
	for address, id := range at {
		if nodes[id] != nil {
			n.sockets[address] = socket{id, "dmsc/fabric"}
		}
	}
	return n
}

// Lazy is a network whose nodes are built when a request first comes to them: of
// a thousand it passes few. It takes from at whose listener dmsc/fabric is at an
// address. Such a network is for one walk at a time.
func Lazy(at map[string]dmsc.NodeID, build func(dmsc.NodeID) (*Node, error)) *Network {
	n := &Network{nodes: make(map[dmsc.NodeID]*Node), sockets: make(map[string]socket), build: build}
	for address, id := range at {
		n.sockets[address] = socket{id, "dmsc/fabric"}
	}
	return n
}

// Listener finds whose listener is at an address.
func (n *Network) Listener(address string) (node dmsc.NodeID, listener string, ok bool) {
	s, ok := n.sockets[address]
	return s.node, s.listener, ok
}

// Step is one passage of a request through one Envoy, and what came of it.
type Step struct {
	Node     dmsc.NodeID
	Decision *Decision
	// Share is the index of the share taken, Tries what was tried within it.
	Share int
	Tries []Try
	// Reply is what this Envoy answers in the end.
	Reply Reply
	// Pod is the address of the host outside the network that gave the answer,
	// "" when an Envoy did; Request is what that host was sent, of which it gets
	// nothing but the bytes behind it if a CONNECT ends before (Terminated).
	Pod        string
	Request    Request
	Terminated bool
}

// Try is one attempt at a host: refused, or answered by the next Envoy (Next)
// or by a pod.
type Try struct {
	Host    Host
	Refused bool
	Next    *Step
	Reply   Reply // as it came from the host
}

// Choose takes one of several shares or hosts by their weights, as an index.
type Choose func(weights []uint32) int

// Heaviest chooses the greatest weight, of equal ones the first.
func Heaviest(weights []uint32) int {
	best := 0
	for i, w := range weights {
		if w > weights[best] {
			best = i
		}
	}
	return best
}

// maxPassages is far more than any request makes: what would take more goes
// round for ever.
const maxPassages = 10_000

// ErrEndless is the error of a walk that does not end.
var ErrEndless = errors.New("the request goes round without end")

// Walk follows a request from a listener of a node to its answer.
func (n *Network) Walk(node dmsc.NodeID, listener string, r Request, choose Choose) (*Step, error) {
	w := &walk{Network: n, choose: choose}
	return w.pass(node, listener, r)
}

// Outcomes walks a request in every way that the choices allow, one after the
// other. There may be very many: stop when enough is known.
func (n *Network) Outcomes(node dmsc.NodeID, listener string, r Request) iter.Seq2[*Step, error] {
	return func(yield func(*Step, error) bool) {
		var taken, options []int // at each choice of the walk
		for {
			at := 0
			step, err := n.Walk(node, listener, r, func(weights []uint32) int {
				if at == len(taken) {
					taken, options = append(taken, 0), append(options, len(weights))
				}
				at++
				return taken[at-1]
			})
			if !yield(step, err) {
				return
			}
			// The last choice with another option takes it; later ones are open again.
			for len(taken) > 0 && taken[len(taken)-1]+1 == options[len(taken)-1] {
				taken, options = taken[:len(taken)-1], options[:len(taken)-1]
			}
			if len(taken) == 0 {
				return
			}
			taken[len(taken)-1]++
		}
	}
}

type walk struct {
	*Network
	choose   Choose
	passages int
	tries    int
}

func (w *walk) pass(id dmsc.NodeID, listener string, r Request) (*Step, error) {
	if w.passages++; w.passages > maxPassages {
		return nil, ErrEndless
	}
	node := w.nodes[id]
	if node == nil && w.build != nil {
		var err error
		if node, err = w.build(id); err != nil {
			return nil, err
		}
		w.nodes[id] = node
	}
	if node == nil {
		return nil, fmt.Errorf("there is no node %q", id)
	}
	d, err := node.Route(listener, r)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", id, err)
	}
	s := &Step{Node: id, Decision: d}
	if d.Reply != nil {
		s.Reply = *d.Reply
		return s, nil
	}
	s.Share = pick(w.choose, d.Shares, func(s Share) uint32 { return s.Weight })
	if err := w.forward(s, node.managers[listener]); err != nil {
		return nil, err
	}
	return s, nil
}

// forward tries the hosts of a share until one answers and the answer is not
// to be repeated.
func (w *walk) forward(s *Step, m *manager) error {
	share := s.Decision.Shares[s.Share]
	retry := s.Decision.Retry
	if retry == nil {
		retry = new(Retry)
	}
	var used []Host
	for {
		candidates := candidates(w.seen(s.Node, share), used, retry)
		if len(candidates) == 0 { // Envoy does not repeat this
			reply, err := m.local(Reply{Status: 503, Flag: "UH"})
			if err == nil {
				s.Pod, s.Reply = "", *reply
			}
			return err
		}
		host := candidates[pick(w.choose, candidates, func(h Host) uint32 { return h.Weight })]
		used = append(used, host)
		w.tries++
		again, err := w.try(s, m, share, host, retry)
		if err != nil || !again || len(used) > int(retry.Times) {
			return err
		}
	}
}

// seen are the hosts of a share as the node sees them.
func (w *walk) seen(node dmsc.NodeID, share Share) []Host {
	if w.Dead == nil {
		return share.Hosts
	}
	hosts := slices.Clone(share.Hosts)
	for i, h := range hosts {
		if h.Internal || !w.Dead(node, h.Address) {
			continue
		}
		if h.Checked || share.outlier && w.Ejected != nil && w.Ejected(node, h.Address, w.tries) {
			hosts[i].Healthy = false
		}
	}
	return hosts
}

// candidates are the hosts that the next try may go to.
func candidates(hosts, used []Host, retry *Retry) []Host {
	passOver := make(map[uint32]bool)
	if retry.PreviousPriorities {
		for _, h := range used {
			// When all that has a healthy host is used up, it begins anew.
			if passOver[h.Priority] = true; len(eligible(hosts, passOver)) == 0 {
				clear(passOver)
			}
		}
	}
	found := eligible(hosts, passOver)
	if !retry.PreviousHosts {
		return found
	}
	fresh := slices.DeleteFunc(slices.Clone(found), func(h Host) bool { return slices.ContainsFunc(used, h.same) })
	if len(fresh) == 0 {
		return found
	}
	return fresh
}

// try sends the request of the step to a host. It reports whether the policy
// wants another try.
func (w *walk) try(s *Step, m *manager, share Share, host Host, retry *Retry) (again bool, err error) {
	t := Try{Host: host}
	defer func() { s.Tries = append(s.Tries, t) }()
	next := socket{s.Node, host.Address}
	inside := host.Internal
	if !inside {
		if t.Refused = w.Dead != nil && w.Dead(s.Node, host.Address); t.Refused {
			reply, err := m.local(Reply{Status: 503, Flag: "UF"})
			if err == nil {
				s.Pod, s.Reply = "", *reply
			}
			return retry.ConnectFailure, err
		}
		next, inside = w.sockets[host.Address]
	}
	var reply Reply
	if inside {
		if t.Next, err = w.pass(next.node, next.listener, share.Request); err != nil {
			return false, err
		}
		reply, s.Pod, s.Request, s.Terminated = t.Next.Reply, t.Next.Pod, t.Next.Request, t.Next.Terminated
	} else {
		reply, s.Pod, s.Request, s.Terminated = Reply{Status: 200}, host.Address, share.Request, share.Terminate
		if w.Pod != nil {
			reply = w.Pod(host.Address, share.Request)
		}
	}
	if reply.Headers, err = filtered(reply.Headers, share.filters.response); err != nil {
		return false, err
	}
	t.Reply = reply
	again = slices.ContainsFunc(retry.onHeaders, matcher(reply.Headers))
	s.Reply = Reply{Status: reply.Status}
	if s.Reply.Headers, err = editAll(reply.Headers, share.answer); err == nil {
		s.Reply.Headers, err = filtered(s.Reply.Headers, m.answer)
	}
	return again, err
}

func pick[T any](choose Choose, from []T, weight func(T) uint32) int {
	if len(from) == 1 {
		return 0
	}
	weights := make([]uint32, len(from))
	for i, x := range from {
		weights[i] = weight(x)
	}
	return choose(weights)
}
