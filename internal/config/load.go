package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"

	"github.com/dmsc-mesh/dmsc/internal/manifest"
	"github.com/dmsc-mesh/dmsc/internal/regular"
)

const envPrefix = "DMSC"

// source is where values came from, for the errors about them.
type source struct {
	doc    *manifest.Document // nil without a file
	flags  map[string]any
	faults []error
}

// load fills into, which holds the defaults and whose yaml tags are the keys.
// Path "" is no file. The keys of flags are dotted, as in "listen.api".
func load(path string, flags map[string]any, into any) (*source, error) {
	s := &source{flags: flags}
	v := viper.New()
	v.SetConfigType("yaml")
	if path != "" {
		data, err := regular.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("load config: %w", err)
		}
		if s.doc, err = manifest.ParseSettings(path, data); err != nil {
			return nil, err
		}
		if err := s.doc.Decode(reflect.New(reflect.TypeOf(into).Elem()).Interface()); err != nil {
			return nil, err
		}
		if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
			return nil, fmt.Errorf("load config %s: %w", path, err)
		}
	}
	v.SetEnvPrefix(envPrefix)
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	keys := leaves("", reflect.TypeOf(into).Elem())
	for _, key := range keys {
		if err := v.BindEnv(key); err != nil {
			return nil, fmt.Errorf("bind %s: %w", key, err)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(flags)) {
		if !slices.Contains(keys, key) {
			return nil, fmt.Errorf("there is no setting %q", key)
		}
		v.Set(key, flags[key])
	}
	err := v.UnmarshalExact(into, func(c *mapstructure.DecoderConfig) {
		c.TagName = "yaml"
		c.DecodeHook = mapstructure.ComposeDecodeHookFunc(
			mapstructure.TextUnmarshallerHookFunc(), mapstructure.StringToSliceHookFunc(","))
	})
	if err != nil { // the file has been checked: a flag or variable is meant
		return nil, fmt.Errorf("flags and %s_* environment: %w", envPrefix, err)
	}
	return s, nil
}

// leaves returns the dotted keys of a settings struct. Lists of structs are no
// leaves: only the file can hold them.
func leaves(prefix string, t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		f := t.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		key = prefix + key
		switch _, text := reflect.PointerTo(f.Type).MethodByName("UnmarshalText"); {
		case f.Type.Kind() == reflect.Struct && !text:
			keys = append(keys, leaves(key+".", f.Type)...)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
		default:
			keys = append(keys, key)
		}
	}
	return keys
}

// faultf notes what is wrong with the value of a key, where it was given.
func (s *source) faultf(key, code, format string, args ...any) {
	env := envPrefix + "_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
	if _, ok := s.flags[key]; ok {
		s.faults = append(s.faults, &manifest.Error{File: "flag " + key, Code: code, Msg: fmt.Sprintf(format, args...)})
		return
	}
	if os.Getenv(env) != "" {
		s.faults = append(s.faults, &manifest.Error{File: env, Code: code, Msg: fmt.Sprintf(format, args...)})
		return
	}
	msg := fmt.Sprintf("%s: %s", key, fmt.Sprintf(format, args...))
	if s.doc == nil {
		s.faults = append(s.faults, &manifest.Error{File: "config", Code: code, Msg: msg})
		return
	}
	s.faults = append(s.faults, s.doc.Errorf("$."+key, code, "%s", msg))
}

func (s *source) err() error { return errors.Join(s.faults...) }
