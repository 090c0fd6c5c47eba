package linkstatetest

import (
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// start brings up what is dead of a node, agent and Envoy.
func (n *Network) start(nd *node) {
	n.startAgent(nd)
	n.StartEnvoy(nd.id)
}

func (n *Network) startAgent(nd *node) {
	if nd.inst != nil {
		return
	}
	nd.file++
	nd.life++
	nd.config.Incarnation = nd.file
	inst, err := linkstate.New(nd.config, n.now)
	if err != nil {
		panic(err)
	}
	nd.inst, nd.started, nd.tickAt = inst, n.now, time.Time{}
	nd.held = make(map[linkstate.Key]*linkstate.LSA)
	n.step(nd, linkstate.SetLinks{Links: n.configured(nd)})
	if nd.config.Role != dmsc.RoleObserver {
		n.step(nd, linkstate.SetPrefixes{Prefixes: nd.prefixes})
	}
	for _, lk := range nd.links {
		n.probeRegularly(nd, lk)
	}
	life := nd.life
	n.after(patience, func() {
		if nd.life == life {
			nd.fib = nd.envoy
			n.wakeNode(nd)
		}
	})
}

// StartEnvoy starts the Envoy of a node; it has a FIB once the agent is synced,
// or some seconds after the agent's start.
func (n *Network) StartEnvoy(id dmsc.NodeID) {
	nd := n.node(id)
	if !nd.envoy {
		nd.envoy = true
		nd.fib = nd.inst != nil && n.now.Sub(nd.started) >= patience
		n.wakeNode(nd)
		n.step(nd, linkstate.DataPlane{Up: true})
	}
}

// KillEnvoy ends the Envoy of a node; its agent, if alive, sees it at once.
func (n *Network) KillEnvoy(id dmsc.NodeID) {
	nd := n.node(id)
	nd.envoy, nd.fib = false, false
	n.wakeNode(nd)
	n.step(nd, linkstate.DataPlane{Up: false})
}

// KillAgent ends the agent of a node; its Envoy forwards on.
func (n *Network) KillAgent(id dmsc.NodeID) {
	nd := n.node(id)
	nd.inst = nil
	nd.life++
	for _, lk := range nd.links {
		n.disconnect(lk)
	}
}

// Kill ends agent and Envoy of a node in one moment.
func (n *Network) Kill(id dmsc.NodeID) {
	n.KillAgent(id)
	n.KillEnvoy(id)
}

// Restart starts what is dead of a node again, with what its state file holds:
// the incarnation and the announcements.
func (n *Network) Restart(id dmsc.NodeID) { n.start(n.node(id)) }

// RestartBlank is Restart with a lost state file: the incarnation begins at 1,
// as bad as a clock can make it, and nothing is announced. An agent that lives
// has no use for its state file.
func (n *Network) RestartBlank(id dmsc.NodeID) { n.restartFrom(id, &saved{}) }

// Save makes a copy of the state file of a node.
func (n *Network) Save(id dmsc.NodeID) {
	nd := n.node(id)
	nd.saved = &saved{nd.file, nd.prefixes}
}

// RestartSaved is Restart with the state file as it was at the last Save.
func (n *Network) RestartSaved(id dmsc.NodeID) {
	if file := n.node(id).saved; file != nil {
		n.restartFrom(id, file)
	}
}

func (n *Network) restartFrom(id dmsc.NodeID, file *saved) {
	nd := n.node(id)
	if nd.inst == nil {
		nd.file, nd.prefixes = file.incarnation, file.prefixes
	}
	n.start(nd)
}
