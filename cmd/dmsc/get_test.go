package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

// fakeNode is a node that believes what a test says.
type fakeNode struct {
	about       node.Summary
	records     func(asked int) []node.Record // by how often it was asked before
	adjacencies []node.AdjacencyStatus
	entries     []node.EntryStatus
	steering    []node.SteeringStatus
	lookups     map[string]node.Lookup
	log         []node.Computation
	history     node.HistoryStatus
	dump        string // of its Envoy, "" for an agent without the page
	asked       atomic.Int64
}

func (f *fakeNode) serve(t *testing.T) string {
	t.Helper()
	page := func(view func() any) admin.Page {
		return func(url.Values) (any, error) { return view(), nil }
	}
	other := map[string]http.HandlerFunc{}
	if f.dump != "" {
		other["/api/v1/envoy/config_dump"] = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, f.dump) }
	}
	s := httptest.NewServer(admin.Handler(admin.Config{Other: other, JSON: map[string]admin.Page{
		"/api/v1/node":        page(func() any { return f.about }),
		"/api/v1/adjacencies": page(func() any { return f.adjacencies }),
		"/api/v1/rib":         f.names,
		"/api/v1/fib":         f.names,
		"/api/v1/steering":    page(func() any { return f.steering }),
		"/api/v1/xds-history": page(func() any { return f.history }),
		"/api/v1/spf-log":     page(func() any { return f.log }),
		"/api/v1/lookup":      func(q url.Values) (any, error) { return f.lookups[q.Get("name")], nil },
		"/api/v1/lsdb": func(q url.Values) (any, error) {
			out := []node.Record{}
			for _, r := range f.records(int(f.asked.Add(1) - 1)) {
				if keys := q["key"]; len(keys) > 0 && !strings.Contains(strings.Join(keys, " ")+" ", r.Key+" ") {
					continue
				}
				if origin := q.Get("origin"); origin != "" && origin != string(r.Origin) {
					continue
				}
				out = append(out, r)
			}
			if q.Get("limit") == "1" {
				out = out[:1]
			}
			return out, nil
		},
	}}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func (f *fakeNode) names(q url.Values) (any, error) {
	if q.Get("limit") == "1" {
		return f.entries[:1], nil
	}
	return f.entries, nil
}

func always(r ...node.Record) func(int) []node.Record { return func(int) []node.Record { return r } }

// nodeRecord and prefixRecord are records of an order with links "sr-1:10" and
// prefixes.
func nodeRecord(origin, order string, links ...node.LinkContent) node.Record {
	return node.Record{
		Key: origin + ".node", Origin: dmsc.NodeID(origin), Order: order, ExpiresSec: 3540, Bytes: 58, BodySHA256: "n" + order,
		Content: &node.Content{NodeContent: &node.NodeContent{Role: dmsc.RoleSR, Transit: true, AvoidTags: []string{}, Links: links}},
	}
}

func prefixRecord(origin, order string, prefixes ...string) node.Record {
	c := &node.PrefixContent{}
	for _, p := range prefixes {
		c.Prefixes = append(c.Prefixes, node.Announced{Prefix: p, Weight: 1, Protocol: "http1", Attributes: []string{}})
	}
	return node.Record{
		Key: origin + ".prefix.17", Origin: dmsc.NodeID(origin), Order: order, ExpiresSec: 59.9, Bytes: 11, BodySHA256: "p" + order,
		Content: &node.Content{PrefixContent: c},
	}
}

func linkTo(to string, metric dmsc.Metric) node.LinkContent {
	return node.LinkContent{Neighbor: dmsc.NodeID(to), Link: "0", Metric: metric, Tags: []string{}}
}

func about(name string) node.Summary {
	return node.Summary{
		Node: dmsc.NodeID(name), Role: "SG", Incarnation: 7, UptimeSec: 60, Ready: true, NotReady: []string{},
		LSDB:       node.LSDBStatus{Records: 3, Digest: "00000000000000aa", Synced: true, Flooding: "reduced"},
		FIBStatus:  node.FIBStatus{Computed: 2, Names: 2, Groups: 1, PublishedAgeSec: 93784, UnpublishedNames: []string{}, UnackedNames: []string{}, Retired: []string{}},
		Envoy:      node.EnvoyStatus{DataPlane: true, Published: "v42", Acked: "v42", XDS: &node.XDSStatus{Connected: true, Phase: "live", Converged: true, SinceSec: 93784}},
		LinkCounts: node.LinkCounts{Full: 2, Configured: 3}, PrefixCounts: node.PrefixCounts{Announced: 2, Denied: 1}, PolicyCounts: node.PolicyCounts{Live: 1, Accepted: 1},
		LinkFaults: []node.LinkFault{}, InstanceFaults: []node.InstanceFault{}, PoliciesRefused: []node.PolicyStatus{}, Refusals: []node.RefusalStatus{}, Alarms: []node.AlarmStatus{},
		Drain: node.DrainStatus{Level: "none", Waiting: []dmsc.NodeID{}},
	}
}

// fleet is the nodes that the transcripts ask: well and ill ones.
func fleet(t *testing.T) *strings.Replacer {
	well := &fakeNode{
		about: about("sg-1"),
		adjacencies: []node.AdjacencyStatus{
			{Neighbor: "scsc", State: "synced", SinceSec: 200000, IsObserver: true, Flooding: true},
			{Neighbor: "sr-1", Link: "0", State: "full", Alive: true, Metric: 10, Class: "metro", Data: "127.0.0.1:15911", RTTMicros: 1234, SinceSec: 61, Flooding: true},
			{Neighbor: "sr-2", Link: "1", State: "down", Metric: dmsc.LastResort, Class: "wan", SinceSec: 0.25, Pending: 3, DampedSec: 12},
		},
		entries: []node.EntryStatus{
			{Prefix: "a", Kind: "function", Egress: []dmsc.NodeID{"sg-1"}, Local: true, NextHops: []string{}, Backup: []string{}, Instances: []string{"a/1"}, InEnvoy: "acked"},
			{Prefix: "a/4", Kind: "announced", Distance: 20, Egress: []dmsc.NodeID{"sg-4"}, Group: "sr-1~sr-2", NextHops: []string{"sr-1"}, Backup: []string{"sr-2"}, InEnvoy: "acked"},
			{Prefix: "d/3", Kind: "announced", Distance: dmsc.LastResort + 20, Egress: []dmsc.NodeID{"sg-3"}, Group: "sr-1", NextHops: []string{"sr-1"}, Backup: []string{}, NoBackup: "it has one neighbour only", InEnvoy: "acked"},
		},
		steering: []node.SteeringStatus{{Prefix: "a/4", PolicyID: "p-7.3", Acked: true, Paths: []node.PathStatus{{Nodes: []dmsc.NodeID{"sg-1", "sr-2", "sg-4"}, WeightPercent: 100}}}},
		log: []node.Computation{
			{At: time.Unix(1e9, 0).UTC(), AgeSec: 3, Kind: "incremental", Nodes: 2, Entries: 5, Coalesced: 1, WaitedMicros: 900, ComputeMicros: 57, TranslateMicros: 482, PublishMicros: 12345, Version: "v42",
				Causes: []node.Cause{{Record: "sr-2.node", What: []string{"link to sg-4 down"}}, {Link: "sr-2", What: []string{"full → down"}}}, CausesOmitted: 4},
			{At: time.Unix(1e9-1, 0).UTC(), AgeSec: 4000, Kind: "first", Nodes: 3, Entries: 9, ComputeMicros: 157, Causes: []node.Cause{}, Failed: true},
		},
		records: always(
			nodeRecord("sr-1", "7.12", linkTo("sg-1", 10), linkTo("sg-4", dmsc.LastResort)),
			prefixRecord("sg-4", "9.3", "a/4", "b/4"),
			node.Record{Key: "sg-9.node", Origin: "sg-9", Order: "3.1", ExpiresSec: 3000, Tombstone: true, BodySHA256: "t"},
			node.Record{Key: "sg-4.type9.1", Origin: "sg-4", Order: "9.9", ExpiresSec: 3000, Bytes: 3, BodySHA256: "u"},
		),
		lookups: map[string]node.Lookup{
			"a/4/x": {
				Name: "a/4/x", Why: "the longest announced prefix of a/4/x",
				Computed:  &node.EntryStatus{Prefix: "a/4", Kind: "announced", Distance: 20, Egress: []dmsc.NodeID{"sg-4"}, Group: "sr-1~sr-2", NextHops: []string{"sr-1"}, Backup: []string{"sr-2"}},
				Published: &node.EntryStatus{Prefix: "a/4", Kind: "announced", Distance: 30, Egress: []dmsc.NodeID{"sg-4"}, Group: "sr-2", NextHops: []string{"sr-2"}, Backup: []string{}, NoBackup: "it has one neighbour only", InEnvoy: "older"},
				Owners: []node.OwnerStatus{
					{Node: "sg-3", Prefix: "a/4", Distance: new(dmsc.Metric(40)), Why: "another is nearer"},
					{Node: "sg-4", Prefix: "a/4", Distance: new(dmsc.Metric(20)), Chosen: true, Why: "nearest"},
					{Node: "sg-8", Prefix: "a/4", Metric: 5, Why: "it cannot be reached"},
				},
				Steering: []node.SteeringStatus{{Prefix: "a/4", PolicyID: "p-7.3", Paths: []node.PathStatus{{Nodes: []dmsc.NodeID{"sg-1", "sr-2", "sg-4"}, WeightPercent: 50}}}},
			},
			"zz": {Name: "zz", Why: "nobody announces it, nor a prefix of it", Owners: []node.OwnerStatus{}, Steering: []node.SteeringStatus{}},
		},
	}
	ill := &fakeNode{about: about("sr-1"), records: always()}
	ill.about.Ready, ill.about.NotReady = false, []string{"fib: published \"v43\", acked \"v42\""}
	ill.about.FIBStatus.Unacked, ill.about.FIBStatus.UnackedNames = 2, []string{"a/4", "d/3"}
	ill.about.FIBStatus.Unpublished, ill.about.FIBStatus.UnpublishedNames = 1, []string{"a/4"}
	ill.about.FIBStatus.Failed, ill.about.FIBStatus.GroupCap = true, true
	ill.about.Refusals = []node.RefusalStatus{{
		Type: "listeners", Resource: "dmsc/ingress", Message: "cannot bind '127.0.0.1:15900': Address already in use", Version: "v43", Running: true, SinceSec: 36, Times: 3,
		Origins: []node.OriginStatus{{Kind: "setting", Name: "envoy.ingress", Text: "setting envoy.ingress (127.0.0.1:15900)"}},
	}, {
		Type: "clusters", Resource: "dmsc/group/sr-2", Message: "no good", Version: "v43", SinceSec: 36, Times: 1, Others: 9998,
		Origins: []node.OriginStatus{{Kind: "link", Name: "sr-2", Text: "link sr-2 (127.0.0.1:15921) [sr-2.node]"}, {Kind: "prefix", Name: "a/4", Text: "prefix a/4 of sg-4 [sg-4.prefix.17]"}},
	}}
	ill.about.Documents = &node.DocumentsStatus{Path: "documents", HostAliases: 2, Refused: "documents/a.yaml:4:16: DMSC303 HostAlias b at documents/b.yaml:4:16 claims x.example already"}
	ill.about.PoliciesRefused = []node.PolicyStatus{{ID: "p-7.4/fast/sr-1/a/4", State: "refused", Reason: "refused by Envoy: virtual host dmsc/policy/a/4: no good"}}
	ill.about.PolicyCounts = node.PolicyCounts{Live: 2, Refused: 1}
	ill.about.Alarms = []node.AlarmStatus{{AgeSec: 3, Code: "flapping_link", Text: "links have failed three times or more within about a minute: sr-2"}}
	ill.about.Envoy = node.EnvoyStatus{Published: "v43", Acked: "v42", XDS: &node.XDSStatus{
		Connected: true, Phase: "rejected", SinceSec: 61, LastNack: &node.NackStatus{Type: "listeners", Resources: []string{"dmsc/ingress"}, Message: "duplicate address", Version: "v43"},
	}}
	pinned := &fakeNode{about: about("sg-2"), records: always(), history: node.HistoryStatus{Node: "sg-2", Generations: []node.GenerationStatus{
		{Version: "c0ffee0000000003", Times: 1, AgeSec: 3, Wanted: true, Changes: []node.ChangesStatus{
			{Type: "clusters", Added: 1, Removed: 2, Names: []string{"+dmsc/group/sr-2", "-dmsc/group/sr-1", "-dmsc/group/sr-1~sr-2"}}, {Type: "endpoints", Added: 1, Changed: 1}, {Type: "routes", Changed: 1, Names: []string{"~dmsc/ingress"}},
		}},
		{Version: "c0ffee0000000002", Times: 21, AgeSec: 70, Served: true, Acked: true, Pinned: true, Changes: []node.ChangesStatus{{Type: "routes", Changed: 2, Names: []string{"~dmsc/fabric", "~dmsc/ingress"}}}},
		{Version: "dec0de0000000001", Times: 1, AgeSec: 200000},
	}}}
	pinned.history.Pinned = &node.PinStatus{Version: "c0ffee0000000002", SinceSec: 12, Reason: "INC-204", Waiting: 1, Newest: "c0ffee0000000003", Withheld: []string{"a/4", "b/1"}, WithheldCount: 9}
	pinned.about.Envoy = node.EnvoyStatus{DataPlane: true, Published: "c0ffee0000000003", Acked: "c0ffee0000000002", XDS: &node.XDSStatus{
		Connected: true, Phase: "live", Converged: true, SinceSec: 3600, Pinned: pinned.history.Pinned,
	}}
	misled := &fakeNode{about: about("sg-3"), records: always()}
	misled.about.LinkCounts, misled.about.FIBStatus.Names = node.LinkCounts{Configured: 1}, 0
	misled.about.LinkFaults = []node.LinkFault{{Neighbor: "sr-1", Link: "0", State: "synced", SinceSec: 120, Why: "our own Envoy answers at 127.0.0.1:15901"}}
	misled.about.Alarms = []node.AlarmStatus{{AgeSec: 119, Times: 3, Code: "unexpected_probe", Text: misled.about.LinkFaults[0].Why}}
	left := &fakeNode{about: about("sg-4"), records: always()}
	left.about.LinkCounts = node.LinkCounts{Full: 1, Configured: 20}
	left.about.LinkFaults = []node.LinkFault{{Neighbor: "sr-1", Link: "1", State: "down", SinceSec: 3, Why: "neither answers"}, {Neighbor: "sr-2", Link: "0", State: "init", SinceSec: 1, Why: "is it configured?"}}
	left.about.SPAAway, left.about.SPAAwaySec, left.about.PrefixCounts = true, 90, node.PrefixCounts{Announced: 2, Pending: 1}
	left.about.SCSCAway, left.about.SCSCAwaySec, left.about.PoliciesEndSec = true, 30, 570
	sick := &fakeNode{about: about("sg-5"), records: always()}
	sick.about.PrefixCounts, sick.about.InstanceFaultCount = node.PrefixCounts{Announced: 2, Unhealthy: 1}, 5
	sick.about.InstanceFaults = []node.InstanceFault{{Pod: "pod-9", Prefix: "z/9", Address: "127.0.0.1:19999", SinceSec: 12, Why: "GET /healthz at 127.0.0.1:19999: connect: connection refused"}}
	stalled := &fakeNode{about: about("sr-4"), records: always()}
	stalled.about.Envoy = node.EnvoyStatus{Published: "v43", Acked: "v42", DataPlaneSec: 36, UnackedSec: 35, XDS: &node.XDSStatus{Connected: true, Phase: "clusters", SinceSec: 600}}
	stalled.about.FIBStatus.Unpublished, stalled.about.FIBStatus.UnpublishedNames = 5, []string{"a", "a/1", "a/4", "b/4", "c"}
	bare := &fakeNode{about: about("sr-2"), records: always()}
	bare.about.Envoy, bare.about.Drain.Level = node.EnvoyStatus{Published: "v1"}, "removed"
	starting := &fakeNode{about: node.Summary{Node: "sr-3", Role: "SR", NotReady: []string{"loop: starting"}}, records: always()}
	old := httptest.NewServer(admin.Handler(admin.Config{}))
	t.Cleanup(old.Close)
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(slow.Close)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	t.Cleanup(other.Close)
	return strings.NewReplacer("PINNED", pinned.serve(t), "MISLED", misled.serve(t), "LEFT", left.serve(t), "SICK", sick.serve(t), "STALLED", stalled.serve(t), "WELL", well.serve(t), "ILL", ill.serve(t), "BARE", bare.serve(t), "STARTING", starting.serve(t), "OLD", strings.TrimPrefix(old.URL, "http://"),
		"SLOW", strings.TrimPrefix(slow.URL, "http://"), "OTHER", strings.TrimPrefix(other.URL, "http://"), "NOBODY", nobody(t))
}

// What a person at a terminal sees of nodes that are well, ill, starting, old,
// slow, absent or something else.
func TestReadingVerbs(t *testing.T) {
	t.Setenv(nodesEnv, "")
	dir := t.TempDir()
	names := fleet(t)
	var back []string
	for _, name := range []string{"PINNED", "MISLED", "LEFT", "SICK", "STALLED", "WELL", "ILL", "BARE", "STARTING", "OLD", "SLOW", "OTHER", "NOBODY"} {
		back = append(back, names.Replace(name), name)
	}
	back = append(back, dir, "HERE", version(), "VERSION")
	datadriven.Walk(t, "testdata/get", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "file":
				writeFile(t, dir+"/"+d.CmdArgs[0].Key, names.Replace(d.Input)+"\n", 0o644)
				return ""
			case "env":
				t.Setenv(nodesEnv, names.Replace(strings.ReplaceAll(d.Input, "HERE", dir)))
				return ""
			case "run":
				var text strings.Builder
				for line := range strings.Lines(d.Input) {
					text.WriteString(strings.NewReplacer(back...).Replace(command(t, names.Replace(strings.ReplaceAll(line, "HERE", dir)))))
				}
				return text.String()
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

// A pin is on purpose; what is refused besides is not.
func TestARefusalIsNotHiddenByAPin(t *testing.T) {
	s := about("sg-1")
	s.Envoy.XDS.Pinned = &node.PinStatus{}
	if got := stateOf(answer[node.Summary]{value: s}); got.State != statePinned || len(got.Reasons) != 1 {
		t.Errorf("%+v", got)
	}
	s.Refusals = []node.RefusalStatus{{Type: "clusters", Resource: "c"}}
	if got := stateOf(answer[node.Summary]{value: s}); got.State != stateRefused || len(got.Reasons) != 2 {
		t.Errorf("%+v", got)
	}
}

// An SPA that is away is one line, however many gateways it has.
func TestACentreThatIsAwayIsOneLineOfAFleet(t *testing.T) {
	var nodes []nodeState
	for i := range 40 {
		s := about(fmt.Sprint("sg-", i))
		s.SPAAway, s.SPAAwaySec, s.PrefixCounts = true, float64(60+i), node.PrefixCounts{Announced: 2, Pending: i % 2}
		if i < 2 {
			s.SCSCAway, s.SCSCAwaySec, s.PoliciesEndSec, s.PolicyCounts = true, 5, float64(100-i), node.PolicyCounts{Live: i}
		}
		nodes = append(nodes, stateOf(answer[node.Summary]{value: s}))
	}
	var out strings.Builder
	if err := printStatus(&out, nodes); err != nil {
		t.Fatal(err)
	}
	_, below, _ := strings.Cut(out.String(), "\n\n")
	want := "40 nodes, sg-0, sg-1, sg-2, +37: no SPA answers, for 1m39s: 20 prefixes wait for one; the 80 that are announced stay\n" +
		"2 nodes, sg-0, sg-1: no SCSC answers, for 5s: 1 policies end in 1m39s, and their names go by plain SPF\n"
	if below != want {
		t.Errorf("it says\n%s\nwant\n%s", below, want)
	}
	if len(nodes[39].Notices) != 1 {
		t.Errorf("the notices of one node: %v", nodes[39].Notices)
	}
}

// A list of nodes with one address twice leaves a node unasked.
func TestANodeThatAnswersForAnotherIsNotInSync(t *testing.T) {
	s := about("sg-1")
	for name, want := range map[string]string{"": stateInSync, "sg-1": stateInSync, "sg-2": stateUnreachable} {
		if got := stateOf(answer[node.Summary]{nodeAt: nodeAt{name, "http://there"}, value: s}); got.State != want || len(got.Reasons) > 0 != (want != stateInSync) {
			t.Errorf("asked for %q: %+v", name, got)
		}
	}
}

func TestSameDigestsAreEqualWithoutReadingTheRecords(t *testing.T) {
	t.Setenv(nodesEnv, "")
	a, b := &fakeNode{about: about("sg-1")}, &fakeNode{about: about("sr-1")} // asking for records would panic
	if got := string(output(t, "lsdb", "diff", "--node", a.serve(t), "--node", b.serve(t))); got != "equal: sg-1, sr-1 hold the same 3 records\n" {
		t.Errorf("it says %q", got)
	}
}

// databases are those of two nodes, b's by how often it was asked.
func databases(t *testing.T, a []node.Record, b func(asked int) []node.Record) (nodes []string) {
	t.Helper()
	t.Setenv(nodesEnv, "")
	x, y := &fakeNode{about: about("sg-1"), records: always(a...)}, &fakeNode{about: about("sr-1"), records: b}
	y.about.LSDB.Digest = "00000000000000bb"
	return []string{"--node", x.serve(t), "--node", y.serve(t)}
}

// A record that needs a moment from one node to the other is none that differs.
func TestARecordOnItsWayIsNoDifference(t *testing.T) {
	now, before := prefixRecord("sg-4", "9.3", "a/4"), prefixRecord("sg-4", "9.2")
	nodes := databases(t, []node.Record{now}, func(asked int) []node.Record {
		if asked < 3 {
			return []node.Record{before}
		}
		return []node.Record{now}
	})
	got := string(output(t, append([]string{"lsdb", "diff", "--settle", "10s"}, nodes...)...))
	if want := "1 records were on their way\nequal: sg-1, sr-1 hold the same 1 records\n"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}

func TestARecordThatKeepsMovingIsNoDifference(t *testing.T) {
	nodes := databases(t, []node.Record{prefixRecord("sg-4", "9.900")}, func(asked int) []node.Record {
		return []node.Record{prefixRecord("sg-4", "9."+string(rune('1'+asked)))}
	})
	got := string(output(t, append([]string{"lsdb", "diff", "--settle", "350ms"}, nodes...)...))
	if want := "1 records were on their way\nequal: sg-1, sr-1 hold the same 1 records\n"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}

func TestDifferencesAreToldInWords(t *testing.T) {
	other := prefixRecord("sg-3", "5.1", "d/4")
	other.BodySHA256 = "o" // below the p of the other body
	nodes := databases(t, []node.Record{
		nodeRecord("sr-1", "7.12", linkTo("sg-1", 10), linkTo("sg-4", 20)),
		prefixRecord("sg-3", "5.1", "d/3"),
		prefixRecord("sg-4", "9.3", "a/4"),
		prefixRecord("sg-5", "2.2", "e/5"),
		nodeRecord("sr-2", "7.1"),
	}, always(
		nodeRecord("sr-1", "7.9", linkTo("sg-1", 15), linkTo("sg-2", 10)),
		other,
		prefixRecord("sg-5", "2.2", "e/5"),
		nodeRecord("sr-2", "8.1", linkTo("sg-1", 10)),
	))
	args := append([]string{"dmsc", "lsdb", "diff", "--settle", "100ms"}, nodes...)
	golden(t, "testdata/pages/lsdb_diff.txt", []byte(command(t, strings.Join(args, " "))))
	golden(t, "testdata/pages/lsdb_diff.json.txt", []byte(command(t, strings.Join(append(args, "-o", "json"), " "))))
}
