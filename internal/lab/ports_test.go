package lab

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

func TestHeldPortsAreDistinctAndUsable(t *testing.T) {
	ports, err := HoldPorts(500)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range ports {
		if seen[p.Number] {
			t.Fatalf("port %d was given out twice", p.Number)
		}
		seen[p.Number] = true
		defer p.Close()
	}
	for range 3 { // listens, stops and listens again while the port is held
		if _, err := net.Dial("tcp", ports[0].Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("nobody listens, dial says %v", err)
		}
		l, err := net.Listen("tcp", ports[0].Addr())
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", ports[0].Addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		_ = l.Close()
	}
}
