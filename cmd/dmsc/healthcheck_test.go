package main

import (
	"io"
	"net"
	"testing"
)

// A process that hangs still accepts connections.
func TestHealthcheckTellsSilenceFromAbsence(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	check := func() int {
		return run(t.Context(), []string{"healthcheck", "--url", "http://" + l.Addr().String() + "/readyz", "--timeout", "100ms"}, io.Discard, io.Discard)
	}
	if code := check(); code != exitTimeout {
		t.Errorf("of a silent process: exit %d, want %d", code, exitTimeout)
	}
	l.Close()
	if code := check(); code != exitUnreachable {
		t.Errorf("of one that has ended: exit %d, want %d", code, exitUnreachable)
	}
}
