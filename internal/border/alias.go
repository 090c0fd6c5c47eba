package border

import (
	"fmt"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/manifest"
	"github.com/dmsc-mesh/dmsc/translator"
)

// KindAlias is the kind of alias documents.
const KindAlias = "HostAlias"

// aliasSpec is the YAML form.
type aliasSpec struct {
	Hosts     []string           `yaml:"hosts,required"`
	Path      string             `yaml:"path"`
	Prefix    dmsc.ServicePrefix `yaml:"prefix,required"`
	StripPath bool               `yaml:"stripPath"`
	From      []string           `yaml:"from"`
}

// sides are the listeners that an alias may be for.
var sides = map[string]translator.Side{"pods": translator.Pods, "outside": translator.Outside}

func (r *reader) alias() {
	s := aliasSpec{From: []string{"pods"}}
	if err := r.doc.Decode(&s); err != nil {
		r.fault(err)
		return
	}
	a := translator.Alias{Name: r.doc.Name, Path: s.Path, Prefix: s.Prefix, StripPath: s.StripPath}
	if s.Path == "/" {
		a.Path = ""
	}
	if err := translator.CheckPath(a.Path); err != nil {
		r.faultf(".path", CodePath, "%v", err)
	}
	if a.StripPath && a.Path == "" {
		r.faultf(".stripPath", manifest.CodeConflict, "there is no path to strip; give one, or leave stripPath out")
	}
	if a.Prefix.Reserved() {
		r.faultf(".prefix", manifest.CodePrefix, "%s belongs to the network itself", a.Prefix)
	}
	if len(s.Hosts) == 0 {
		r.faultf(".hosts", manifest.CodeMissing, "hosts is empty, write at least one")
	}
	if len(s.From) == 0 {
		r.faultf(".from", manifest.CodeMissing, "from is empty, write pods, outside or both")
	}
	for i, name := range s.From {
		at := fmt.Sprintf(".from[%d]", i)
		switch side, ok := sides[name]; {
		case !ok:
			r.faultf(at, manifest.CodeValue, "%q is neither pods nor outside", name)
		case a.From&side != 0:
			r.faultf(at, manifest.CodeDuplicate, "%s is given twice", name)
		default:
			a.From |= side
		}
	}
	for i, host := range s.Hosts {
		at := fmt.Sprintf(".hosts[%d]", i)
		a.Host = r.host(at, host)
		if a.From&translator.Pods != 0 {
			r.owns(a.Host, at)
		}
		for _, name := range []string{"pods", "outside"} {
			if a.From&sides[name] != 0 {
				r.claim(name+" "+a.Host+a.Path, at, fmt.Sprintf("%s%s from %s", a.Host, a.Path, name))
			}
		}
		r.set.Aliases = append(r.set.Aliases, a)
	}
}
