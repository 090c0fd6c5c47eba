package dmsc

import (
	"fmt"
	"strings"
)

// NodeID names an SG, an SR or an observer within its domain: 1–63 characters
// of a-z 0-9 and -.
type NodeID string

// ParseNodeID checks s against the grammar.
func ParseNodeID(s string) (NodeID, error) {
	if err := checkLabel(s); err != nil {
		return "", fmt.Errorf("node id %q %w", s, err)
	}
	return NodeID(s), nil
}

// LinkID tells parallel links between the same two nodes apart. Both ends must
// name a link alike (two-way check); "0" is the usual one.
type LinkID string

// ParseLinkID checks s against the grammar of NodeID.
func ParseLinkID(s string) (LinkID, error) {
	if err := checkLabel(s); err != nil {
		return "", fmt.Errorf("link id %q %w", s, err)
	}
	return LinkID(s), nil
}

func checkLabel(s string) error {
	if s == "" || len(s) > 63 {
		return fmt.Errorf("has %d characters, 1 to 63 are allowed", len(s))
	}
	if i := strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}); i >= 0 {
		return fmt.Errorf("has the character %q, allowed are a-z 0-9 and -", s[i:i+1])
	}
	return nil
}

// Role is what a node is in the draft's Figure 2.
type Role uint8

// The roles. An observer (the SCSC) receives flooding and originates nothing.
const (
	RoleUnknown Role = iota
	RoleSG
	RoleSR
	RoleObserver
)

var roleNames = [...]string{"unknown", "SG", "SR", "observer"}

func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role(%d)", r)
}

// ParseRole reads "SG", "SR" or "observer" in any case.
func ParseRole(s string) (Role, error) {
	for i, name := range roleNames[1:] {
		if strings.EqualFold(s, name) {
			return Role(i + 1), nil
		}
	}
	return RoleUnknown, fmt.Errorf("role %q is not one of SG, SR, observer", s)
}

// MarshalText implements encoding.TextMarshaler.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler by ParseRole.
func (r *Role) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRole(string(b))
	return err
}
