package node

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// RefusalStatus is a version of a resource that Envoy has refused: it is parked,
// and Envoy goes on with what it had.
type RefusalStatus struct {
	Type     string `json:"type"` // clusters, endpoints, routes or listeners
	Resource string `json:"resource"`
	Message  string `json:"message"` // in Envoy's words
	Version  string `json:"version"` // of the configuration it was part of
	Running  bool   `json:"running"` // Envoy runs an older version of it
	// Since is the first refusal, and Times how often it was refused: a listener is
	// sent again, as its port may have been taken.
	Since    time.Time `json:"since"`
	SinceSec float64   `json:"since_seconds"`
	Times    int       `json:"times"`
	// Origins are what the resource was made from. Others are not listed.
	Origins []OriginStatus `json:"origins"`
	Others  int            `json:"other_origins"`
}

// OriginStatus is something that a resource was made from.
type OriginStatus struct {
	Kind string `json:"kind"` // prefix, link, policy, alias, external_service, setting
	Name string `json:"name"`
	Text string `json:"text"` // all of it in words
	// Records are those of the LSDB that say so, by key.
	Records []string `json:"records"`
}

const (
	// maxRefusals bounds what is remembered of them, maxWords each message.
	maxRefusals = 16
	maxWords    = 1024
)

// traced is a refusal with what it comes of.
type traced struct {
	RefusalStatus
	origins   []translator.Origin
	documents *border.Set // that it was made from
}

// trace finds out where what Envoy refused comes from. It runs on the goroutine
// of Envoy's stream: of 100,000 prefixes that takes a while.
func (n *Node) trace(nack *xds.Nack) (out []traced) {
	if nack == nil {
		return nil
	}
	p, pub := n.picture.Load(), n.handed.Load()
	if p == nil {
		p = &picture{view: &linkstate.View{}}
	}
	if _, pinned := n.envoy.Pin(string(n.cfg.Node)); pinned {
		pub = nil // it comes of what was then: nothing of now is to blame
	}
	for _, name := range nack.Resources[:min(len(nack.Resources), maxRefusals)] {
		r := RefusalStatus{
			Type: nack.Type.String(), Resource: name, Message: shortened(strings.TrimSpace(nack.Message), maxWords), Version: nack.Version,
			Running: nack.Running[name] != "", Since: nack.When.UTC(), Times: 1, Origins: []OriginStatus{},
		}
		var origins []translator.Origin
		documents := &border.Set{}
		if pub != nil {
			documents = pub.documents
			origins, r.Others = origin(pub, p.running, nack.Type, name, nack.Message)
			r.Origins = originStatuses(origins, p.view.Records, pub.rib)
		}
		out = append(out, traced{r, origins, documents})
	}
	return out
}

// noteRefusals remembers what Envoy refused.
func (n *Node) noteRefusals(refusals []traced) {
	all := slices.Clone(n.loop.refusals)
	for _, r := range refusals {
		i := slices.IndexFunc(all, func(o RefusalStatus) bool { return o.Type == r.Type && o.Resource == r.Resource })
		if i >= 0 {
			if all[i].Message == r.Message {
				r.Since, r.Times = all[i].Since, all[i].Times+1
			}
			all = slices.Delete(all, i, i+1)
		}
		all = append(all, r.RefusalStatus)
		n.log.Error("envoy refused a resource; see dmsc status", "type_url", r.Type, "resource", r.Resource,
			"version", r.Version, "keeps_older", r.Running, "times", r.Times, "origins", texts(r.Origins), "other_origins", r.Others, "err", r.Message)
		n.suspend(r)
	}
	n.loop.refusals = all[max(0, len(all)-maxRefusals):]
}

// origin asks the translator. A table of which Envoy's words name no part is
// refused for what is new in it, against what Envoy runs, nil for nothing.
func origin(pub, running *publication, t xds.Type, name, words string) (origins []translator.Origin, others int) {
	origins, others = pub.state.Origins(t.String(), name, words)
	if len(origins) > 0 || t != xds.Routes {
		return origins, others
	}
	if running == nil {
		running = &publication{}
	}
	for _, s := range pub.steering {
		if !slices.ContainsFunc(running.steering, func(o translator.Steering) bool { return o.PolicyID == s.PolicyID }) {
			origins = append(origins, translator.Origin{Kind: translator.OriginPolicy, Name: s.PolicyID, Prefix: s.Prefix})
		}
	}
	count, names := moved(running.rib, pub.rib)
	for _, name := range names {
		if p, err := dmsc.ParsePrefix(name); err == nil {
			o := translator.Origin{Kind: translator.OriginPrefix, Name: name, Prefix: p}
			if e := entry(pub.rib, p); e != nil {
				o.Nodes = e.Egress
			}
			origins = append(origins, o)
		}
	}
	others = count - len(names)
	if more := len(origins) - translator.MaxOrigins; more > 0 {
		origins, others = origins[:translator.MaxOrigins], others+more
	}
	return origins, others
}

// originStatuses adds the records that say so.
func originStatuses(origins []translator.Origin, records linkstate.Records, r *rib.RIB) []OriginStatus {
	out := []OriginStatus{}
	for _, o := range origins {
		st := OriginStatus{Kind: string(o.Kind), Name: o.Name, Text: o.String(), Records: []string{}}
		for _, key := range recordsOf(records, r, o) {
			st.Records = append(st.Records, key.String())
		}
		if len(st.Records) > 0 {
			st.Text += " [" + strings.Join(st.Records, " ") + "]"
		}
		out = append(out, st)
	}
	return out
}

// recordsOf are the records that an origin was heard by: of a link that of its
// far end, of a prefix those of who announces it, of a function those of its
// instances.
func recordsOf(records linkstate.Records, r *rib.RIB, o translator.Origin) (keys []linkstate.Key) {
	names := []dmsc.ServicePrefix{o.Prefix}
	if e := entry(r, o.Prefix); e != nil && e.Kind == rib.Function {
		names = e.Instances[:min(len(e.Instances), translator.MaxOrigins)]
	}
	for _, node := range o.Nodes {
		if o.Kind == translator.OriginLink {
			keys = append(keys, linkstate.Key{Origin: node, Type: linkstate.TypeNode})
			continue
		}
		for _, name := range names {
			key := linkstate.Key{Origin: node, Type: linkstate.TypePrefix, Fragment: linkstate.Bucket(name)}
			if announces(records.Get(key), name) && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return keys[:min(len(keys), translator.MaxOrigins)]
}

// announces reports whether a record, nil for none, has a prefix.
func announces(l *linkstate.LSA, name dmsc.ServicePrefix) bool {
	if l == nil || l.Tombstone {
		return false
	}
	c, ok := l.Content.(*linkstate.PrefixLSA)
	return ok && slices.ContainsFunc(c.Prefixes, func(p linkstate.Prefix) bool { return p.Prefix == name })
}

// suspend takes the policies among the origins out of force until the SCSC sends
// others, and the documents back until they are changed: the names of a policy go
// by plain SPF, and the rest is published.
func (n *Node) suspend(r traced) {
	for _, fate := range n.loop.documents.refuse(r.origins, r.documents, r.Message) {
		n.log.Error("document is suspended until it is changed: envoy refused it", "err", fate)
	}
	n.judgeDocuments()
	for _, o := range r.origins {
		if o.Kind != translator.OriginPolicy {
			continue
		}
		if n.loop.suspended == nil {
			n.loop.suspended = map[string]string{}
		}
		if _, known := n.loop.suspended[o.Name]; known { // by another resource of the same response
			continue
		}
		n.loop.suspended[o.Name] = "refused by Envoy: " + r.Message
		n.loop.unverified = true
		n.noteAlarm("policy_suspended", fmt.Sprintf("policy %s for %s is out of force here until the SCSC sends another: envoy refused it: %s", o.Name, o.Prefix, r.Message))
		n.log.Error("policy is suspended, its names go by plain SPF: envoy refused it", "policy", o.Name, "prefix", o.Prefix.String(), "err", r.Message)
	}
}

// parked are the refusals that stand: a refused version is forgotten when Envoy
// has accepted another.
func parked(refusals []RefusalStatus, s xds.Status, now time.Time) []RefusalStatus {
	out := []RefusalStatus{}
	for _, r := range refusals {
		for t, v := range s.Types {
			// A listener may just be on its way again.
			again := xds.Type(t) == xds.Listeners && v.Acked != v.Wanted
			if xds.Type(t).String() == r.Type && (again || slices.Contains(v.Rejected, r.Resource)) {
				r.SinceSec = now.Sub(r.Since).Seconds()
				out = append(out, r)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b RefusalStatus) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Resource, b.Resource))
	})
	return out
}

// texts are origins in words.
func texts(origins []OriginStatus) []string {
	out := []string{}
	for _, o := range origins {
		out = append(out, o.Text)
	}
	return out
}

// shortened is a text of at most so many bytes, for terminals and logs: what an
// Envoy or an operator said has lines, and no other control characters.
func shortened(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return ' '
		}
		return r
	}, s)
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
