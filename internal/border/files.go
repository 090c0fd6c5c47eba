package border

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// Files are the files that the documents name, sorted.
func (s Set) Files() (files []string) {
	for _, e := range s.Externals {
		if e.ServerName != "" {
			files = append(files, e.CA)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// CheckFiles looks at the files that the documents name, because Envoy would
// refuse a cluster over them: a file that is missing, has no certificate, or has
// a block that is none. It returns the set with what they hold now. read is
// regular.ReadFile. The error joins every fault.
func (s Set) CheckFiles(read func(string) ([]byte, error)) (Set, error) {
	var faults []error
	s.Externals = slices.Clone(s.Externals)
	for i, e := range s.Externals {
		if e.ServerName == "" {
			continue
		}
		data, err := read(e.CA)
		if err == nil {
			err = checkCertificates(e.CA, data)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("external service %s: tls.ca: %w", e.Name, err))
		}
		s.Externals[i].CADigest = fmt.Sprintf("%x", sha256.Sum256(data))[:16]
	}
	return s, errors.Join(faults...)
}

// checkCertificates reads every block by itself: pem.Decode steps over those it
// cannot read, and Envoy refuses a file with one.
func checkCertificates(file string, data []byte) error {
	begin, found := []byte("-----BEGIN "), false
	for i, line := 0, 1; i < len(data); line++ {
		rest := data[i:]
		if bytes.HasPrefix(rest, begin) {
			block := rest
			if end := bytes.Index(rest[1:], append([]byte("\n"), begin...)); end >= 0 {
				block = rest[:end+2]
			}
			b, _ := pem.Decode(block)
			if b == nil {
				return fmt.Errorf("%s:%d: the PEM block is damaged", file, line)
			}
			if b.Type == "CERTIFICATE" {
				if _, err := x509.ParseCertificate(b.Bytes); err != nil {
					return fmt.Errorf("%s:%d: the certificate cannot be read: %w", file, line, err)
				}
				found = true
			}
		}
		next := bytes.IndexByte(rest, '\n')
		if next < 0 {
			break
		}
		i += next + 1
	}
	if !found {
		return fmt.Errorf("%s holds no certificate", file)
	}
	return nil
}
