package dmsc

import (
	"fmt"
	"strings"
	"time"
)

// Protocol is what a pod's instance speaks (design §5, Delivery).
type Protocol uint8

// The protocols an announcement may name; HTTP1 is the default.
const (
	HTTP1 Protocol = iota
	HTTP2
	GRPC
	TCP
)

var protocolNames = [...]string{"http1", "http2", "grpc", "tcp"}

func (p Protocol) String() string {
	if int(p) < len(protocolNames) {
		return protocolNames[p]
	}
	return fmt.Sprintf("protocol(%d)", p)
}

// ParseProtocol reads http1, http2, grpc or tcp; "" is HTTP1.
func ParseProtocol(s string) (Protocol, error) {
	if s == "" {
		return HTTP1, nil
	}
	for i, name := range protocolNames {
		if s == name {
			return Protocol(i), nil
		}
	}
	return HTTP1, fmt.Errorf("protocol %q is not one of %s", s, strings.Join(protocolNames[:], ", "))
}

// MarshalText implements encoding.TextMarshaler.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler by ParseProtocol.
func (p *Protocol) UnmarshalText(b []byte) (err error) {
	*p, err = ParseProtocol(string(b))
	return err
}

// LinkClass sets how soon a silent link is declared dead. Being slower than
// that is not a failure but the SCSC's business (design §4: dead is not slow).
type LinkClass uint8

// The link classes; Metro is the default.
const (
	Metro LinkClass = iota
	LAN
	WAN
)

var classNames = [...]string{"metro", "lan", "wan"}

func (c LinkClass) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class(%d)", c)
}

// ParseLinkClass reads lan, metro or wan; "" is Metro.
func ParseLinkClass(s string) (LinkClass, error) {
	if s == "" {
		return Metro, nil
	}
	for i, name := range classNames {
		if s == name {
			return LinkClass(i), nil
		}
	}
	return Metro, fmt.Errorf("link class %q is not one of lan, metro, wan", s)
}

// MarshalText implements encoding.TextMarshaler.
func (c LinkClass) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler by ParseLinkClass.
func (c *LinkClass) UnmarshalText(b []byte) (err error) {
	*c, err = ParseLinkClass(string(b))
	return err
}

// ProbeInterval is the time between two data-path probes of a link.
func (c LinkClass) ProbeInterval() time.Duration {
	switch c {
	case LAN:
		return 50 * time.Millisecond
	case WAN:
		return 500 * time.Millisecond
	default:
		return 150 * time.Millisecond
	}
}

// ProbeTimeout is when an unanswered probe counts as missed, and Envoy's
// HTTP/2 keepalive timeout on the link.
func (c LinkClass) ProbeTimeout() time.Duration {
	switch c {
	case LAN:
		return 100 * time.Millisecond
	case WAN:
		return time.Second
	default:
		return 300 * time.Millisecond
	}
}
