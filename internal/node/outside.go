package node

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dmsc-mesh/dmsc/translator"
)

// openOutside makes the listener for clients outside the mesh. Its certificate is
// looked at here, since an Envoy that cannot read it only resets its clients'
// connections, and handed over as a file that Envoy follows by itself: renewed
// certificates take no agent.
func (n *Node) openOutside() error {
	o := n.cfg.Outside
	n.outside = translator.OutsideListener{Address: o.Listen, TrustedHops: o.TrustedHops}
	if o.Certificate == "" {
		return nil
	}
	if _, err := tls.LoadX509KeyPair(o.Certificate, o.Key); err != nil {
		return fmt.Errorf("outside.tls: %w", err)
	}
	text, err := translator.YAML(translator.CertificateFile(o.Certificate, o.Key))
	if err != nil {
		return fmt.Errorf("outside.tls: %w", err)
	}
	n.outside.SecretFile = filepath.Join(n.cfg.StateDir, "outside-certificate.yaml")
	next := n.outside.SecretFile + ".new"
	if err := os.WriteFile(next, text, 0o644); err != nil { // it names the key and does not hold it
		return fmt.Errorf("outside.tls: %w", err)
	}
	if err := os.Rename(next, n.outside.SecretFile); err != nil {
		return fmt.Errorf("outside.tls: %w", err)
	}
	return nil
}
