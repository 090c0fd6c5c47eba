package border_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/border"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// issue makes a certificate that signs itself, valid from and until so many days
// from noon, and its key, both PEM.
func issue(t *testing.T, key crypto.Signer, from, until int) (certificate, secret string) {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shop.example"}, DNSNames: []string{"shop.example"},
		NotBefore: noon.AddDate(0, 0, from), NotAfter: noon.AddDate(0, 0, until),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func newKey(t *testing.T, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What is wrong with a pair is said with the file and what to do, and never with
// the key.
func TestOnlyAPairThatEnvoyAndItsClientsTakeIsGood(t *testing.T) {
	good, key := issue(t, newKey(t, elliptic.P256()), -1, 90)
	other, otherKey := issue(t, newKey(t, elliptic.P384()), -1, 30)
	expired, expiredKey := issue(t, newKey(t, elliptic.P521()), -90, -1)
	early, earlyKey := issue(t, newKey(t, elliptic.P256()), 1, 90)
	p224, p224Key := issue(t, newKey(t, elliptic.P224()), -1, 90)
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	ed, edPEM := issue(t, edKey, -1, 90)
	t.Setenv("GODEBUG", "rsa1024min=0")
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	rsa1024, rsa1024Key := issue(t, short, -1, 90)
	const missing = "\x00"
	for name, c := range map[string]struct{ certificate, key, words string }{
		"good":                     {good, key, ""},
		"with a chain":             {good + other, key, ""},
		"with words and a key":     {"# of the shop\n" + good + key, key, ""},
		"ed25519":                  {ed, edPEM, ""},
		"no certificate":           {missing, key, "open cert.pem: file does not exist; put the whole file there"},
		"no key":                   {good, missing, "open key.pem: file does not exist; put the whole file there"},
		"neither":                  {missing, missing, "open cert.pem: file does not exist, and open key.pem: file does not exist; put"},
		"empty":                    {"", key, "cert.pem has 0 bytes and is no PEM file; put"},
		"garbage":                  {good, "garbage", "key.pem has 7 bytes and is no PEM file; put"},
		"half a certificate":       {good[:len(good)/2], key, "cert.pem:1: the PEM block is damaged; put"},
		"half a chain":             {good + other[:len(other)/2], key, "the PEM block is damaged; put"},
		"half a key":               {good, key[:len(key)/2], "key.pem is not the key of the first certificate in cert.pem"},
		"the key of another":       {good, otherKey, "key.pem is not the key of the first certificate in cert.pem (tls: private key"},
		"the issuer first":         {other + good, key, "the certificate of the gateway before those of its issuers"},
		"the files mixed up":       {key, good, "cert.pem holds no certificate; put"},
		"an encrypted key":         {good, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "key.pem: the key is encrypted; put it there without a passphrase"},
		"expired":                  {expired, expiredKey, "cert.pem: the certificate of CN=shop.example expired at 2026-11-22T12:00:00Z; put a renewed one there"},
		"an issuer that has ended": {good + expired, key, "expired at 2026-11-22T12:00:00Z"},
		"not valid yet":            {early, earlyKey, "is valid from 2026-11-24T12:00:00Z on; put it there then, or correct the clock"},
		"a curve of its own":       {p224, p224Key, "cert.pem: Envoy takes no ECDSA key of this size or curve; have one issued"},
		"a short key":              {rsa1024, rsa1024Key, "cert.pem: Envoy takes no RSA key of this size or curve; have one issued"},
	} {
		read := func(file string) ([]byte, error) {
			text := map[string]string{"cert.pem": c.certificate, "key.pem": c.key}[file]
			if text == missing {
				return nil, &fs.PathError{Op: "open", Path: file, Err: fs.ErrNotExist}
			}
			return []byte(text), nil
		}
		p, err := border.LoadPair("cert.pem", "key.pem", noon, read)
		switch {
		case c.words == "" && (err != nil || !bytes.Equal(p.Key, []byte(c.key)) || !bytes.Equal(p.Chain, []byte(c.certificate))):
			t.Errorf("%s: %v", name, err)
		case c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)):
			t.Errorf("%s: %v, want %q", name, err, c.words)
		}
		if secret := strings.Split(c.key, "\n"); len(secret) > 1 && strings.Contains(fmt.Sprintf("%v %+v %s", err, p, p), secret[1]) {
			t.Errorf("%s: the key is told: %v %+v", name, err, p)
		}
		if name == "with a chain" && !p.Ends.Equal(noon.AddDate(0, 0, 30)) {
			t.Errorf("%s: it ends %v", name, p.Ends)
		}
	}
}
