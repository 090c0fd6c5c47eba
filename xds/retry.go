package xds

import "time"

// A listener may be refused for the machine and not for its content: its port
// is taken. Nobody would try it again, so a parked listener is sent again, less
// and less often, until the client accepts it or it changes. The other types
// are refused for what they say, and stay parked.

// retrySlowest times Config.RetryListener is the longest wait.
const retrySlowest = 12

// retryLater starts the wait after a refused listener.
func (st *stream) retryLater() {
	if st.retrying || st.srv.cfg.RetryListener < 0 {
		return
	}
	st.retrying = true
	st.retryWait = min(max(2*st.retryWait, st.srv.cfg.RetryListener), retrySlowest*st.srv.cfg.RetryListener)
	st.retryTimer.Reset(st.retryWait)
}

// retryNow makes the parked listeners due again.
func (st *stream) retryNow() {
	st.retrying = false
	for _, it := range st.subs[Listeners].todo {
		it.rejected = ""
	}
}

// retryEnded begins with the shortest wait again when no listener is parked.
func (st *stream) retryEnded() {
	for _, it := range st.subs[Listeners].todo {
		if it.rejected != "" {
			return
		}
	}
	st.retryWait = 0
}

// Clusters that the client brings along from an earlier stream, and that the
// set has not, went out of use while nobody served it: requests under way may
// still be retried by them. They are kept for Config.KeepInherited.

// inherit files what the client came with as its own target.
func (st *stream) inherit(t Type, initial map[string]string) {
	if (t != Clusters && t != Endpoints) || st.disowned || len(initial) == 0 || st.srv.cfg.KeepInherited == 0 {
		return
	}
	st.inherited[t] = map[string]*resource{}
	for name := range initial {
		st.inherited[t][name] = st.subs[t].held(name)
	}
}

// inheritedAs is what the client came with under a name and has had since.
func (st *stream) inheritedAs(t Type, name string) *resource {
	if r := st.inherited[t][name]; r != nil && st.subs[t].held(name) == r {
		return r
	}
	return nil
}

// disown lets go of all that.
func (st *stream) disown() {
	st.disowned = true
	for t := range numTypes {
		names := st.inherited[t]
		st.inherited[t] = nil
		for name := range names {
			st.touch(t, name)
		}
	}
}

// when is the channel of a timer that runs, and else one that a select need not
// look at.
func when(runs bool, t *time.Timer) <-chan time.Time {
	if !runs {
		return nil
	}
	return t.C
}

// stopped is a timer that does not run.
func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}
