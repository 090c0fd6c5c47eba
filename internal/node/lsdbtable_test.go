package node

import (
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// lsa is a record of a database, distinguishable by its sequence.
func lsa(origin dmsc.NodeID, fragment uint32, seq uint64) *linkstate.LSA {
	name := dmsc.MustParsePrefix(fmt.Sprintf("%s/%d", origin, fragment))
	return &linkstate.LSA{
		Key:   linkstate.Key{Origin: origin, Type: linkstate.TypePrefix, Fragment: fragment},
		Order: linkstate.Order{Incarnation: 1, Seq: seq}, NotAfter: t0.Add(time.Hour), Body: []byte(name.String()),
		Content: &linkstate.PrefixLSA{Prefixes: []linkstate.Prefix{{Prefix: name}}},
	}
}

// database is a view and a table of nodes × fragments records.
func database(tb testing.TB, nodes, fragments int) (*linkstate.View, *lsdbTable) {
	tb.Helper()
	var all []*linkstate.LSA
	var keys []linkstate.Key
	for i := range nodes {
		for f := range fragments {
			l := lsa(dmsc.NodeID(fmt.Sprintf("n-%d", i)), uint32(f), 1)
			all, keys = append(all, l), append(keys, l.Key)
		}
	}
	v := &linkstate.View{Records: linkstate.NewRecords(all...)}
	t := newLSDBTable()
	if err := t.update(v, keys); err != nil {
		tb.Fatal(err)
	}
	return v, t
}

func keysOf(records iter.Seq[*linkstate.LSA]) (out []string) {
	for l := range records {
		out = append(out, l.Key.String()+" "+l.Order.String())
	}
	return out
}

func TestTheTableHoldsWhatTheViewHolds(t *testing.T) {
	a1, b1, b2, ba := lsa("b", 1, 1), lsa("b", 2, 1), lsa("b", 10, 1), lsa("ba", 1, 1)
	node := &linkstate.LSA{Key: linkstate.Key{Origin: "b", Type: linkstate.TypeNode}, Order: linkstate.Order{Incarnation: 1, Seq: 1}}
	v := &linkstate.View{Records: linkstate.NewRecords(b2, ba, b1, a1, node)}
	table := newLSDBTable()
	var keys []linkstate.Key
	for l := range v.Records.All() {
		keys = append(keys, l.Key)
	}
	if err := table.update(v, keys); err != nil {
		t.Fatal(err)
	}
	all := []string{"b.node 1.1", "b.prefix.1 1.1", "b.prefix.2 1.1", "b.prefix.10 1.1", "ba.prefix.1 1.1"} // by number, not by letter
	want(t, keysOf(table.all(linkstate.Key{})), all)
	want(t, keysOf(table.all(b1.Key)), all[2:])
	want(t, keysOf(table.of("b")), all[:4]) // and not those of ba
	want(t, keysOf(table.of("c")), []string(nil))
	want(t, keysOf(table.get([]linkstate.Key{ba.Key, {Origin: "c"}, node.Key})), []string{"ba.prefix.1 1.1", "b.node 1.1"})

	before := table.all(linkstate.Key{})
	newer := lsa("b", 2, 2)
	now := &linkstate.View{Records: linkstate.NewRecords(ba, newer, node)}
	if err := table.update(now, []linkstate.Key{a1.Key, newer.Key, b2.Key, {Origin: "never", Type: 1}}); err != nil {
		t.Fatal(err)
	}
	want(t, keysOf(table.all(linkstate.Key{})), []string{"b.node 1.1", "b.prefix.2 1.2", "ba.prefix.1 1.1"})
	want(t, keysOf(before), all) // who reads sees the moment at which he began
}

// stuck takes the first bytes and then no more until it is released.
type stuck struct {
	http.ResponseWriter
	began, release chan struct{}
	once           bool
}

func (s *stuck) Write(b []byte) (int, error) {
	if !s.once {
		s.once = true
		close(s.began)
		<-s.release
	}
	return s.ResponseWriter.Write(b)
}

// Reading verbs never delay the loop: neither one that takes its time, nor what
// is written on its way to it.
func TestAReaderOfManyRecordsDoesNotHoldUpTheWriter(t *testing.T) {
	v, table := database(t, 430, 256) // 110k
	n := &Node{rows: table}
	h := admin.Handler(admin.Config{JSON: map[string]admin.Page{"/api/v1/lsdb": n.lsdbPage}})
	w := &stuck{ResponseWriter: httptest.NewRecorder(), began: make(chan struct{}), release: make(chan struct{})}
	read := make(chan struct{})
	go func() {
		defer close(read)
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/lsdb", nil))
	}()
	<-w.began
	// The reader stands in the middle of the database. The write returns, or the
	// test never ends.
	newer := lsa("n-9", 200, 2)
	if err := table.update(&linkstate.View{Records: linkstate.NewRecords(newer)}, []linkstate.Key{newer.Key, {Origin: "n-9", Type: linkstate.TypePrefix, Fragment: 201}}); err != nil {
		t.Fatal(err)
	}
	want(t, len(keysOf(table.of("n-9"))), 255)
	close(w.release)
	<-read
	var got []Record
	readJSON(t, w.ResponseWriter.(*httptest.ResponseRecorder), &got)
	want(t, len(got), v.Records.Len())
	if slices.ContainsFunc(got, func(r Record) bool { return r.Order != "1.1" }) {
		t.Error("a reader sees two moments")
	}
}

func TestTheLSDBIsReadInPartsByOriginKeyAndPage(t *testing.T) {
	_, table := database(t, 3, 4)
	n := &Node{rows: table}
	h := admin.Handler(admin.Config{JSON: map[string]admin.Page{"/api/v1/lsdb": n.lsdbPage}})
	ask := func(query string) (out []string) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/lsdb"+query, nil))
		var got []Record
		readJSON(t, w, &got)
		for _, r := range got {
			out = append(out, r.Key)
			if (r.Content == nil) != (query == "?content=false&limit=1") {
				t.Errorf("%s has the content %v", query, r.Content)
			}
		}
		return out
	}
	want(t, ask("?origin=n-1"), []string{"n-1.prefix.0", "n-1.prefix.1", "n-1.prefix.2", "n-1.prefix.3"})
	want(t, ask("?origin=n-1&after=n-1.prefix.2"), []string{"n-1.prefix.3"})
	want(t, ask("?origin=n-9"), []string(nil))
	want(t, ask("?key=n-2.prefix.1&key=n-0.prefix.0&key=x.node"), []string{"n-2.prefix.1", "n-0.prefix.0"})
	want(t, ask("?after=n-0.prefix.3&limit=2"), []string{"n-1.prefix.0", "n-1.prefix.1"})
	want(t, ask("?content=false&limit=1"), []string{"n-0.prefix.0"})
	for _, bad := range []string{"?limit=0", "?limit=x", "?key=n-1", "?after=n-1.prefix.x", "?origin=A_", "?orgin=n-1"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/lsdb"+bad, nil))
		if w.Code != http.StatusBadRequest || w.Body.Len() < 10 {
			t.Errorf("%s answers %d %q", bad, w.Code, w.Body)
		}
	}
}

// One changed record costs the same in a large database.
func BenchmarkPublishOneRecord(b *testing.B) {
	for _, nodes := range []int{4, 430} {
		b.Run(fmt.Sprintf("records=%d", nodes*256), func(b *testing.B) {
			_, table := database(b, nodes, 256)
			l := lsa("n-1", 7, 2)
			v := &linkstate.View{Records: linkstate.NewRecords(l)}
			changed := []linkstate.Key{l.Key}
			b.ReportAllocs()
			for b.Loop() {
				if err := table.update(v, changed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
