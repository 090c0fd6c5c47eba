package main

import (
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/node"
)

// historian serves a control socket with a history of three. Its Envoy accepts
// when it has been asked for patience times. It returns the state folder.
func historian(t *testing.T, patience int, orders *[]url.Values) string {
	t.Helper()
	h := node.HistoryStatus{Node: "sg-1", Generations: []node.GenerationStatus{{Version: "cc03", Wanted: true, Served: true, Acked: true}, {Version: "cc02"}, {Version: "dd01"}}}
	return serveControl(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		serve := func(version string) {
			for i := range h.Generations {
				g := &h.Generations[i]
				g.Served, g.Acked = g.Version == version, false
			}
			*orders = append(*orders, q)
		}
		switch r.Method {
		case http.MethodPut:
			serve(q.Get("to"))
			h.Pinned = &node.PinStatus{Version: q.Get("to")}
		case http.MethodDelete:
			serve("cc03")
			h.Pinned = nil
		default:
			if patience--; patience < 0 {
				for i := range h.Generations {
					h.Generations[i].Acked = h.Generations[i].Served
				}
			}
		}
		admin.WriteJSON(w, h)
	})
}

func TestRollbackPinsWhatIsMeantAndWaitsForEnvoy(t *testing.T) {
	t.Setenv("DMSC_STATE_DIR", "")
	for line, want := range map[string]struct{ seen, to string }{
		"dmsc xds rollback --state-dir DIR":                         {"sg-1: Envoy runs cc02; newer configurations wait for dmsc xds resume\n", "cc02"},
		"dmsc xds rollback --state-dir DIR --to -2":                 {"sg-1: Envoy runs dd01; newer configurations wait for dmsc xds resume\n", "dd01"},
		"dmsc xds rollback --state-dir DIR --to d --reason INC-204": {"sg-1: Envoy runs dd01; newer configurations wait for dmsc xds resume\n", "dd01"},
		"dmsc xds rollback --state-dir DIR --to -3":                 {"! dmsc: sg-1 has 3 configurations in its history: --to -3 is none of them\nexit 2\n", ""},
		"dmsc xds rollback --state-dir DIR --to 0":                  {"sg-1: Envoy goes on with cc03; newer configurations wait for dmsc xds resume\n", "cc03"},
		"dmsc xds rollback --state-dir DIR --to 1":                  {"! dmsc: --to 1 is not in the history of sg-1: to go back by 1 is --to -1, and a version of digits alone is given with four or more\nexit 2\n", ""},
		"dmsc xds rollback --state-dir DIR --to c":                  {"! dmsc: several versions in the history of sg-1 begin with \"c\": cc03, cc02\nexit 2\n", ""},
		"dmsc xds rollback --state-dir DIR --to e":                  {"! dmsc: no version in the history of sg-1 begins with \"e\"; dmsc xds history lists them\nexit 2\n", ""},
		"dmsc xds rollback --state-dir DIR --node sg-2":             {"! dmsc: unix://DIR/agent.sock is the agent of sg-1, not of sg-2\nexit 2\n", ""},
		"dmsc xds resume --state-dir DIR --node sg-1":               {"sg-1: nothing is pinned\n", ""},
		"dmsc xds undo": {"! dmsc: \"undo\" is not known; say one of history, resume, rollback; see dmsc xds --help\nexit 2\n", ""},
	} {
		var orders []url.Values
		dir := historian(t, 3, &orders)
		seen := strings.ReplaceAll(command(t, strings.ReplaceAll(line, "DIR", dir)), dir, "DIR")
		to := ""
		for _, o := range orders {
			to += o.Get("to")
		}
		if seen != want.seen || to != want.to {
			t.Errorf("%s: pinned to %q, seen\n%s", line, to, seen)
		}
		if strings.Contains(line, "INC-204") && orders[0].Get("reason") != "INC-204" {
			t.Errorf("the reason is lost: %v", orders)
		}
	}
}

func TestResumeEndsARollback(t *testing.T) {
	var orders []url.Values
	dir := historian(t, 0, &orders)
	// The folder above those of the nodes is as good.
	t.Setenv("DMSC_STATE_DIR", filepath.Dir(dir))
	name := filepath.Base(dir)
	command(t, "dmsc xds rollback --state-dir "+dir)
	if seen := command(t, "dmsc xds resume --node "+name); !strings.Contains(seen, "agent of sg-1, not of "+name) {
		t.Errorf("seen %s", seen)
	}
	if seen := command(t, "dmsc xds resume --state-dir "+dir); seen != "sg-1: Envoy runs the newest configuration again\n" {
		t.Errorf("seen %s", seen)
	}
	if len(orders) != 2 || slices.ContainsFunc(orders[1:], func(q url.Values) bool { return len(q) > 0 }) {
		t.Errorf("orders %v", orders)
	}
}

func TestRollbackThatEnvoyDoesNotAcceptInTimeExitsWith4(t *testing.T) {
	var orders []url.Values
	dir := historian(t, 1e6, &orders)
	want := "! dmsc: it is in force, but the Envoy has not accepted it within 200ms; see dmsc status\nexit 4\n"
	if seen := command(t, "dmsc xds rollback --timeout 200ms --state-dir "+dir); seen != want || len(orders) != 1 {
		t.Errorf("orders %v, seen\n%s", orders, seen)
	}
}

func TestRollbackWithoutAnAgentSaysSo(t *testing.T) {
	dir := shortTempDir(t)
	want := "! dmsc: unix://" + dir + "/agent.sock: cannot be reached: connect: no such file or directory; does the agent run here, with this state folder and as this user?\nexit 3\n"
	for _, verb := range []string{"history", "rollback", "resume"} {
		if got := command(t, "dmsc xds "+verb+" --state-dir "+dir); got != want {
			t.Error(got)
		}
	}
}

func TestARollbackOfARollbackSaysWhereFrom(t *testing.T) {
	var orders []url.Values
	dir := historian(t, 3, &orders)
	for _, step := range []struct{ line, seen string }{
		{"dmsc xds rollback --to cc02 --state-dir DIR", "sg-1: Envoy runs cc02; newer configurations wait for dmsc xds resume\n"},
		// From where would -1 be?
		{"dmsc xds rollback --state-dir DIR", "! dmsc: sg-1 is pinned to cc02 for 0s; 0 newer configurations wait for dmsc xds resume; say with --to where to go from there: dmsc xds history lists what there is\nexit 2\n"},
		{"dmsc xds rollback --to -1 --state-dir DIR", "sg-1: nothing changes, it is pinned to cc02 for 0s; 0 newer configurations wait for dmsc xds resume\n"},
		{"dmsc xds rollback --to dd01 --state-dir DIR", "sg-1: Envoy runs dd01, and no longer cc02; newer configurations wait for dmsc xds resume\n"},
		{"dmsc xds history --state-dir DIR --node sg-2", "! dmsc: unix://DIR/agent.sock is the agent of sg-1, not of sg-2\nexit 2\n"},
		{"dmsc xds history --state-dir DIR --node sg-2 --node sg-1", "! dmsc: --state-dir and --config mean one agent: give one --node at most\nexit 2\n"},
	} {
		if seen := strings.ReplaceAll(command(t, strings.ReplaceAll(step.line, "DIR", dir)), dir, "DIR"); seen != step.seen {
			t.Errorf("%s:\n%s", step.line, seen)
		}
	}
	if len(orders) != 2 {
		t.Errorf("orders %v", orders)
	}
	if seen := command(t, "dmsc xds history --node sg-1 --state-dir "+dir); !strings.Contains(seen, "sg-1  -2  dd01") || !strings.Contains(seen, "served acked") {
		t.Errorf("seen\n%s", seen)
	}
	if seen := string(output(t, "xds", "history", "-o", "json", "--state-dir", dir)); !strings.Contains(seen, `"version": "dd01"`) {
		t.Errorf("seen\n%s", seen)
	}
}

func TestAReasonOfAThousandLinesIsRefusedInOne(t *testing.T) {
	var orders []url.Values
	dir := historian(t, 0, &orders)
	seen := command(t, "dmsc xds rollback --state-dir "+dir+" --reason "+strings.Repeat("x", 100_000))
	if seen != "! dmsc: --reason has 100000 bytes, at most 256 are kept\nexit 2\n" || len(orders) > 0 {
		t.Errorf("orders %v, seen\n%.500s", orders, seen)
	}
}

// A part of it was refused in another version: Envoy is not asked again.
func TestARollbackToWhatWasRefusedBeforeExitsWith1(t *testing.T) {
	dir := serveControl(t, func(w http.ResponseWriter, r *http.Request) {
		h := node.HistoryStatus{Node: "sg-1", Given: "cc03", Generations: []node.GenerationStatus{{Version: "cc03", Served: true, Acked: true}, {Version: "cc02"}}}
		if r.Method == http.MethodPut {
			h.Given, h.Generations[0].Served, h.Generations[1].Served, h.Refused = "cc02", false, true, true
			h.Refusals = []node.RefusalStatus{{Type: "routes", Resource: "dmsc/ingress", Version: "cc01", Message: "no good", Running: true}}
		}
		admin.WriteJSON(w, h)
	})
	want := "! dmsc: it is in force, but Envoy refused routes dmsc/ingress and keeps the one before: \"no good\"\nexit 1\n"
	if seen := command(t, "dmsc xds rollback --state-dir "+dir); seen != want {
		t.Errorf("seen\n%s", seen)
	}
}

func TestARefusedRollbackExitsWith1AndEnvoysWords(t *testing.T) {
	dir := serveControl(t, func(w http.ResponseWriter, r *http.Request) {
		h := node.HistoryStatus{Node: "sg-1", Given: "cc03", Generations: []node.GenerationStatus{{Version: "cc03", Served: true, Acked: true}, {Version: "cc02"}}}
		if r.Method == http.MethodPut {
			h.Given, h.Generations[0].Served, h.Generations[1].Served, h.Warning = "cc02", false, true, "a restart of the agent will end it: no space left"
			h.Refusals = []node.RefusalStatus{{Type: "listeners", Resource: "old", Version: "cc03", Message: "this is about the newest"}, {
				Type: "listeners", Resource: "dmsc/ingress", Version: "cc02", Message: "Address already in use", Running: true,
			}}
			h.Pinned = &node.PinStatus{Version: "cc02"}
		}
		admin.WriteJSON(w, h)
	})
	want := "! warning: a restart of the agent will end it: no space left\n" +
		"! dmsc: it is in force, but Envoy refused listeners dmsc/ingress and keeps the one before: \"Address already in use\"\nexit 1\n"
	if seen := command(t, "dmsc xds rollback --state-dir "+dir); seen != want {
		t.Errorf("seen\n%s", seen)
	}
}
