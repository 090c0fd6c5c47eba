package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command says what to start.
type Command struct {
	Name string // for messages: "sr-1 envoy"
	Path string
	Args []string
	Env  []string // added to the environment of this process
	Dir  string
	Log  string // file that standard output and error are appended to; "" = discarded
	// Stdout receives standard output instead of Log, for programs whose answer
	// is read; it is written to until Done.
	Stdout io.Writer
}

// Process is a child in a process group of its own. Signals go to the group,
// so children of the child get them too.
type Process struct {
	Name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // set before done is closed
}

// Group starts processes and sees to it that none is left: not after Stop, and
// not when this program is killed (the kernel then kills the children).
type Group struct {
	start chan func()

	mu        sync.Mutex
	stopped   bool
	processes []*Process
}

// NewGroup returns an empty group. Stop ends it.
func NewGroup() *Group {
	g := &Group{start: make(chan func())}
	go func() {
		// The death signal is sent when the *thread* ends that started the
		// child, so all are started by one that lives as long as the group. It
		// stays locked to the end, and ends with this goroutine.
		runtime.LockOSThread()
		for f := range g.start {
			f()
		}
	}()
	return g
}

// Start starts a process.
func (g *Group) Start(c Command) (*Process, error) {
	p := &Process{Name: c.Name, log: c.Log, cmd: exec.Command(c.Path, c.Args...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = append(os.Environ(), c.Env...), c.Dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = time.Second // a grandchild may hold Stdout open
	if c.Log != "" {
		f, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", c.Name, err)
		}
		defer f.Close()
		p.cmd.Stdout, p.cmd.Stderr = f, f
	}
	if c.Stdout != nil {
		p.cmd.Stdout = c.Stdout
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return nil, fmt.Errorf("start %s: the group is stopped", c.Name)
	}
	started := make(chan error)
	g.start <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	g.processes = append(g.processes, p)
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Stop ends all processes, the last started first: SIGTERM (and SIGCONT for
// what is stopped), SIGKILL for what is still there after grace. It returns an
// error that names what had to be killed or is left nevertheless.
func (g *Group) Stop(grace time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return nil
	}
	g.stopped = true
	var errs []error
	for _, p := range slices.Backward(g.processes) {
		errs = append(errs, p.stop(grace))
	}
	close(g.start)
	return errors.Join(errs...)
}

func (p *Process) stop(grace time.Duration) error {
	var err error
	if p.Running() {
		_ = p.Signal(syscall.SIGTERM)
		_ = p.Signal(syscall.SIGCONT)
		select {
		case <-p.done:
		case <-time.After(grace):
			err = fmt.Errorf("%s (pid %d) did not end within %v of SIGTERM and was killed", p.Name, p.PID(), grace)
		}
	}
	// Whatever it has started and left.
	for end := time.Now().Add(2 * time.Second); p.Signal(syscall.SIGKILL) == nil && p.left(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s (process group %d) is still there after SIGKILL", p.Name, p.PID())
		}
	}
	<-p.done
	return err
}

// left reports whether anything of the process group lives. Signals reach dead
// processes too, until somebody has reaped them: for what our child has left
// behind that is process 1, which in a container may never do it.
func (p *Process) left() bool {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // has ended
		}
		// pid (name) state ppid pgrp …, proc(5)
		_, rest, _ := bytes.Cut(b[max(0, bytes.LastIndexByte(b, ')')):], []byte(" "))
		fields := strings.Fields(string(rest))
		if len(fields) > 2 && fields[2] == strconv.Itoa(p.PID()) && fields[0] != "Z" && fields[0] != "X" {
			return true
		}
	}
	return false
}

// PID is the process id, and the id of the process group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and been reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends s to the process and what it has started. The error is
// syscall.ESRCH when nothing is left.
func (p *Process) Signal(s syscall.Signal) error { return syscall.Kill(-p.PID(), s) }

// Kill ends the process by SIGKILL, and returns at once.
func (p *Process) Kill() error { return p.Signal(syscall.SIGKILL) }

// Pause stops the process by SIGSTOP: its sockets stay, nothing answers.
func (p *Process) Pause() error { return p.Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }

// Wait waits for the end and returns how it came: nil for exit code 0, an
// *exec.ExitError otherwise.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", p.Name, ctx.Err())
	}
}

// LogTail returns the last lines of the log, for error messages.
func (p *Process) LogTail(lines int) string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	all := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
