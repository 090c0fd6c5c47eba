package topology

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// listeners finds two owners of one address. The first key is the port, or the
// path of a Unix socket; the second the host, "" for all interfaces.
type listeners map[string]map[string]string

// claim notes that owner listens at addr ("host:port", or "unix:///path" when
// unix). Port 0 is never taken.
func (l listeners) claim(addr, owner string, unix bool) error {
	if path, ok := strings.CutPrefix(addr, "unix://"); ok {
		switch {
		case !unix:
			return fmt.Errorf("address %q is a Unix socket, host:port is expected", addr)
		case !strings.HasPrefix(path, "/"):
			return fmt.Errorf("address %q does not have the form unix:///path", addr)
		}
		return l.take(path, "", addr, owner)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q does not have the form host:port", addr)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil:
		return fmt.Errorf("address %q: the port is not between 0 and 65535", addr)
	case n == 0:
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
		if ip.IsUnspecified() {
			host = ""
		}
	}
	return l.take(strconv.FormatUint(n, 10), host, addr, owner)
}

func (l listeners) take(port, host, addr, owner string) error {
	taken := l[port]
	if taken == nil {
		taken = map[string]string{}
		l[port] = taken
	}
	for _, h := range clashes(host, taken) {
		if taken[h] != owner {
			return fmt.Errorf("address %s is already %s", addr, taken[h])
		}
	}
	taken[host] = owner
	return nil
}

// clashes returns a taken host that shares an address with host, if any.
func clashes(host string, taken map[string]string) []string {
	if _, ok := taken[host]; ok {
		return []string{host}
	}
	if _, ok := taken[""]; ok {
		return []string{""}
	}
	if host == "" {
		best := ""
		for h := range taken {
			if best == "" || h < best {
				best = h
			}
		}
		if best != "" {
			return []string{best}
		}
	}
	return nil
}

func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
