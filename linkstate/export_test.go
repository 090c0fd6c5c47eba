package linkstate

import "fmt"

// Unfinished says what a turn has left undone because it has not touched an
// adjacency that it should have; "" if nothing.
func (i *Instance) Unfinished() string {
	for _, a := range i.order {
		before := *a
		i.exchanged(a)
		i.advance(a)
		_, queued := a.out.pop()
		switch {
		case a.state != before.state || a.sentSynced != before.sentSynced || a.flaps != before.flaps:
			return fmt.Sprintf("%s was %s and goes on to %s without an event", a, before.state, a.state)
		case a.ackDue:
			return fmt.Sprintf("an acknowledgement to %s is due", a)
		case queued && len(a.out.sent) < window:
			return fmt.Sprintf("records for %s are queued and the window is open", a)
		case !a.due.Equal(i.due(a)):
			return fmt.Sprintf("%s is due at %s and not at %s", a, i.due(a), a.due)
		case !a.due.IsZero() && (a.place >= len(i.dues) || i.dues[a.place] != a):
			return fmt.Sprintf("%s is not among those that are due", a)
		}
	}
	if len(i.touched) > 0 {
		return "adjacencies are touched between two turns"
	}
	return ""
}
