package lab

import (
	"errors"
	"fmt"
	"syscall"
)

// Port is a TCP port of 127.0.0.1 that nobody else is given while it is held.
type Port struct {
	Number int
	fd     int
}

// HoldPort takes a free port. It binds a socket with SO_REUSEADDR and never
// listens on it: a server that sets SO_REUSEADDR too, as Go and Envoy do, can
// listen on the port meanwhile; while none does, connections are refused, and
// the kernel gives the port to no other socket. So a process may be killed and
// restarted on its port as often as a test likes.
func HoldPort() (*Port, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("hold a port: %w", err)
	}
	p := &Port{fd: fd}
	if err := p.bind(); err != nil {
		return nil, errors.Join(fmt.Errorf("hold a port: %w", err), p.Close())
	}
	return p, nil
}

func (p *Port) bind() error {
	if err := syscall.SetsockoptInt(p.fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := syscall.Bind(p.fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	name, err := syscall.Getsockname(p.fd)
	if err != nil {
		return err
	}
	p.Number = name.(*syscall.SockaddrInet4).Port
	return nil
}

// HoldPorts takes n free ports, or none.
func HoldPorts(n int) ([]*Port, error) {
	ports := make([]*Port, 0, n)
	for range n {
		p, err := HoldPort()
		if err != nil {
			for _, held := range ports {
				err = errors.Join(err, held.Close())
			}
			return nil, err
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// Addr is the port as host:port.
func (p *Port) Addr() string { return fmt.Sprintf("127.0.0.1:%d", p.Number) }

// Close gives the port back. Who listens on it keeps listening.
func (p *Port) Close() error { return syscall.Close(p.fd) }
