package translator

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// CheckAddress reports whether addr is one that Translate can give to Envoy:
// "IP:port" or "unix:///path". Check what comes from outside before it enters a
// State.
func CheckAddress(addr string) error {
	_, err := address(addr)
	return err
}

func address(addr string) (*corev3.Address, error) {
	if path, ok := strings.CutPrefix(addr, "unix://"); ok {
		if path == "" {
			return nil, fmt.Errorf("address %q has no path", addr)
		}
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}, nil
	}
	host, port, err := splitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return nil, fmt.Errorf("address %q has the host name %q: write an IP address", addr, host)
	}
	return socketAddress(ip.String(), port), nil
}

// AddressText writes an address of a resource as CheckAddress takes it; of an
// internal listener it is the name.
func AddressText(a *corev3.Address) string {
	switch address := a.GetAddress().(type) {
	case *corev3.Address_SocketAddress:
		return net.JoinHostPort(address.SocketAddress.Address, strconv.FormatUint(uint64(address.SocketAddress.GetPortValue()), 10))
	case *corev3.Address_Pipe:
		return "unix://" + address.Pipe.Path
	case *corev3.Address_EnvoyInternalAddress:
		return address.EnvoyInternalAddress.GetServerListenerName()
	}
	return ""
}

func splitHostPort(addr string) (string, uint32, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("address %q is neither host:port nor unix:///path", addr)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("address %q has the port %q, 0 to 65535 are allowed", addr, text)
	}
	return host, uint32(port), nil
}

func socketAddress(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

// internalAddress reaches a listener of the same Envoy without a socket.
func internalAddress(listener string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
		AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: listener},
	}}}
}
