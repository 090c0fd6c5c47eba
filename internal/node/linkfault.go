package node

import (
	"fmt"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// LinkFault is a configured link that is not full: no request takes it, or its
// agent is away.
type LinkFault struct {
	Neighbor dmsc.NodeID `json:"neighbor"`
	Link     dmsc.LinkID `json:"link"`
	State    string      `json:"state"`
	SinceSec float64     `json:"since_seconds"` // of the state
	Why      string      `json:"why"`           // and what to do
}

// linkFaults are the first of them, in the order of their names.
func linkFaults(view *linkstate.View, dataPlane bool, now time.Time) []LinkFault {
	out := []LinkFault{}
	for _, a := range view.Adjacencies {
		if a.Observer || a.State == linkstate.StateFull || len(out) == maxNames {
			continue
		}
		out = append(out, LinkFault{
			Neighbor: a.Remote, Link: a.ID, State: a.State.String(), SinceSec: now.Sub(a.Since).Seconds(), Why: whyNotFull(view, a, dataPlane, now),
		})
	}
	return out
}

// whyNotFull is what is known of a link that is not full, in words.
func whyNotFull(view *linkstate.View, a linkstate.Adjacency, dataPlane bool, now time.Time) string {
	dial := "dial" // which is at the lower name
	if a.Remote < view.Node {
		dial = "dial in its settings"
	}
	switch {
	case view.Drain == linkstate.DrainRemoved:
		return "this node is out of service"
	case a.State == linkstate.StateHeld:
		return fmt.Sprintf("the agent of %s is away, and its Envoy goes on; start the agent within a minute of its end, or the link goes down", a.Remote)
	case a.AnsweredBy != "":
		return whoAnswers(view, a)
	case a.DampedUntil.After(now):
		return fmt.Sprintf("it has failed too often, and is held back for another %.1fs", a.DampedUntil.Sub(now).Seconds())
	case a.State == linkstate.StateDown && a.Alive:
		return fmt.Sprintf("its Envoy answers, its agent does not; start the agent of %s, or correct %s", a.Remote, dial)
	case a.State == linkstate.StateDown && !dataPlane: // who knows whether its Envoy would
		return fmt.Sprintf("the agent of %s does not answer; start it, or correct %s", a.Remote, dial)
	case a.State == linkstate.StateDown:
		return fmt.Sprintf("neither the agent nor the Envoy of %s answers; start them, or correct %s", a.Remote, dial)
	case !dataPlane:
		return "our own Envoy does not forward"
	case a.State == linkstate.StateInit:
		return fmt.Sprintf("its agent is connected and has not answered our hello; is the link configured at %s?", a.Remote)
	case a.State == linkstate.StateExchange:
		return "the databases are being exchanged"
	case !a.Alive && a.Data == "":
		return fmt.Sprintf("its agent has not said where its Envoy is; write fabric for the link to %s in the settings of %s", view.Node, a.Remote)
	case !a.Alive:
		return fmt.Sprintf("its agent is there, and no Envoy answers at %s, through ours; start the Envoy of %s, or correct fabric in the settings of %s", a.Data, a.Remote, a.Remote)
	}
	return fmt.Sprintf("%s does not take part: its Envoy is away, or it is drained", a.Remote)
}

// whoAnswers says whose Envoy it is, if it is not that of the neighbour.
func whoAnswers(view *linkstate.View, a linkstate.Adjacency) string {
	who := fmt.Sprintf("the Envoy of %s", a.AnsweredBy)
	if a.AnsweredBy == view.Node {
		who = "our own Envoy"
	}
	return fmt.Sprintf("%s answers at %s, which %s gives for its own; correct fabric of the link to %s, or envoy.fabric, in the settings of %s",
		who, a.Data, a.Remote, view.Node, a.Remote)
}

// noteLinks raises an alarm for as long as links flap, and for as long as the
// wrong Envoy answers our probes of one.
func (n *Node) noteLinks(view *linkstate.View) {
	var flapping, misled []string
	for _, a := range view.Adjacencies {
		if a.Flapping && len(flapping) < maxNames {
			flapping = append(flapping, a.LinkKey.String())
		}
		if a.AnsweredBy != "" && len(misled) < maxNames {
			misled = append(misled, whoAnswers(view, a))
		}
	}
	text := ""
	if len(flapping) > 0 {
		text = "links have failed three times or more within about a minute: " + strings.Join(flapping, " ") +
			"; look for a bad cable or an overloaded node; one that is not the only way returns only after it has been good for a second, and twice as long with each further failure"
	}
	n.standing("flapping_link", text)
	n.standing("unexpected_probe", strings.Join(misled, "; "))
}
