package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/internal/watch"
	"github.com/dmsc-mesh/dmsc/translator"
)

// documents are what the operator's folder says of the border of the mesh.
type documents struct {
	inForce *border.Set // the last good one, never nil
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
	set, err := readDocuments(n.cfg.Documents)
	n.loop.documents.inForce = set
	return err
}

// readDocuments also looks at the files that documents name, because Envoy would
// refuse a cluster over them.
func readDocuments(path string) (*border.Set, error) {
	set, err := border.Load(path)
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, e := range set.Externals {
		if e.ServerName == "" {
			continue
		}
		pem, err := os.ReadFile(e.CA)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			err = fmt.Errorf("%s holds no certificate", e.CA)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("external service %s: tls.ca: %w", e.Name, err))
		}
	}
	return &set, errors.Join(faults...)
}

// leaveOut takes what Envoy has refused out of force, and keeps the rest.
func (d *documents) leaveOut(o translator.Origin, words string) {
	rest := *d.inForce
	rest.Externals = slices.DeleteFunc(slices.Clone(rest.Externals), func(e translator.External) bool {
		return o.Kind == translator.OriginExternal && e.Name == o.Name
	})
	rest.Aliases = slices.DeleteFunc(slices.Clone(rest.Aliases), func(a translator.Alias) bool {
		return o.Kind == translator.OriginAlias && a.Host+a.Path == o.Name
	})
	if len(rest.Externals)+len(rest.Aliases) < len(d.inForce.Externals)+len(d.inForce.Aliases) {
		d.inForce = &rest
		d.refused = errors.Join(d.refused, fmt.Errorf("%s: refused by Envoy, and left out: %s", o, strings.Join(strings.Fields(words), " ")))
	}
}

// watchDocuments reads them again whenever they change.
func (n *Node) watchDocuments(ctx context.Context) error {
	return n.documents.Run(ctx, func() {
		set, err := readDocuments(n.documents.Path())
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
