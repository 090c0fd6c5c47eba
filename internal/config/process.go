package config

import (
	"fmt"
	"math"
	"reflect"
	"strings"

	"github.com/dmsc-mesh/dmsc/internal/manifest"
	"github.com/dmsc-mesh/dmsc/internal/regular"
)

// Process is what a file of settings is for: the verb of dmsc that reads it.
type Process string

const (
	NodeProcess Process = "node"
	SPAProcess  Process = "spa"
	SCSCProcess Process = "scsc"
	// EnvoyProcess: a bootstrap, which is none of ours.
	EnvoyProcess Process = "envoy"
)

// topKeys are those that a process knows at the top of its file.
var topKeys = []struct {
	Process
	keys []string
}{
	{NodeProcess, tops(nodeKeys{})}, {SPAProcess, tops(spaKeys{})}, {SCSCProcess, tops(scscKeys{})},
	{EnvoyProcess, []string{"node", "admin", "static_resources", "dynamic_resources"}},
}

func tops(settings any) (keys []string) {
	t := reflect.TypeOf(settings)
	for i := range t.NumField() {
		key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		keys = append(keys, key)
	}
	return keys
}

// ProcessOf tells which process a file is the settings of, by the keys at its top,
// even if one is given twice. A key that only one process knows says more than
// those of several; of processes with the same keys it is the first. It is "" if
// no process knows any, as for a document with a kind or for what is no YAML.
func ProcessOf(path string) (Process, error) {
	data, err := regular.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read settings: %w", err)
	}
	doc, err := manifest.ParseSettings(path, data)
	if err != nil || doc.Has("$.apiVersion") || doc.Has("$.kind") {
		return "", nil
	}
	knownBy := map[string]int{}
	for _, p := range topKeys {
		for _, key := range p.keys {
			knownBy[key]++
		}
	}
	var found Process
	most := 0.0
	for _, p := range topKeys {
		match := 0.0
		for _, key := range p.keys {
			if doc.Has("$." + key) {
				match += math.Pow(10, float64(-knownBy[key]))
			}
		}
		if match > most {
			found, most = p.Process, match
		}
	}
	return found, nil
}
