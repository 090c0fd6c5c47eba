package config

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/manifest"
)

// Log is how a process logs.
type Log struct {
	Level slog.Level
	JSON  bool
}

// New returns a logger that writes to w.
func (l Log) New(w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: l.Level}
	if l.JSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

type logKeys struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

var defaultLog = logKeys{Level: "info", Format: "text"}

func (s *source) log(k logKeys) Log {
	var l Log
	switch k.Level {
	case "debug":
		l.Level = slog.LevelDebug
	case "info":
	case "warn":
		l.Level = slog.LevelWarn
	case "error":
		l.Level = slog.LevelError
	default:
		s.faultf("log.level", manifest.CodeValue, "%q is not one of debug, info, warn, error", k.Level)
	}
	switch k.Format {
	case "text":
	case "json":
		l.JSON = true
	default:
		s.faultf("log.format", manifest.CodeValue, "%q is not one of text, json", k.Format)
	}
	return l
}

func (s *source) domain(d string) string {
	if _, err := dmsc.ParseNodeID(d); err != nil { // one grammar for names
		s.faultf("domain", manifest.CodeValue, "a domain has 1 to 63 characters of a-z 0-9 and -, not %q", d)
	}
	return d
}

func (s *source) node(id string) dmsc.NodeID {
	n, err := dmsc.ParseNodeID(id)
	switch {
	case id == "":
		s.faultf("node", manifest.CodeMissing, "the node id is missing")
	case err != nil:
		s.faultf("node", manifest.CodeValue, "%v", err)
	}
	return n
}

func (s *source) required(key, value string) string {
	if value == "" {
		s.faultf(key, manifest.CodeMissing, "it is missing")
	}
	return value
}

// listeners are the addresses a process and its Envoy listen at, by key.
type listeners map[string]string

// listen checks "host:port", where an empty host is all interfaces and port 0
// any free one, or "unix:///path". It notes two keys with one address.
func (s *source) listen(taken listeners, key, addr string, unix bool) string {
	if path, ok := strings.CutPrefix(addr, "unix://"); ok && unix {
		s.socket(key, path)
	} else if _, port, err := hostPort(addr); err != nil {
		s.faultf(key, manifest.CodeAddress, "%v", err)
		return addr
	} else if port == 0 {
		return addr
	}
	if other, ok := taken[addr]; ok {
		s.faultf(key, manifest.CodeAddress, "%s is also the address of %s", addr, other)
	}
	taken[addr] = key
	return addr
}

// socket checks the path of a Unix socket. Linux has 108 bytes for it, with
// the terminating zero, and cuts or refuses what is longer.
func (s *source) socket(key, path string) {
	switch {
	case !strings.HasPrefix(path, "/"):
		s.faultf(key, manifest.CodeAddress, "a Unix socket is written unix:///path, with an absolute path, not unix://%s", path)
	case len(path) > 107:
		s.faultf(key, manifest.CodeAddress, "the socket path %s has %d bytes, the system allows 107; use a shorter state_dir", path, len(path))
	}
}

// dial checks an address to connect to: a host, which may be a DNS name, and a
// port.
func (s *source) dial(key, addr string) string {
	host, port, err := hostPort(addr)
	switch {
	case err != nil:
		s.faultf(key, manifest.CodeAddress, "%v", err)
	case host == "" || port == 0:
		s.faultf(key, manifest.CodeAddress, "%q needs a host and a port to connect to", addr)
	}
	return addr
}

func (s *source) dials(key string, addrs []string) []string {
	seen := map[string]bool{}
	for i, a := range addrs {
		at := fmt.Sprintf("%s[%d]", key, i)
		s.dial(at, a)
		if seen[a] {
			s.faultf(at, manifest.CodeDuplicate, "%s is listed twice", a)
		}
		seen[a] = true
	}
	return addrs
}

func hostPort(addr string) (host string, port uint16, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("address %q does not have the form host:port", addr)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: the port is not between 0 and 65535", addr)
	}
	return host, uint16(n), nil
}

// everywhere reports whether addr listens on all interfaces, so that it says
// nothing a neighbour could connect to.
func everywhere(addr string) bool {
	host, _, err := hostPort(addr)
	ip, ipErr := netip.ParseAddr(host)
	return err == nil && (host == "" || ipErr == nil && ip.IsUnspecified())
}
