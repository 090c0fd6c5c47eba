package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/internal/watch"
	"github.com/dmsc-mesh/dmsc/translator"
)

// documents are what the operator's folder says of the border of the mesh.
type documents struct {
	inForce *border.Set // the newest good one, less what Envoy has refused; never nil
	handed  *border.Set // as last handed to Envoy
	refused error       // why the newest ones are not in force
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
// said then, before anything runs, as with the rest of the configuration.
func (n *Node) loadDocuments() error {
	n.loop.documents.inForce = &border.Set{}
	if n.cfg.Documents == "" {
		return nil
	}
	n.documents = watch.New(n.cfg.Documents)
	set, err := readDocuments(n.documents)
	n.loop.documents.inForce = set
	return err
}

// readDocuments also looks at the files that documents name, and has changes of
// them noticed.
func readDocuments(w *watch.Watcher) (*border.Set, error) {
	set, err := border.Load(w.Path())
	if err != nil {
		return nil, err
	}
	w.Also(set.Files())
	return &set, set.CheckFiles(os.ReadFile)
}

// refuse takes back what Envoy has refused of the documents that were sent. Each
// returns to what it said in good, which Envoy has accepted as a whole, and is
// left out if that is nothing. It returns what became of which, in words. A
// document that is another by now is judged by itself.
func (d *documents) refuse(origins []translator.Origin, sent, good *border.Set, words string) (fates []string) {
	type blamed struct {
		border.Ref
		origin translator.Origin
	}
	var all, changed []blamed
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
	// before is to blame only if nothing else is new.
	if len(changed) == 0 {
		changed, good = all, &border.Set{}
	}
	for _, b := range changed {
		set, kept := d.inForce.Revert(b.Ref, *good)
		d.inForce = &set
		fate := "left out"
		if kept {
			fate = "kept at its last good version"
		}
		text := fmt.Sprintf("%s: refused by Envoy, and %s: %s", b.origin, fate, strings.Join(strings.Fields(words), " "))
		d.refused = errors.Join(d.refused, errors.New(text))
		fates = append(fates, text)
	}
	return fates
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
	return n.documents.Run(ctx, func() {
		set, err := readDocuments(n.documents)
		_ = n.post(ctx, documentsRead{set, err})
	}, func(err error) {
		n.log.Warn("changes of the documents may be noticed late", "path", n.documents.Path(), "err", err)
	})
}

// documentsRead: the documents have changed, for good or bad.
type documentsRead struct {
	set *border.Set
	err error
}

func (e documentsRead) apply(n *Node, now time.Time) {
	d := &n.loop.documents
	if d.refused = e.err; e.err != nil {
		n.noteAlarm("documents_refused", e.err.Error())
		n.log.Error("documents are refused; the last good ones stay in force", "path", n.cfg.Documents, "err", e.err)
		return
	}
	d.inForce = e.set
	n.log.Info("documents are in force", "path", n.cfg.Documents, "host_aliases", len(e.set.Aliases), "external_services", len(e.set.Externals))
}

func (n *Node) documentsStatus(d documents) *DocumentsStatus {
	if n.cfg.Documents == "" {
		return nil
	}
	s := &DocumentsStatus{Path: n.cfg.Documents, HostAliases: len(d.inForce.Aliases), ExternalServices: len(d.inForce.Externals)}
	if d.refused != nil {
		s.Refused = d.refused.Error()
	}
	return s
}
