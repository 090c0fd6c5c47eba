package xds

import (
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// subscription is what one stream knows of its client for one type. Only the
// stream's goroutine touches it.
type subscription struct {
	asked    bool // the client has sent a request for this type
	named    bool // it has subscribed by name or "*": the legacy wildcard is over
	wildcard bool
	names    nameSet // explicit subscriptions
	changed  bool    // names, since asked has looked

	holding
	// todo has an entry for each name that the client does not hold as the
	// wanted set has it, if it subscribed to it or is going to.
	todo     map[string]*item
	most     int         // len(todo) at its largest
	spare    *item       // for the next entry
	inflight []*response // sent and not yet answered, oldest first
	nonce    string      // of the newest response
	claims   string      // state-of-the-world: the version the client came with
}

// item is one name that is not settled.
type item struct {
	nonce string    // of the newest response that carries it; "" = not in flight
	sent  *resource // what that response said; nil = removed
	force bool      // send even if the client holds this very version
	// rejected is the version the client refused: parked until the wanted
	// version is another one.
	rejected string
}

// response is what one message carried.
type response struct {
	nonce string
	items []sent // sorted by name
}

// uncertain is the version of what a client may have in one form, in another
// or not at all. It equals no other.
const uncertain = "uncertain"

// versionOf gives removal a version of its own, so that it can be compared
// and parked like any other.
func versionOf(r *resource) string {
	if r == nil {
		return "removed"
	}
	return r.version
}

func (i *item) parked(target *resource) bool {
	return i.rejected != "" && i.rejected == versionOf(target) && !i.force
}

// absent: there is nothing to give and nothing to take away, only a question
// to answer.
func (s *subscription) absent(name string, it *item, target *resource) bool {
	return target == nil && s.held(name) == nil && (it.nonce == "" || it.sent == nil)
}

func (s *subscription) has(name string) bool {
	return s.wildcard || s.names.has(name)
}

// expected: the client has not subscribed to this name of the wanted set, and
// is going to: it has not asked for clusters (or listeners) at all, or it is
// given one that names these endpoints (or this route table).
func (st *stream) expected(t Type, name string) bool {
	if st.want == nil || !st.serves[Clusters] && t == Endpoints || !st.serves[Listeners] && t == Routes {
		return false
	}
	taken := func(by Type) bool {
		return st.want.types[by].taken(ref{t, name}, func(taker string) bool {
			return st.subs[by].names.has(taker) || st.expected(by, taker)
		})
	}
	switch t {
	case Endpoints:
		return taken(Clusters)
	case Routes:
		return taken(Listeners)
	default:
		return (st.subs[t].wildcard || !st.subs[t].asked) && !st.want.types[t].onDemand[name]
	}
}

// touchNeeds is touch for what a resource needs of types that clients ask for
// by name.
func (st *stream) touchNeeds(r *resource) {
	if r == nil {
		return
	}
	for _, need := range r.refs {
		if need.typ != Clusters {
			st.touch(need.typ, need.name)
		}
	}
}

// touch compares what the client holds under a name with what is wanted, and
// files or strikes the item.
func (st *stream) touch(t Type, name string) {
	if !st.serves[t] {
		return
	}
	sub, target := &st.subs[t], st.target(t, name)
	it := sub.todo[name]
	switch {
	case !sub.has(name) && (target == nil || !st.expected(t, name)):
		sub.strike(name)
	case it != nil && (it.force || it.nonce != ""):
		// due anyway, or decided when the answer comes
	case versionOf(sub.held(name)) == versionOf(target):
		if target != nil {
			sub.hold(name, target) // also what the client brought along
		}
		sub.strike(name)
	case it == nil:
		sub.file(name)
	}
}

func (s *subscription) file(name string) *item {
	if s.todo == nil {
		s.todo = map[string]*item{}
	}
	it := s.spare
	if s.spare = nil; it == nil {
		it = &item{}
	}
	s.todo[name] = it
	s.most = max(s.most, len(s.todo))
	return it
}

func (s *subscription) strike(name string) {
	it := s.todo[name]
	if it == nil {
		return
	}
	*it = item{}
	s.spare = it
	delete(s.todo, name)
	if len(s.todo) == 0 && s.most > smallMap {
		s.todo, s.most = nil, 0
	}
}

// touchAll is touch for every name of a type that may matter.
func (st *stream) touchAll(t Type) {
	sub := &st.subs[t]
	if st.want != nil {
		// A state-of-the-world client names one version for all it holds. That
		// says what it holds only if it always asks for everything.
		if sub.claims == st.want.types[t].version && sub.wildcard {
			sub.base, sub.except = st.want.types[t], nil
		}
		sub.claims = ""
		for _, name := range st.want.types[t].names {
			st.touch(t, name)
		}
	}
	for name := range sub.except {
		st.touch(t, name)
	}
	for name := range sub.todo {
		st.touch(t, name)
	}
}

// typeOf is the type a request is about. On a stream of one type it need not
// say so.
func (st *stream) typeOf(r *request) (Type, bool) {
	if r.typeURL == "" && st.serves != allTypes {
		return Type(slices.Index(st.serves[:], true)), true
	}
	t, ok := typeOf(r.typeURL)
	return t, ok && st.serves[t]
}

// handle applies one request: the answer to a response, if its nonce is one
// of ours, and the change of the subscription.
func (st *stream) handle(r *request) error {
	t, ok := st.typeOf(r)
	if !ok {
		if !st.strange { // once: the log is not the client's
			st.log.Warn("client asks for a type that is not served", "type_url", r.typeURL[:min(len(r.typeURL), maxNodeID)])
		}
		st.strange = true
		return nil
	}
	if err := st.checkNames(t, r); err != nil {
		return err
	}
	if err := st.weigh(t, r); err != nil {
		return err
	}
	sub := &st.subs[t]
	st.settle(t, r)
	if r.whole {
		// The state-of-the-world protocol ignores what was asked in ignorance
		// of the newest response; the client will ask again.
		if sub.nonce != "" && r.nonce != sub.nonce {
			return nil
		}
		r.subscribe, r.unsubscribe = sub.changes(r.names)
	}
	first := !sub.asked
	sub.asked = true
	if first {
		sub.claims = r.version
		for name, version := range r.initial {
			sub.hold(name, &resource{name: name, version: version})
		}
		st.inherit(t, r.initial)
		for name := range r.initial {
			if st.want.get(t, name) == nil {
				st.brought += sizeOf(name)
			}
		}
	}
	if len(r.subscribe) > 0 {
		sub.named = true
	} else if first && (t == Clusters || t == Listeners) {
		sub.wildcard = true
	}
	st.subscribe(t, r.subscribe, first)
	st.unsubscribe(t, r.unsubscribe)
	if t == Clusters {
		st.release()
	}
	if sub.names.len() > st.srv.cfg.MaxNames {
		return status.Errorf(codes.ResourceExhausted, "more than %d names of type %s", st.srv.cfg.MaxNames, t)
	}
	if first {
		if !sub.wildcard {
			maps.DeleteFunc(sub.except, func(name string, _ *resource) bool { return !sub.has(name) })
		}
		st.touchAll(t)
		st.touchTaken(t)
	}
	return nil
}

// touchTaken follows a change of what the client asks of clusters or listeners.
func (st *stream) touchTaken(t Type) {
	switch t {
	case Clusters:
		st.touchAll(Endpoints)
	case Listeners:
		st.touchAll(Routes)
	}
}

// subscribe adds names. The answer to a name is due even if the client has the
// resource already, except for what it brought along from an earlier stream;
// but a cluster that was sent on this stream needs its endpoints again.
func (st *stream) subscribe(t Type, names []string, first bool) {
	sub := &st.subs[t]
	for _, name := range names {
		if name == "*" {
			if !sub.wildcard {
				sub.unbase()
				sub.wildcard = true
				st.touchAll(t)
				st.touchTaken(t)
			}
			continue
		}
		wanted := st.want.get(t, name)
		if wanted != nil {
			name = wanted.name // the same string for all
		}
		sub.keep(name, func() { sub.names.add(name) })
		sub.changed = true
		_, warming := st.warming[name]
		if !first || sub.held(name) == nil || t == Endpoints && warming {
			sub.demand(name)
		}
		st.touchNeeds(wanted)
	}
}

func (s *subscription) demand(name string) {
	it := s.todo[name]
	if it == nil {
		it = s.file(name)
	}
	it.force = true
}

// unsubscribe takes names away. Names that were never subscribed are ignored.
// Under a wildcard the client must be told what has become of the name: it is
// sent again, or as removed.
func (st *stream) unsubscribe(t Type, names []string) {
	sub := &st.subs[t]
	sub.changed = sub.changed || len(names) > 0
	for _, name := range names {
		switch {
		case name == "*" && sub.wildcard:
			sub.wildcard = false
			for _, held := range slices.Collect(maps.Keys(sub.except)) {
				st.forget(t, held)
			}
			for _, due := range slices.Collect(maps.Keys(sub.todo)) {
				st.forget(t, due)
			}
			st.touchTaken(t)
		case !sub.names.has(name):
		case sub.wildcard:
			sub.keep(name, func() { sub.names.remove(name) })
			sub.demand(name)
			st.touchNeeds(st.want.get(t, name))
		default:
			sub.names.remove(name)
			st.forget(t, name)
			st.touchNeeds(st.want.get(t, name))
		}
	}
}

// forget drops what is known of a name the client no longer subscribes to.
func (st *stream) forget(t Type, name string) {
	sub := &st.subs[t]
	if sub.has(name) {
		return
	}
	delete(sub.except, name)
	sub.strike(name)
	st.touch(t, name)
}

// changes turns the whole list of a state-of-the-world request into what it
// adds and takes away.
func (s *subscription) changes(names []string) (subscribe, unsubscribe []string) {
	if len(names) == 0 && !s.named {
		return nil, nil // the legacy wildcard, or nothing
	}
	asked := make(map[string]struct{}, len(names))
	for _, name := range names {
		asked[name] = struct{}{}
		had := s.names.has(name)
		if name == "*" && !s.wildcard || name != "*" && !had {
			subscribe = append(subscribe, name)
		}
	}
	// "*" first: a name that leaves with it need not be explained.
	if _, all := asked["*"]; s.wildcard && !all {
		unsubscribe = append(unsubscribe, "*")
	}
	for name := range s.names.all() {
		if _, still := asked[name]; !still {
			unsubscribe = append(unsubscribe, name)
		}
	}
	s.named = true
	return subscribe, unsubscribe
}
