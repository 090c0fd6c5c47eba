package border

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"
)

// Pair is a certificate with its chain, and its key, both PEM.
type Pair struct {
	Chain, Key []byte
	Ends       time.Time // of the certificate of the chain that expires first
}

// String is there so that no log has the key.
func (p Pair) String() string { return "certificate until " + p.Ends.UTC().Format(time.RFC3339) }

// Equal reports whether both are the same bytes.
func (p Pair) Equal(o Pair) bool { return bytes.Equal(p.Chain, o.Chain) && bytes.Equal(p.Key, o.Key) }

// LoadPair reads a certificate and its key, and finds what Envoy would refuse of
// them, or its clients. read is regular.ReadFile. The error says which file, what is
// wrong and what to do, and has nothing of the key.
func LoadPair(certificate, key string, now time.Time, read func(string) ([]byte, error)) (Pair, error) {
	chain, err1 := readPEM(certificate, read)
	secret, err2 := readPEM(key, read)
	switch what := "; put the whole file there, for the user of the agent to read"; {
	case err1 != nil && err2 != nil:
		return Pair{}, fmt.Errorf("%w, and %w%s", err1, err2, what)
	case err1 != nil || err2 != nil:
		return Pair{}, fmt.Errorf("%w%s", cmp.Or(err1, err2), what)
	}
	if err := checkCertificates(certificate, chain); err != nil {
		return Pair{}, fmt.Errorf("%w; put the whole file there", err)
	}
	if bytes.Contains(secret, []byte("ENCRYPTED")) {
		return Pair{}, fmt.Errorf("%s: the key is encrypted; put it there without a passphrase, as openssl pkey writes it", key)
	}
	p, certificates, err := ParsePair(chain, secret)
	if err != nil {
		return Pair{}, fmt.Errorf("%s is not the key of the first certificate in %s (%w); put both there as they were issued, the certificate of the gateway before those of its issuers",
			key, certificate, err)
	}
	if c := certificates[0]; !servable(c) {
		return Pair{}, fmt.Errorf("%s: Envoy takes no %s key of this size or curve; have one issued for ECDSA P-256, or RSA with 2048 bits", certificate, c.PublicKeyAlgorithm)
	}
	for _, c := range certificates {
		switch {
		case now.After(c.NotAfter):
			return Pair{}, fmt.Errorf("%s: the certificate of %s expired at %s; put a renewed one there", certificate, c.Subject, c.NotAfter.UTC().Format(time.RFC3339))
		case now.Before(c.NotBefore):
			return Pair{}, fmt.Errorf("%s: the certificate of %s is valid from %s on; put it there then, or correct the clock", certificate, c.Subject, c.NotBefore.UTC().Format(time.RFC3339))
		}
	}
	return p, nil
}

func readPEM(file string, read func(string) ([]byte, error)) ([]byte, error) {
	data, err := read(file)
	switch {
	case err != nil:
		return nil, err
	case !bytes.Contains(data, []byte("-----BEGIN ")):
		return nil, fmt.Errorf("%s has %d bytes and is no PEM file", file, len(data))
	}
	return data, nil
}

// ParsePair reads what belongs together, whether it has expired or not, and
// returns the certificates of the chain, too.
func ParsePair(chain, key []byte) (Pair, []*x509.Certificate, error) {
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return Pair{}, nil, err
	}
	p := Pair{Chain: chain, Key: key}
	var certificates []*x509.Certificate
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return Pair{}, nil, err
		}
		if p.Ends.IsZero() || c.NotAfter.Before(p.Ends) {
			p.Ends = c.NotAfter
		}
		certificates = append(certificates, c)
	}
	return p, certificates, nil
}

// servable reports whether Envoy takes such a key.
func servable(c *x509.Certificate) bool {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048
	case *ecdsa.PublicKey:
		return k.Curve != elliptic.P224()
	}
	return true
}
