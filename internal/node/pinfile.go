package node

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/internal/durable"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/xds"
)

// The configuration that Envoy is pinned to is a file beside the state file: it
// may be large, and is written once. The file is there for as long as the pin
// is. It is gzip of a line of JSON and the resources, each behind its length.

const pinFile = "pin.gz"

// maxPin bounds what a file may hold, unpacked: what xds keeps a history for.
const maxPin = 256 << 20

// savedPin says in the state file what Envoy is pinned to.
type savedPin struct {
	Version string `json:"version"`
	Reason  string `json:"reason"`
}

func (p *pin) saved() *savedPin {
	if p == nil {
		return nil
	}
	return &savedPin{p.version, p.reason}
}

// pinHead is the line of JSON.
type pinHead struct {
	savedPin
	Node      string     `json:"node"`
	Published time.Time  `json:"published"`
	Since     time.Time  `json:"since"`
	OnDemand  []string   `json:"on_demand,omitempty"`
	Delivers  []delivery `json:"delivers"`
	Groups    []hops     `json:"groups"`
}

// hops are the next hops of a group.
type hops struct {
	Primaries []rib.NextHop `json:"primaries"`
	Backup    []rib.NextHop `json:"backup,omitempty"`
}

// writePin has the pin outlive the agent.
func writePin(cfg *config.Node, p *pin, set xds.Pin) error {
	head := pinHead{
		savedPin: *p.saved(), Node: string(cfg.Node), Published: set.Published, Since: set.Since, OnDemand: set.OnDemand, Delivers: p.delivers,
	}
	for _, g := range p.groups {
		head.Groups = append(head.Groups, hops{g.Primaries, g.Backup})
	}
	err := durable.Write(filepath.Join(cfg.StateDir, pinFile), 0o600, func(w io.Writer) error {
		packed, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(packed).Encode(head); err != nil { // ends with a newline
			return err
		}
		if err := set.WriteResources(packed); err != nil {
			return err
		}
		return packed.Close()
	})
	if err != nil {
		return fmt.Errorf("write what envoy is pinned to: %w", err)
	}
	return nil
}

// removePin ends a pin for the next start, too.
func removePin(dir string) error {
	if err := durable.Remove(filepath.Join(dir, pinFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what envoy was pinned to: %w", err)
	}
	return nil
}

// readPin reads what writePin has written; the error is fs.ErrNotExist without.
func readPin(cfg *config.Node) (head pinHead, set xds.Pin, err error) {
	f, err := os.Open(filepath.Join(cfg.StateDir, pinFile))
	if err != nil {
		return head, set, err
	}
	defer f.Close()
	unpacked, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return head, set, err
	}
	// Its end is reached with the right checksum only.
	r := bufio.NewReader(io.LimitReader(unpacked, maxPin))
	line, err := r.ReadBytes('\n')
	if err != nil {
		return head, set, fmt.Errorf("read its head: %w", err)
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return head, set, fmt.Errorf("read its head: %w", err)
	}
	if head.Node != string(cfg.Node) {
		return head, set, fmt.Errorf("it is of node %q", head.Node)
	}
	set = xds.Pin{Version: head.Version, Published: head.Published, Since: head.Since, OnDemand: head.OnDemand}
	return head, set, set.ReadResources(r, maxPin)
}

// restorePin goes on with the pin of the last agent, if there is one; last is
// what the state file says of it. A file that is of no use is set aside.
func (n *Node) restorePin(last *savedPin) {
	head, set, err := readPin(n.cfg)
	if err == nil {
		p := &pin{version: head.Version, reason: head.Reason, needs: &needs{delivers: head.Delivers, groups: head.groups(n.links())}}
		set.About = p.needs
		if err = n.envoy.Restore(string(n.cfg.Node), set); err == nil {
			n.loop.pin = p
			return
		}
	}
	gone := errors.Is(err, fs.ErrNotExist)
	if gone && last == nil {
		return
	}
	if path := filepath.Join(n.cfg.StateDir, pinFile); !gone {
		if err := os.Rename(path, path+".broken"); err != nil {
			n.log.Error("the file of a pin that cannot be used cannot be set aside", "path", path, "err", err)
		}
	}
	if last == nil {
		last = &savedPin{"an earlier configuration", "the state file does not say why"}
	}
	n.loop.lostPin = fmt.Sprintf("envoy was pinned to %s (%s); that has ended with the restart of the agent, and it is given the newest configuration: %v", last.Version, last.Reason, err)
}

// groups are those of the file of which all links are configured: others have no
// health to be told.
func (h pinHead) groups(links []linkstate.LinkConfig) (out []*rib.Group) {
	configured := func(hop rib.NextHop) bool {
		return slices.ContainsFunc(links, func(l linkstate.LinkConfig) bool { return l.LinkKey == hop.LinkKey })
	}
	for _, g := range h.Groups {
		all := slices.Concat(g.Primaries, g.Backup)
		if len(all) > 0 && !slices.ContainsFunc(all, func(hop rib.NextHop) bool { return !configured(hop) }) {
			out = append(out, &rib.Group{Name: rib.GroupName(g.Primaries, g.Backup), Primaries: g.Primaries, Backup: g.Backup})
		}
	}
	return out
}
