package lab

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echo listens on addr ("127.0.0.1:0" for any port) and sends back what comes.
func echo(t *testing.T, addr string) (string, func()) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			running.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.(*net.TCPConn).CloseWrite()
			})
		}
	})
	stop := sync.OnceFunc(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func relayTo(t *testing.T, target string) *Relay {
	t.Helper()
	r, err := NewRelay(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// turn sends b and returns how long its echo took.
func turn(t *testing.T, c net.Conn, b []byte) time.Duration {
	t.Helper()
	began := time.Now()
	go func() { _, _ = c.Write(b) }()
	got := make([]byte, len(b))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b) {
		t.Fatal("the echo differs")
	}
	return time.Since(began)
}

func TestRelayKeepsBytesAndEnds(t *testing.T) {
	target, _ := echo(t, "127.0.0.1:0")
	r := relayTo(t, target)
	c := dial(t, r.Addr())
	sent, got := sha256.New(), sha256.New()
	go func() {
		_, _ = io.CopyN(io.MultiWriter(c, sent), rand.Reader, 32<<20)
		_ = c.CloseWrite()
	}()
	n, err := io.Copy(got, c) // ends because the end travels there and back
	if err != nil || n != 32<<20 || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Fatalf("%d bytes came back, err %v", n, err)
	}
	if to, from := r.Bytes(); to != 32<<20 || from != 32<<20 {
		t.Errorf("counted %d and %d", to, from)
	}
}

func TestRelayDelaysLiveConnections(t *testing.T) {
	target, _ := echo(t, "127.0.0.1:0")
	r := relayTo(t, target)
	c := dial(t, r.Addr())
	turn(t, c, []byte("x"))
	r.SetDelay(40 * time.Millisecond)
	if d := turn(t, c, []byte("x")); d < 80*time.Millisecond || d > 400*time.Millisecond {
		t.Errorf("round trip of %v with 40 ms each way", d)
	}
	r.SetDelay(time.Hour)
	go func() { time.AfterFunc(20*time.Millisecond, func() { r.SetDelay(0) }) }()
	if d := turn(t, c, []byte("x")); d > 5*time.Second {
		t.Errorf("what is on its way does not hear of the new delay: %v", d)
	}
}

func TestRelayLimitsTheRate(t *testing.T) {
	target, _ := echo(t, "127.0.0.1:0")
	r := relayTo(t, target)
	c := dial(t, r.Addr())
	r.SetRate(8_000_000) // 1 MB/s
	if d := turn(t, c, make([]byte, 300_000)); d < 280*time.Millisecond || d > 2*time.Second {
		t.Errorf("300 kB at 1 MB/s took %v", d)
	}
	r.SetRate(0)
	if d := turn(t, c, make([]byte, 300_000)); d > 250*time.Millisecond {
		t.Errorf("300 kB without a limit took %v", d)
	}
}

func TestCutRelayResetsAndRefuses(t *testing.T) {
	target, _ := echo(t, "127.0.0.1:0")
	r := relayTo(t, target)
	c := dial(t, r.Addr())
	turn(t, c, []byte("x"))
	r.Cut(true)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("open connection: %v", err)
	}
	if _, err := net.Dial("tcp", r.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("new connection: %v", err)
	}
	r.Cut(false)
	turn(t, eventually(t, r.Addr()), []byte("x"))
}

func eventually(t *testing.T, addr string) net.Conn {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestBlackholeTellsNobody(t *testing.T) {
	target, _ := echo(t, "127.0.0.1:0")
	r := relayTo(t, target)
	c := dial(t, r.Addr())
	turn(t, c, []byte("x"))
	r.Blackhole(true)
	late := dial(t, r.Addr()) // accepted
	for _, c := range []net.Conn{c, late} {
		_, _ = c.Write([]byte("y"))
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("something came through: %v", err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	}
	r.Blackhole(false)
	for _, c := range []net.Conn{c, late} {
		b := make([]byte, 1)
		if _, err := c.Read(b); err != nil || b[0] != 'y' {
			t.Errorf("got %q, %v", b, err)
		}
	}
}

// Who is told of the end of the target's connection and dials anew is refused
// already: a relay must not turn a dead neighbour into one that accepts.
func TestRelayRefusesForADeadTarget(t *testing.T) {
	port, err := HoldPort()
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	_, kill := echo(t, port.Addr())
	r := relayTo(t, port.Addr())
	for range 5 {
		c := eventually(t, r.Addr())
		turn(t, c, []byte("x"))
		kill()
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatal("the connection lives")
		}
		if _, err := net.Dial("tcp", r.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("new connection: %v", err)
		}
		_, kill = echo(t, port.Addr())
	}
}
