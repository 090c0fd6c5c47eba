package linkstate

import (
	"testing"
	"time"
)

// A flapping origin makes ten versions a second, and each lives an hour: what
// has been replaced must not be kept until then.
func TestReplacedRecordsAreNotKeptByTheirTimers(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	d := newDatabase()
	key := Key{Origin: "sr-1", Type: TypeNode}
	var newest *record
	for seq := range uint64(10_000) {
		newest = newRecord("test", &LSA{Key: key, Order: Order{Incarnation: 1, Seq: seq + 1}, NotAfter: now.Add(MaxLifetime)})
		d.put(now, newest)
		if len(d.timers) > 100 {
			t.Fatalf("%d timers for one record", len(d.timers))
		}
	}
	if got := d.next(); !got.Equal(now.Add(MaxLifetime)) {
		t.Errorf("the next timer is at %v, want the end of life of the newest", got)
	}
	if due, kind := d.due(now.Add(MaxLifetime)); due != newest || kind != timerExpire {
		t.Errorf("due is %+v of kind %d, want the end of life of the newest", due, kind)
	}
}
