package xds

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// settle takes r as the answer to the response whose nonce it carries. Nothing
// happens if there is none: r then only changes the subscription.
func (st *stream) settle(t Type, r *request) {
	sub := &st.subs[t]
	i := slices.IndexFunc(sub.inflight, func(resp *response) bool { return resp.nonce == r.nonce })
	if i < 0 {
		return
	}
	resp := sub.inflight[i]
	sub.inflight = slices.Delete(sub.inflight, i, i+1)
	if r.refused {
		st.nacked(t, resp, r.words[:min(len(r.words), maxWords)])
	} else {
		st.acked(t, resp)
	}
	if t == Clusters {
		st.release()
	}
}

func (st *stream) acked(t Type, resp *response) {
	sub := &st.subs[t]
	for _, answered := range resp.items {
		name, res := answered.name, answered.resource
		if !sub.has(name) {
			continue // unsubscribed meanwhile
		}
		sub.hold(name, res)
		if it := sub.todo[name]; it != nil && it.nonce == resp.nonce {
			it.nonce = ""
			// A forced item was asked for after this response: the cluster has
			// changed in between and still waits for its endpoints.
			if t == Endpoints && res != nil && !it.force {
				st.warm(name, false)
			}
		}
		st.touch(t, name)
	}
	if t == Listeners {
		st.retryEnded()
	}
}

// nacked parks what the client's message names, or everything if it names
// nothing. The rest becomes due again: what the client has made of it is
// uncertain (Envoy takes the good clusters of a bad response, and the removals,
// and says so to nobody), and sending it again is right in any case.
func (st *stream) nacked(t Type, resp *response, message string) {
	sub := &st.subs[t]
	nack := &Nack{Type: t, Message: message, Version: st.want.version, Running: map[string]string{}, When: time.Now()}
	nack.Resources = blamed(message, resp.items)
	news := refusal{nack: nack}
	for _, refused := range resp.items {
		name, res := refused.name, refused.resource
		it := sub.todo[name]
		if it == nil || it.nonce != resp.nonce {
			continue // unsubscribed, or a newer one is on its way
		}
		it.nonce = ""
		if slices.Contains(nack.Resources, name) {
			if res != nil {
				news.versions = append(news.versions, res)
			}
			it.rejected = versionOf(res)
			st.cool(t, res, name)
		} else if h := cmp.Or(res, sub.held(name)); h != nil {
			unsure := *h
			unsure.version = uncertain
			sub.hold(name, &unsure)
		}
		st.touch(t, name)
	}
	for _, name := range nack.Resources {
		if h := sub.held(name); h != nil && h.version != uncertain {
			nack.Running[name] = h.version
		}
	}
	if t == Listeners {
		st.retryLater()
	}
	st.lastNack = nack
	st.log.Warn("envoy refused resources", "type_url", t.URL(), "resources", nack.Resources,
		"version", nack.Version, "nonce", resp.nonce, "err", message)
	st.unheard = append(st.unheard[max(0, len(st.unheard)-maxUnheard+1):], news) // told in takeStock, when Status knows
}

// refusal is a NACK, and the versions it is about.
type refusal struct {
	nack     *Nack
	versions []*resource
}

// complain reports the refusals that are the node's. The others wait until they
// are, or until the stream has nothing to complain of any more.
func (st *stream) complain() {
	st.unheard = slices.DeleteFunc(st.unheard, func(r refusal) bool {
		heard := st.node.heeds(st, r)
		if heard {
			st.emit(Event{Kind: Nacked, Nack: r.nack})
		}
		return heard
	})
}

// cool ends the wait for the endpoints of a refused resource.
func (st *stream) cool(t Type, res *resource, name string) {
	switch {
	case t == Endpoints:
		st.warm(name, false)
	case t == Clusters && res != nil:
		for _, ref := range res.refs {
			st.warm(ref.name, false)
		}
	}
}

// blamed returns the names that occur in message as whole words, or all.
func blamed(message string, items []sent) []string {
	var all, found []string
	for _, it := range items {
		all = append(all, it.name)
		if mentions(message, it.name) {
			found = append(found, it.name)
		}
	}
	if found == nil {
		return all
	}
	return found
}

func mentions(message, name string) bool {
	for rest := message; ; {
		i := strings.Index(rest, name)
		if i < 0 {
			return false
		}
		before, after := rest[:i], rest[i+len(name):]
		if (before == "" || !nameByte(before[len(before)-1])) && (after == "" || !nameByte(after[0])) {
			return true
		}
		rest = rest[i+1:]
	}
}

// nameByte: a name that is continued by one of these is another name. A dot or
// a colon is as likely to be Envoy's punctuation.
func nameByte(b byte) bool {
	return b == '/' || b == '-' || b == '_' || b == '~' ||
		'0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}
