package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/internal/durable"
	"github.com/dmsc-mesh/dmsc/internal/regular"
	"github.com/dmsc-mesh/dmsc/internal/watch"
	"github.com/dmsc-mesh/dmsc/translator"
)

// outside is what is known of the listener for clients outside the mesh. Its
// certificate goes to Envoy through a file of ours, which only ever holds a pair
// that is good: Envoy keeps the last one whatever becomes of the operator's
// files, also when it or the agent starts again.
type outside struct {
	served  border.Pair // what the file for Envoy holds; none yet without an end
	refused error       // why the newest files are not served
}

const (
	// expiryWarning is how long before a certificate expires the alarm begins.
	expiryWarning = 14 * 24 * time.Hour
	// expiryCheck is how often certificates are looked at that nobody touches.
	expiryCheck = time.Hour
)

// OutsideStatus is what is known of the listener for clients outside the mesh.
type OutsideStatus struct {
	Listen string `json:"listen"`
	// Certificate is the operator's file; "" is no TLS, and nothing follows.
	Certificate string `json:"certificate"`
	// NotAfter is the end of the certificate that Envoy is served; nil if there
	// was no good one yet, and Envoy has no such listener therefore.
	NotAfter *time.Time `json:"not_after"`
	// Refused says why the newest files are not served; "" when they are.
	Refused string `json:"refused"`
}

// openOutside has the certificate looked at for the first time. A bad one keeps
// nothing but this listener back.
func (n *Node) openOutside(now time.Time) error {
	o := n.cfg.Outside
	n.outside = translator.OutsideListener{Address: o.Listen, TrustedHops: o.TrustedHops}
	if o.Certificate == "" {
		if err := os.Remove(n.secretFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("outside.tls: %w", err)
		}
		return nil
	}
	n.outside.SecretFile = n.secretFile()
	n.certificate = watch.New(o.Certificate)
	n.certificate.Also([]string{o.Key})
	n.loop.outside = n.handOver(n.lastPair(), now)
	n.metrics.countCertificate(func() time.Time {
		if p := n.picture.Load(); p != nil {
			return p.outside.served.Ends
		}
		return time.Time{}
	})
	return nil
}

// secretFile is where Envoy finds the certificate: beside the socket of the
// agent, where it can read, and whoever it is can read this, too.
func (n *Node) secretFile() string {
	dir := n.cfg.StateDir
	if socket, ok := strings.CutPrefix(n.cfg.Listen.XDS, "unix://"); ok {
		dir = filepath.Dir(socket)
	}
	return filepath.Join(dir, string(n.cfg.Node)+"-outside.json")
}

// lastPair is what the last agent has handed over.
func (n *Node) lastPair() border.Pair {
	data, err := regular.ReadFile(n.secretFile())
	if err != nil {
		return border.Pair{}
	}
	chain, key, err := translator.ReadSecretFile(data)
	if err != nil {
		return border.Pair{}
	}
	last, _, _ := border.ParsePair(chain, key)
	return last
}

// handOver gives Envoy the operator's files if they are good, or what is served.
func (n *Node) handOver(served border.Pair, now time.Time) outside {
	pair, err := border.LoadPair(n.cfg.Outside.Certificate, n.cfg.Outside.Key, now, regular.ReadFile)
	if err != nil {
		pair = served
	}
	if there := n.lastPair(); !pair.Ends.IsZero() && !pair.Equal(there) {
		if failed := n.writeSecret(pair); failed != nil {
			return outside{there, errors.Join(err, failed)}
		}
	}
	return outside{pair, err}
}

// writeSecret renames the file into place, which is what Envoy notices.
func (n *Node) writeSecret(p border.Pair) error {
	data, err := translator.SecretFile(p.Chain, p.Key)
	if err != nil {
		return err
	}
	// Who may connect to the agent's socket may read it, as serve.Listen says.
	return durable.Write(n.secretFile(), 0o640, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// watchCertificate looks at the files whenever they change, and at the clock.
func (n *Node) watchCertificate(ctx context.Context, now outside) error {
	changed := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.certificate.Run(ctx, func() { kick(changed) }, func(err error) {
			n.log.Warn("changes of the certificate may be noticed late", "path", n.certificate.Path(), "err", err)
		})
	}()
	tick := time.NewTicker(expiryCheck)
	defer tick.Stop()
	for {
		select {
		case <-changed:
		case <-tick.C:
		case <-done: // with ctx
			return nil
		}
		now = n.handOver(now.served, time.Now())
		_ = n.post(ctx, certificateRead{now})
	}
}

// certificateRead: the files of the certificate were looked at.
type certificateRead struct{ outside }

func (e certificateRead) apply(n *Node, now time.Time) {
	n.loop.outside = e.outside
	n.judgeOutside(now)
}

// judgeOutside raises and clears what is to be said of the certificate.
func (n *Node) judgeOutside(now time.Time) {
	o := n.loop.outside
	n.standing("certificate_refused", o.refusedText())
	expiring := ""
	if left := o.served.Ends.Sub(now); !o.served.Ends.IsZero() && left < expiryWarning {
		expiring = fmt.Sprintf("outside.tls: the certificate that is served ends at %s; put a renewed one into %s", o.served.Ends.UTC().Format(time.RFC3339), n.cfg.Outside.Certificate)
	}
	n.standing("certificate_expiring", expiring)
}

// refusedText says why the newest files are not served, and what is instead.
func (o outside) refusedText() string {
	switch {
	case o.refused == nil:
		return ""
	case o.served.Ends.IsZero():
		return fmt.Sprintf("outside.tls: %v; until then the gateway has no listener for the outside, there is no good certificate from before", o.refused)
	}
	return fmt.Sprintf("outside.tls: %v; until then the one from before is served, which ends at %s", o.refused, o.served.Ends.UTC().Format(time.RFC3339))
}

// outsideListener is the listener that Envoy is to have now.
func (n *Node) outsideListener() translator.OutsideListener {
	if n.outside.SecretFile != "" && n.loop.outside.served.Ends.IsZero() {
		return translator.OutsideListener{}
	}
	return n.outside
}

func (n *Node) outsideStatus(o outside) *OutsideStatus {
	if n.cfg.Outside.Listen == "" {
		return nil
	}
	s := &OutsideStatus{Listen: n.cfg.Outside.Listen, Certificate: n.cfg.Outside.Certificate, Refused: o.refusedText()}
	if !o.served.Ends.IsZero() {
		s.NotAfter = new(o.served.Ends.UTC())
	}
	return s
}
