package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/scsc"
)

// stateFile is what a node keeps over a restart: its incarnation and what its
// pods have announced (design §4, State file). It is written by a goroutine of
// its own, newest state wins, so that the loop never waits for a disk.
type stateFile struct {
	db   *bbolt.DB
	log  *slog.Logger
	next chan saved
}

// saved is the content of the state file.
type saved struct {
	Incarnation uint64         `json:"incarnation"`
	Sessions    []savedSession `json:"sessions"`
	// Policies steer on while the SCSC is away, until their TTL has run out.
	Policies      scsc.PolicySet `json:"policies"`
	PoliciesUntil time.Time      `json:"policies_until"`
	// Neighbors are where the Envoys of the neighbours are: the way to one whose
	// agent is away when this one restarts.
	Neighbors []savedNeighbor `json:"neighbors"`
	// Drain is what the operator asked for last.
	Drain linkstate.Drain `json:"drain"`
	// Pin is the configuration that Envoy is pinned to, which is in a file of its
	// own (pinfile.go): the next agent says so if it is lost.
	Pin *savedPin `json:"pin,omitempty"`
	// Documents are the newest that Envoy has accepted, nil for none.
	Documents *border.Set `json:"documents,omitempty"`
	// stored is called, from the writing goroutine, when the state is on disk.
	stored func()
}

type savedNeighbor struct {
	Node dmsc.NodeID `json:"node"`
	Link dmsc.LinkID `json:"link"`
	Data string      `json:"data"`
}

type savedSession struct {
	Pod      string         `json:"pod"`
	Token    []byte         `json:"token,omitempty"`
	Lease    time.Duration  `json:"lease_ns"`
	Services []savedService `json:"services"`
}

type savedService struct {
	Prefix     linkstate.Prefix `json:"prefix"`
	Address    string           `json:"address"`
	HealthPath string           `json:"health_path,omitempty"`
	DetectPath string           `json:"detect_path,omitempty"`
	Granted    bool             `json:"granted"`
}

var (
	stateBucket = []byte("node")
	stateKey    = []byte("state")
)

// openState opens or makes dir/node.db and counts the start: the returned
// incarnation is one above the last one and already on disk. A lost file
// starts at the clock's seconds; a broken one is set aside under another name.
func openState(dir string, now time.Time, log *slog.Logger) (*stateFile, saved, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, saved{}, fmt.Errorf("make state folder: %w", err)
	}
	path := filepath.Join(dir, "node.db")
	f, s, err := readState(path, log)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, saved{}, fmt.Errorf("open state file %s: another process holds it; is this node already running?", path)
	case errors.Is(err, errBrokenState):
		aside := fmt.Sprintf("%s.broken-%d", path, now.Unix())
		log.Error("state file is broken and set aside; starting without it", "path", path, "aside", aside, "err", err)
		if err := os.Rename(path, aside); err != nil {
			return nil, saved{}, fmt.Errorf("set broken state file aside: %w", err)
		}
		f, s, err = readState(path, log)
	}
	if err != nil {
		return nil, saved{}, fmt.Errorf("open state file %s: %w", path, err)
	}
	if s.Incarnation == 0 {
		s.Incarnation = uint64(max(now.Unix(), 0))
	}
	s.Incarnation++
	if err := f.store(s); err != nil {
		f.db.Close()
		return nil, saved{}, fmt.Errorf("write state file %s: %w", path, err)
	}
	return f, s, nil
}

// errBrokenState: the file is there and is not what we wrote.
var errBrokenState = errors.New("not a state file of this program")

func readState(path string, log *slog.Logger) (*stateFile, saved, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	switch {
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, saved{}, fmt.Errorf("%w: %w", errBrokenState, err)
	case err != nil:
		return nil, saved{}, err
	}
	f := &stateFile{db: db, log: log, next: make(chan saved, 1)}
	s, err := f.load()
	if err != nil {
		db.Close()
		return nil, saved{}, fmt.Errorf("%w: %w", errBrokenState, err)
	}
	return f, s, nil
}

func (f *stateFile) load() (s saved, err error) {
	err = f.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(stateBucket)
		if b == nil {
			return nil
		}
		if raw := b.Get(stateKey); raw != nil {
			return json.Unmarshal(raw, &s)
		}
		return nil
	})
	return s, err
}

func (f *stateFile) store(s saved) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return f.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(stateBucket)
		if err != nil {
			return err
		}
		return b.Put(stateKey, raw)
	})
}

// save hands the state to the writer; a state still waiting is replaced. Only
// the node's loop calls it.
func (f *stateFile) save(s saved) {
	select {
	case <-f.next:
	default:
	}
	f.next <- s
}

// run writes until ctx ends, then writes what still waits and closes the file.
func (f *stateFile) run(ctx context.Context) error {
	write := func(s saved) {
		if err := f.store(s); err != nil {
			// The node keeps running on memory; a restart will then announce less.
			f.log.Error("state file cannot be written; a restart would lose announcements", "err", err)
		}
		if s.stored != nil {
			s.stored()
		}
	}
	for {
		select {
		case s := <-f.next:
			write(s)
		case <-ctx.Done():
			select {
			case s := <-f.next:
				write(s)
			default:
			}
			return f.db.Close()
		}
	}
}

// heard are the saved data addresses as the protocol wants them.
func (s saved) heard() map[linkstate.LinkKey]string {
	out := make(map[linkstate.LinkKey]string, len(s.Neighbors))
	for _, nb := range s.Neighbors {
		out[linkstate.LinkKey{Remote: nb.Node, ID: nb.Link}] = nb.Data
	}
	return out
}

// neighborsOf are the data addresses worth keeping.
func neighborsOf(v *linkstate.View) []savedNeighbor {
	var out []savedNeighbor
	for _, a := range v.Adjacencies {
		if a.Data != "" && !a.Observer {
			out = append(out, savedNeighbor{a.Remote, a.ID, a.Data})
		}
	}
	return out
}

// snapshot is the state worth keeping of r.
func (r *registry) snapshot(incarnation uint64) saved {
	out := saved{Incarnation: incarnation}
	for _, s := range r.ordered() {
		ss := savedSession{Pod: s.pod, Token: s.token, Lease: s.lease}
		for _, v := range s.services {
			ss.Services = append(ss.Services, savedService{
				Prefix: v.Prefix, Address: v.Address, HealthPath: v.HealthPath, DetectPath: v.DetectPath,
				Granted: r.verdicts[claim{s.pod, v.Prefix.Prefix}].granted,
			})
		}
		out.Sessions = append(out.Sessions, ss)
	}
	return out
}

// restore takes over what was announced before a restart: it stays announced
// for its lease, without asking the SPA first (design §4).
func (r *registry) restore(s saved, now time.Time, newID func() uint64) (pods map[string][]dmsc.ServicePrefix) {
	r.current = nil
	pods = map[string][]dmsc.ServicePrefix{}
	for _, ss := range s.Sessions {
		sess := &session{id: newID(), pod: ss.Pod, token: ss.Token, lease: ss.Lease, expires: now.Add(ss.Lease)}
		for _, v := range ss.Services {
			sess.services = append(sess.services, service{
				Prefix: v.Prefix, Address: v.Address, HealthPath: v.HealthPath, DetectPath: v.DetectPath,
			})
		}
		r.sessions[sess.id] = sess
		for _, v := range ss.Services {
			if v.Granted {
				r.judge(ss.Pod, v.Prefix.Prefix, verdict{granted: true})
			}
		}
		pods[ss.Pod] = r.claims(ss.Pod)
	}
	return pods
}
