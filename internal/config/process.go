package config

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/viper"

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

// ProcessOf tells which process a file is the settings of, by the keys at its top:
// the one that knows the most of them, of several the first. It is "" if no
// process knows any, as for a document with a kind or for what is no YAML.
func ProcessOf(path string) (Process, error) {
	data, err := regular.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read settings: %w", err)
	}
	v := viper.New()
	v.SetConfigType("yaml")
	if v.ReadConfig(bytes.NewReader(data)) != nil {
		return "", nil
	}
	keys := slices.Collect(maps.Keys(v.AllSettings()))
	if slices.Contains(keys, "apiversion") || slices.Contains(keys, "kind") {
		return "", nil
	}
	var found Process
	most := 0
	for _, p := range topKeys {
		known := 0
		for _, key := range p.keys {
			if slices.Contains(keys, key) {
				known++
			}
		}
		if known > most {
			found, most = p.Process, known
		}
	}
	return found, nil
}
