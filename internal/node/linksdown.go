package node

import (
	"fmt"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// LinkDown is a configured link that is not advertised, so that no request takes
// it.
type LinkDown struct {
	Neighbor dmsc.NodeID `json:"neighbor"`
	Link     dmsc.LinkID `json:"link"`
	State    string      `json:"state"`
	SinceSec float64     `json:"since_seconds"` // of the state
	Why      string      `json:"why"`           // and what to do
}

// linksDown are the first of them, in the order of their names.
func linksDown(view *linkstate.View, now time.Time) []LinkDown {
	out := []LinkDown{}
	for _, a := range view.Adjacencies {
		if a.Observer || a.Advertised() || len(out) == maxNames {
			continue
		}
		out = append(out, LinkDown{
			Neighbor: a.Remote, Link: a.ID, State: a.State.String(), SinceSec: now.Sub(a.Since).Seconds(), Why: whyDown(view, a, now),
		})
	}
	return out
}

// whyDown is what is known of a link that is not advertised, in words.
func whyDown(view *linkstate.View, a linkstate.Adjacency, now time.Time) string {
	switch {
	case view.Drain == linkstate.DrainRemoved:
		return "this node is out of service"
	case a.AnsweredBy == view.Node:
		return fmt.Sprintf("our own Envoy answers at %s, which %s gives for its own; correct fabric of the link to %s, or envoy.fabric, in the settings of %s",
			a.Data, a.Remote, view.Node, a.Remote)
	case a.AnsweredBy != "":
		return fmt.Sprintf("the Envoy of %s answers at %s, which %s gives for its own; correct fabric of the link to %s, or envoy.fabric, in the settings of %s",
			a.AnsweredBy, a.Data, a.Remote, view.Node, a.Remote)
	case a.DampedUntil.After(now):
		return fmt.Sprintf("it has failed too often, and is held back for another %.1fs", a.DampedUntil.Sub(now).Seconds())
	case a.State == linkstate.StateDown && a.Alive:
		return fmt.Sprintf("its Envoy answers, its agent does not; start the agent of %s, or correct dial", a.Remote)
	case a.State == linkstate.StateDown:
		return fmt.Sprintf("neither the agent nor the Envoy of %s answers; start them, or correct dial", a.Remote)
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
