package lab

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Load sends requests at a fixed rate whatever becomes of them: an open loop.
// Latencies count from the intended start, so a stall of the sender itself
// shows too.
type Load struct {
	Address string      // host:port that is dialled
	Path    string      // "" = "/"
	Header  http.Header // sent as written, for example dmsc-service-prefix
	RPS     int
	Timeout time.Duration // of one request; 0 = 5 s
}

// Result is what became of one request.
type Result struct {
	Start   time.Time // intended
	Latency time.Duration
	Status  int    // 0: no answer
	Err     string // why there is none
	// Refusal is the header dmsc-error of the answer.
	Refusal string
	// Via is the path by the nodes' ids, as the pod echoed it (x-echo-via).
	Via string
	// Pod that answered (x-echo-pod).
	Pod string
}

// OK reports whether the answer was 2xx.
func (r Result) OK() bool { return r.Status >= 200 && r.Status < 300 }

// End is when the result was known.
func (r Result) End() time.Time { return r.Start.Add(r.Latency) }

func (r Result) String() string {
	what := r.Err
	if r.Status != 0 {
		what = fmt.Sprintf("%d %s", r.Status, r.Refusal)
	}
	return fmt.Sprintf("%s after %v: %s", r.Start.Format("15:04:05.000"), r.Latency.Round(10*time.Microsecond), strings.TrimSpace(what))
}

// Runner is a Load that is being sent.
type Runner struct {
	load    Load
	request []byte
	stop    chan struct{}
	// stopOnce closes stop.
	stopOnce sync.Once

	pacing sync.WaitGroup
	flying sync.WaitGroup

	mu      sync.Mutex
	idle    []*client // last in, first out: few connections, kept warm
	results []Result
}

// Start begins to send.
func (l Load) Start() *Runner {
	l.Path, l.Timeout = cmp.Or(l.Path, "/"), cmp.Or(l.Timeout, 5*time.Second)
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", l.Path, l.Address)
	_ = l.Header.Write(&b)
	b.WriteString("\r\n")
	r := &Runner{load: l, request: b.Bytes(), stop: make(chan struct{})}
	r.pacing.Go(r.pace)
	return r
}

// Stop ends the load, waits for what is under way and returns what became of
// all requests. It may be called again.
func (r *Runner) Stop() Report {
	r.stopOnce.Do(func() { close(r.stop) })
	r.pacing.Wait()
	r.flying.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.idle {
		_ = c.conn.Close()
	}
	r.idle = nil
	return report(r.results)
}

// Since returns what has become known about requests started at or after t,
// sorted by start.
func (r *Runner) Since(t time.Time) []Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	var recent []Result
	for _, res := range r.results {
		if !res.Start.Before(t) {
			recent = append(recent, res)
		}
	}
	sortByStart(recent)
	return recent
}

func (r *Runner) pace() {
	interval := time.Second / time.Duration(max(1, r.load.RPS))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for next := time.Now(); ; next = next.Add(interval) {
		timer.Reset(time.Until(next))
		select {
		case <-timer.C:
			r.flying.Go(func() { r.send(next) })
		case <-r.stop:
			return
		}
	}
}

func (r *Runner) send(start time.Time) {
	res := Result{Start: start}
	if err := r.exchange(&res); err != nil {
		res.Status, res.Err = 0, err.Error()
	}
	res.Latency = time.Since(start)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = append(r.results, res)
}

// client is a kept connection. It is not net/http's: that would send a request
// again by itself when a kept connection breaks, and hide what is measured.
type client struct {
	conn net.Conn
	in   *bufio.Reader
}

func (r *Runner) exchange(res *Result) error {
	deadline := res.Start.Add(r.load.Timeout)
	c, err := r.connection(deadline)
	if err != nil {
		return err
	}
	again := false
	defer func() {
		if !again {
			_ = c.conn.Close()
		}
	}()
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := c.conn.Write(r.request); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("answer %d ends early: %w", resp.StatusCode, err)
	}
	res.Status = resp.StatusCode
	res.Refusal = resp.Header.Get("dmsc-error")
	res.Via = resp.Header.Get("x-echo-via")
	res.Pod = resp.Header.Get("x-echo-pod")
	if again = !resp.Close; again {
		r.mu.Lock()
		r.idle = append(r.idle, c)
		r.mu.Unlock()
	}
	return nil
}

func (r *Runner) connection(deadline time.Time) (*client, error) {
	r.mu.Lock()
	if n := len(r.idle); n > 0 {
		c := r.idle[n-1]
		r.idle = r.idle[:n-1]
		r.mu.Unlock()
		return c, nil
	}
	r.mu.Unlock()
	conn, err := (&net.Dialer{Deadline: deadline}).Dial("tcp", r.load.Address)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, in: bufio.NewReader(conn)}, nil
}

// Report is what became of a load.
type Report struct {
	Sent, OK int
	Lost     []Result // every request without a 2xx, by start
	// Gap is the longest time between the ends of two successive OKs, and
	// GapStart the end of the first of them.
	Gap           time.Duration
	GapStart      time.Time
	P50, P99, Max time.Duration // of the OKs
	Paths         []Path        // in the order in which they were used first
	Results       []Result      // all, by start
}

// Path is one value of Via among the OKs, with the first and last start.
type Path struct {
	Via         string
	Count       int
	First, Last time.Time
}

// First returns the first OK request, started at or after t, for which f holds.
func (r Report) First(t time.Time, f func(Result) bool) (Result, bool) {
	return First(r.Results, t, f)
}

// First is Report.First on the results of a running load.
func First(results []Result, t time.Time, f func(Result) bool) (Result, bool) {
	for _, res := range results {
		if res.OK() && !res.Start.Before(t) && f(res) {
			return res, true
		}
	}
	return Result{}, false
}

// Between reports on the part of the load that started in [from, to).
func (r Report) Between(from, to time.Time) Report {
	var part []Result
	for _, res := range r.Results {
		if !res.Start.Before(from) && res.Start.Before(to) {
			part = append(part, res)
		}
	}
	return report(part)
}

// Err is nil when nothing was lost, and lists the lost requests otherwise.
func (r Report) Err() error {
	errs := make([]error, 0, len(r.Lost))
	for _, l := range r.Lost {
		errs = append(errs, errors.New(l.String()))
	}
	return errors.Join(errs...)
}

func sortByStart(results []Result) {
	slices.SortFunc(results, func(a, b Result) int { return a.Start.Compare(b.Start) })
}

func report(all []Result) Report {
	r := Report{Sent: len(all), Results: slices.Clone(all)}
	sortByStart(r.Results)
	var ends []time.Time
	var latencies []time.Duration
	index := map[string]int{}
	for _, res := range r.Results {
		if !res.OK() {
			r.Lost = append(r.Lost, res)
			continue
		}
		ends, latencies = append(ends, res.End()), append(latencies, res.Latency)
		i, known := index[res.Via]
		if !known {
			i = len(r.Paths)
			index[res.Via] = i
			r.Paths = append(r.Paths, Path{Via: res.Via, First: res.Start})
		}
		r.Paths[i].Count++
		r.Paths[i].Last = res.Start
	}
	if r.OK = len(latencies); r.OK == 0 {
		return r
	}
	slices.Sort(latencies)
	r.P50, r.P99, r.Max = latencies[(r.OK-1)/2], latencies[(r.OK-1)*99/100], latencies[r.OK-1]
	slices.SortFunc(ends, time.Time.Compare)
	for i := 1; i < len(ends); i++ {
		if gap := ends[i].Sub(ends[i-1]); gap > r.Gap {
			r.Gap, r.GapStart = gap, ends[i-1]
		}
	}
	return r
}
