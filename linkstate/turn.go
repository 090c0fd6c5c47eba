package linkstate

import (
	"container/heap"
	"iter"
	"slices"
	"time"
)

// A node may have hundreds of neighbours, and an event concerns one of them. A
// turn looks at the adjacencies that it has touched, and Tick at those that are
// due, in the order of their keys, so that the output is the same as if it
// looked at all.

// touch has this turn look at a. Whatever changes what advance, exchanged, pump
// or due read of an adjacency touches it.
func (i *Instance) touch(a *adjacency) {
	if !a.touched {
		a.touched = true
		i.touched = append(i.touched, a)
	}
}

// touchAll is touch for what concerns all links.
func (i *Instance) touchAll() {
	for _, a := range i.order {
		i.touch(a)
	}
}

// eachTouched yields the touched adjacencies sorted by key; those touched on
// the way come or do not.
func (i *Instance) eachTouched() iter.Seq[*adjacency] {
	return func(yield func(*adjacency) bool) {
		all := i.touched
		if len(all) > len(i.order)/8 {
			all = i.order // sorted already
		} else {
			slices.SortFunc(all, func(a, b *adjacency) int { return a.LinkKey.Compare(b.LinkKey) })
		}
		for _, a := range all {
			if a.touched && !yield(a) {
				return
			}
		}
	}
}

// touchDue touches what Tick has to look at.
func (i *Instance) touchDue() {
	for len(i.dues) > 0 && !i.dues[0].due.After(i.now) {
		a := i.dues[0]
		heap.Pop(&i.dues)
		i.touch(a)
	}
}

// untouch ends the turn for the touched adjacencies.
func (i *Instance) untouch() {
	for n, a := range i.touched {
		i.touched[n] = nil
		a.touched = false
		if i.links[a.LinkKey] == a {
			i.dues.set(a, i.due(a))
		}
		if sends := len(a.out.pending) > 0; sends != a.sends {
			i.unshown++
			if a.sends = sends; sends {
				i.sending++
			} else {
				i.sending--
			}
		}
	}
	i.touched = i.touched[:0]
	i.stale = i.stale || i.unshown > 0 && i.unshown >= i.sending
}

// due is when Tick next has something to do for a; zero is never.
func (i *Instance) due(a *adjacency) (first time.Time) {
	consider := func(t time.Time) {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	if a.stream {
		consider(a.keepaliveAt)
		if a.phase() < StateSynced {
			consider(a.greetAt)
		}
	}
	if len(a.out.sent) > 0 {
		consider(a.out.resend)
	}
	if a.state == StateHeld {
		consider(a.holdEnds)
	}
	consider(a.flaps.until)
	if a.state >= StateFull && a.flaps.failures > 0 {
		consider(a.flaps.goodAt())
	}
	return first
}

// dues is a heap of adjacencies by what is due.
type dues []*adjacency

// set moves a to where t belongs; zero takes it out.
func (d *dues) set(a *adjacency, t time.Time) {
	queued := a.place < len(*d) && (*d)[a.place] == a
	switch a.due = t; {
	case queued && t.IsZero():
		heap.Remove(d, a.place)
	case queued:
		heap.Fix(d, a.place)
	case !t.IsZero():
		heap.Push(d, a)
	}
}

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].due.Before(d[j].due) }
func (d dues) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}
func (d *dues) Push(x any) {
	a := x.(*adjacency)
	a.place = len(*d)
	*d = append(*d, a)
}
func (d *dues) Pop() any {
	last := len(*d) - 1
	a := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return a
}
