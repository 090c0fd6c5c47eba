package node

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/internal/regular"
	"github.com/dmsc-mesh/dmsc/internal/watch"
	"github.com/dmsc-mesh/dmsc/translator"
)

// documents are what the operator's folder says of the border of the mesh.
type documents struct {
	files   *border.Set // the newest without a fault; never nil
	inForce *border.Set // files, but for what Envoy has refused of them; never nil
	handed  *border.Set // as last handed to Envoy
	// good is the newest that Envoy has accepted, as a whole; the state file has it,
	// too. Nil if there is none.
	good    *border.Set
	fault   error             // of what the folder has by now
	refused []refusedDocument // of files, by Envoy; readers hold it, so it is replaced and not changed
}

// refusedDocument is not sent again until it says something else, or there may
// be another Envoy.
type refusedDocument struct {
	border.Ref
	said border.Set
	text string // what became of it, and why
}

// DocumentsStatus is what is known of the documents of a gateway.
type DocumentsStatus struct {
	Path             string `json:"path"`
	HostAliases      int    `json:"host_aliases"`
	ExternalServices int    `json:"external_services"`
	// Refused says why the newest documents are not in force; "" when they are.
	Refused string `json:"refused"`
}

// loadDocuments reads the documents for the start. What is wrong with them is
// said then, before anything runs, as with the rest of the configuration; but a
// gateway that has served before, by last, serves on.
func (n *Node) loadDocuments(last *border.Set) error {
	d := &n.loop.documents
	d.files, d.inForce = &border.Set{}, &border.Set{}
	if n.cfg.Documents == "" {
		return nil
	}
	if last != nil && last.Validate() != nil {
		last = nil // another version of this program knew other rules
	}
	n.documents = watch.New(n.cfg.Documents)
	set, err := readDocuments(n.documents)
	if err != nil {
		if last == nil {
			return err
		}
		set, d.fault = last, err
	}
	d.files, d.inForce, d.good = set, set, last
	return nil
}

// readDocuments also looks at the files that documents name, and has changes of
// them noticed.
func readDocuments(w *watch.Watcher) (*border.Set, error) {
	set, err := border.Load(w.Path())
	if err != nil {
		return nil, err
	}
	w.Also(set.Files())
	set, err = set.CheckFiles(regular.ReadFile)
	return &set, err
}

// settle brings into force what the files say, but for what Envoy has refused and
// they still say: that stays as it was when Envoy accepted it.
func (d *documents) settle() {
	d.refused = slices.DeleteFunc(slices.Clone(d.refused), func(r refusedDocument) bool {
		return !reflect.DeepEqual(d.files.Of(r.Ref), r.said)
	})
	set := *d.files
	for _, r := range d.refused {
		set, _ = set.Revert(r.Ref, d.lastGood())
	}
	d.inForce = &set
}

func (d *documents) lastGood() border.Set {
	if d.good == nil {
		return border.Set{}
	}
	return *d.good
}

// refuse takes back what Envoy has refused of the documents that were sent. Each
// returns to what it said when Envoy accepted it, as part of a whole, and is left
// out if that is nothing. It returns what became of which, in words. A document
// that is another by now is judged by itself.
func (d *documents) refuse(origins []translator.Origin, sent *border.Set, words string) (fates []string) {
	type blamed struct {
		border.Ref
		origin translator.Origin
	}
	var all, changed []blamed
	good := d.lastGood()
	for _, o := range origins {
		for _, ref := range refsOf(o, *sent) {
			of := d.inForce.Of(ref)
			if !reflect.DeepEqual(of, sent.Of(ref)) || slices.ContainsFunc(all, func(b blamed) bool { return b.Ref == ref }) {
				continue
			}
			all = append(all, blamed{ref, o})
			if !reflect.DeepEqual(of, good.Of(ref)) {
				changed = append(changed, blamed{ref, o})
			}
		}
	}
	// Envoy's words may name a host of several documents: one that was good
	// before is to blame only if nothing else is new. It is good no more then.
	if len(changed) == 0 {
		changed = all
		for _, b := range all {
			good = good.Without(b.Ref)
		}
		d.good = &good
	}
	for _, b := range changed {
		_, kept := d.inForce.Revert(b.Ref, good)
		fate := "left out"
		if kept {
			fate = "kept at its last good version"
		}
		r := refusedDocument{b.Ref, d.files.Of(b.Ref), fmt.Sprintf("%s: refused by Envoy, and %s: %s", b.origin, fate, strings.Join(strings.Fields(words), " "))}
		d.refused = append(slices.DeleteFunc(slices.Clone(d.refused), func(o refusedDocument) bool { return o.Ref == r.Ref }), r)
		fates = append(fates, r.text)
	}
	d.settle()
	return fates
}

// suspended says what Envoy has refused and became of it.
func (d *documents) suspended() string {
	var texts []string
	for _, r := range d.refused {
		texts = append(texts, r.text)
	}
	return strings.Join(texts, "\n")
}

// ran notes documents that Envoy has accepted as part of a whole configuration. It
// reports whether they are other ones.
func (d *documents) ran(set *border.Set) bool {
	same := d.good != nil && reflect.DeepEqual(*d.good, *set)
	d.good = set
	return !same
}

// refsOf are the documents of a set that an origin stands for.
func refsOf(o translator.Origin, set border.Set) (refs []border.Ref) {
	for _, e := range set.Externals {
		if o.Kind == translator.OriginExternal && e.Name == o.Name {
			refs = append(refs, border.Ref{Kind: border.KindExternal, Name: e.Name})
		}
	}
	for _, a := range set.Aliases {
		if o.Kind == translator.OriginAlias && a.Host+a.Path == o.Name {
			refs = append(refs, border.Ref{Kind: border.KindAlias, Name: a.Name})
		}
	}
	return refs
}

// watchDocuments reads them again whenever they change.
func (n *Node) watchDocuments(ctx context.Context) error {
	n.documents.Run(ctx, func() {
		set, err := readDocuments(n.documents)
		_ = n.post(ctx, documentsRead{set, err})
	}, func(err error) {
		n.log.Warn("changes of the documents may be noticed late", "path", n.documents.Path(), "err", err)
	})
	return nil
}

// documentsRead: the documents have changed, for good or bad.
type documentsRead struct {
	set *border.Set
	err error
}

func (e documentsRead) apply(n *Node, now time.Time) {
	d := &n.loop.documents
	if d.fault = e.err; e.err != nil {
		n.log.Error("documents are refused; what is in force stays", "path", n.cfg.Documents, "err", e.err)
	} else {
		d.files = e.set
		d.settle()
		n.log.Info("documents are in force", "path", n.cfg.Documents, "host_aliases", len(d.inForce.Aliases), "external_services", len(d.inForce.Externals))
	}
	n.judgeDocuments()
}

// retryDocuments: what one Envoy has refused, the next may take.
func (n *Node) retryDocuments() {
	if d := &n.loop.documents; len(d.refused) > 0 {
		d.refused = nil
		d.settle()
		n.judgeDocuments()
	}
}

// judgeDocuments raises and clears what is to be said of the documents.
func (n *Node) judgeDocuments() {
	d, fault := &n.loop.documents, ""
	if d.fault != nil {
		fault = d.fault.Error()
	}
	n.standing("documents_refused", fault)
	n.standing("document_suspended", d.suspended())
}

func (n *Node) documentsStatus(d documents) *DocumentsStatus {
	if n.cfg.Documents == "" {
		return nil
	}
	s := &DocumentsStatus{Path: n.cfg.Documents, HostAliases: len(d.inForce.Aliases), ExternalServices: len(d.inForce.Externals)}
	if d.fault != nil {
		s.Refused = d.fault.Error()
	}
	if text := d.suspended(); text != "" {
		s.Refused = strings.TrimPrefix(s.Refused+"\n"+text, "\n")
	}
	return s
}
