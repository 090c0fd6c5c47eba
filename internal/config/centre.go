package config

import (
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/manifest"
)

// SPA is the configuration of a prefix authentication unit (dmsc spa).
type SPA struct {
	Listen string // gRPC, host:port or unix:///path
	Health string
	Grants string // file or folder of PrefixGrants
	Log    Log
}

type spaKeys struct {
	Listen string  `yaml:"listen"`
	Health string  `yaml:"health"`
	Grants string  `yaml:"grants"`
	Log    logKeys `yaml:"log"`
}

// LoadSPA reads the configuration of an SPA, by the rules of LoadNode.
func LoadSPA(path string, flags map[string]any) (*SPA, error) {
	k := spaKeys{Listen: "127.0.0.1:17803", Health: "127.0.0.1:17805", Log: defaultLog}
	s, err := load(path, flags, &k)
	if err != nil {
		return nil, err
	}
	taken := listeners{}
	c := &SPA{
		Listen: s.listen(taken, "listen", k.Listen, true), Health: s.listen(taken, "health", k.Health, true),
		Grants: s.required("grants", k.Grants), Log: s.log(k.Log),
	}
	if err := s.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// SCSC is the configuration of a scheduling centre (dmsc scsc).
type SCSC struct {
	Node     dmsc.NodeID
	Domain   string
	StateDir string
	Log      Log
	Listen   string // gRPC, host:port or unix:///path
	Health   string
	Observe  []string // peering listeners of one or more nodes, host:port
	Policies string   // file or folder of policies; "" = none
	// PolicyTTL is how long nodes keep steering without a word of the SCSC.
	PolicyTTL time.Duration
	// MaxUnconfirmed is how many gateways have a policy that is new before as many
	// have accepted it; as many refusals halt it (rollout.max_unconfirmed).
	MaxUnconfirmed int
}

type scscKeys struct {
	Node     string   `yaml:"node"`
	Domain   string   `yaml:"domain"`
	StateDir string   `yaml:"state_dir"`
	Log      logKeys  `yaml:"log"`
	Listen   string   `yaml:"listen"`
	Health   string   `yaml:"health"`
	Observe  []string `yaml:"observe"`
	Policies string   `yaml:"policies"`

	PolicyTTL manifest.Duration `yaml:"policy_ttl"`
	Rollout   rolloutKeys       `yaml:"rollout"`
}

type rolloutKeys struct {
	MaxUnconfirmed int `yaml:"max_unconfirmed"`
}

// LoadSCSC reads the configuration of an SCSC, by the rules of LoadNode.
func LoadSCSC(path string, flags map[string]any) (*SCSC, error) {
	k := scscKeys{Node: "scsc", Domain: defaultDomain, Listen: "127.0.0.1:17804", Health: "127.0.0.1:17805", Log: defaultLog, PolicyTTL: manifest.Duration(10 * time.Minute), Rollout: rolloutKeys{1}}
	s, err := load(path, flags, &k)
	if err != nil {
		return nil, err
	}
	taken := listeners{}
	c := &SCSC{
		Node: s.node(k.Node), Domain: s.domain(k.Domain), Log: s.log(k.Log),
		Listen: s.listen(taken, "listen", k.Listen, true), Health: s.listen(taken, "health", k.Health, true),
		Observe: s.dials("observe", k.Observe), Policies: k.Policies, PolicyTTL: time.Duration(k.PolicyTTL), MaxUnconfirmed: k.Rollout.MaxUnconfirmed,
	}
	if c.PolicyTTL < time.Second || c.PolicyTTL > 24*time.Hour {
		s.faultf("policy_ttl", manifest.CodeValue, "%s is not between 1s and 24h", c.PolicyTTL)
	}
	if c.MaxUnconfirmed < 1 || c.MaxUnconfirmed > 1000 {
		s.faultf("rollout.max_unconfirmed", manifest.CodeValue, "%d is not between 1 and 1000", c.MaxUnconfirmed)
	}
	if len(k.Observe) == 0 {
		s.faultf("observe", manifest.CodeMissing, "the address of at least one node's peering listener is needed")
	}
	if c.StateDir, err = stateDir(k.StateDir, k.Node); err != nil {
		s.faultf("state_dir", manifest.CodeValue, "%v", err)
	}
	if err := s.err(); err != nil {
		return nil, err
	}
	return c, nil
}
