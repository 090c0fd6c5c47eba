package xds_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

func TestRecordToWritesWhatWasSentAndAnswered(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "xds.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f := serve(t, xds.Config{Record: xds.RecordTo(file)})
	c := xdstest.Dial(t, xdstest.Serve(t, f.Server), "sg-1")
	f.publish("sg-1", simple("a"))
	c.Subscribe(xds.Clusters, "a", "gone")
	c.Nack(c.Expect(xds.Clusters, "+a", "-gone"), "a is bad")
	f.event(xds.Nacked)

	type line struct {
		Dir     string            `json:"dir"`
		Sent    map[string]string `json:"sent"`
		Removed []string          `json:"removed"`
		Err     string            `json:"err"`
	}
	var lines []line
	if _, err := file.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(file); s.Scan(); {
		var l line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	if len(lines) < 3 || lines[0].Dir != "request" || lines[1].Dir != "response" || lines[1].Sent["a"] == "" ||
		len(lines[1].Removed) != 1 || lines[2].Err != "a is bad" {
		t.Errorf("got %+v", lines)
	}
}
