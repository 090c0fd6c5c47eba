package config

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/manifest"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Node is the configuration of an SG or SR agent (dmsc node).
type Node struct {
	Node    dmsc.NodeID
	Domain  string
	Role    dmsc.Role // RoleSG or RoleSR
	Transit bool
	// Algorithm and AvoidTags say what the metrics of links are; alike in the
	// whole domain.
	Algorithm linkstate.Algorithm
	AvoidTags []string
	StateDir  string
	Log       Log
	Listen    NodeListen
	Envoy     Envoy
	Links     []Link
	// SPA and SCSC are where they answer. No SPA: every prefix waits.
	SPA, SCSC Centres
	// Lease of announcements that ask for none.
	Lease   time.Duration
	Outside Outside
	// Documents is a file or folder of HostAlias and ExternalService documents,
	// which is read again when it changes; "" = none.
	Documents string
	// RecordXDS is a file that every message between agent and Envoy is appended
	// to, one JSON object per line; "" = none. For finding out what happened.
	RecordXDS string
}

// NodeListen are the agent's own listeners, each host:port or unix:///path
// unless noted; an empty host is all interfaces, port 0 any free one.
type NodeListen struct {
	API     string // announcements of pods
	XDS     string // for the Envoy beside the agent
	Peering string // host:port
	Health  string // health, metrics and the admin API
}

// Envoy are the listeners of the Envoy beside the agent, IP:port; Probe and
// Admin may be unix:///path. Ingress is empty on an SR.
type Envoy struct {
	Ingress, Fabric, Probe, Admin string
	// Strict has Ingress refuse header names with an underscore and paths with
	// an escaped slash.
	Strict bool
	// OnDemand has Envoy fetch the cluster of a next-hop group at its first request.
	OnDemand bool
	XDS      XDS
	// MaxHeap is what Envoy may use before it turns clients away, in bytes; it
	// is part of the bootstrap.
	MaxHeap   uint64
	AccessLog AccessLog
	PodLimits PodLimits
}

// PodLimits are those of the local instances of a name, see
// translator.PodLimits; 0 = none.
type PodLimits struct {
	Connections, Pending, Requests uint32
}

// XDS says by which streams Envoy takes its configuration from the agent, see
// translator.Source.
type XDS struct {
	PerType bool
	SotW    bool
	Cluster string
}

// AccessLog says which requests Envoy writes down, see translator.AccessLog.
type AccessLog struct {
	To     string // "" = none
	Fabric bool
	// Of a million.
	Sample, SampleErrors uint32
}

// Outside is the listener of an SG's Envoy for clients that are not of the mesh.
type Outside struct {
	Listen string // IP:port; "" = none
	// Certificate and Key are PEM files, with absolute paths; "" = no TLS.
	Certificate, Key string
	// TrustedHops is how many proxies in front tell the truth in
	// x-forwarded-for.
	TrustedHops uint32
}

// Centres are the addresses of SPAs or SCSCs, host:port, each as good as the
// other.
type Centres struct{ Addresses []string }

// Link is a link to a neighbour.
type Link struct {
	Neighbor dmsc.NodeID
	ID       dmsc.LinkID
	Metric   dmsc.Metric
	Class    dmsc.LinkClass
	Capacity uint64 // bit/s; 0 = unknown
	// Dial is the neighbour's peering listener, host:port, at the lower node id,
	// which is the one that dials; "" at the higher.
	Dial string
	// Fabric is our data address as the neighbour reaches it, IP:port.
	Fabric string
	Tags   []string
}

// nodeKeys is the file.
type nodeKeys struct {
	Node      string              `yaml:"node"`
	Domain    string              `yaml:"domain"`
	Role      dmsc.Role           `yaml:"role"`
	Transit   *bool               `yaml:"transit"`
	Algorithm linkstate.Algorithm `yaml:"algorithm"`
	AvoidTags []string            `yaml:"avoid_tags"`
	StateDir  string              `yaml:"state_dir"`
	Log       logKeys             `yaml:"log"`
	Listen    struct {
		API     string `yaml:"api"`
		XDS     string `yaml:"xds"`
		Peering string `yaml:"peering"`
		Health  string `yaml:"health"`
	} `yaml:"listen"`
	Envoy struct {
		Ingress string `yaml:"ingress"`
		Fabric  string `yaml:"fabric"`
		Probe   string `yaml:"probe"`
		Admin   string `yaml:"admin"`

		Strict     bool          `yaml:"strict"`
		OnDemand   bool          `yaml:"clusters_on_demand"`
		MaxHeapMiB uint64        `yaml:"max_heap_mib"`
		XDS        xdsKeys       `yaml:"xds"`
		AccessLog  accessLogKeys `yaml:"access_log"`
		PodLimits  podLimitKeys  `yaml:"pod_limits"`
	} `yaml:"envoy"`
	Links     []linkKeys        `yaml:"links"`
	SPA       addressKeys       `yaml:"spa"`
	SCSC      addressKeys       `yaml:"scsc"`
	Lease     manifest.Duration `yaml:"lease"`
	Documents string            `yaml:"documents"`
	Outside   struct {
		Listen string `yaml:"listen"`
		TLS    struct {
			Certificate string `yaml:"certificate"`
			Key         string `yaml:"key"`
		} `yaml:"tls"`
		TrustedHops uint32 `yaml:"trusted_hops"`
	} `yaml:"outside"`

	RecordXDS string `yaml:"record_xds"`
}

type xdsKeys struct {
	Streams string `yaml:"streams"`
	Dialect string `yaml:"dialect"`
	Cluster string `yaml:"cluster"`
}

type accessLogKeys struct {
	To           string           `yaml:"to"`
	Fabric       bool             `yaml:"fabric"`
	Sample       manifest.Percent `yaml:"sample"`
	SampleErrors manifest.Percent `yaml:"sample_errors"`
}

type podLimitKeys struct {
	Connections uint32 `yaml:"connections"`
	Pending     uint32 `yaml:"pending"`
	Requests    uint32 `yaml:"requests"`
}

type linkKeys struct {
	Neighbor string             `yaml:"neighbor"`
	ID       string             `yaml:"id"`
	Metric   *uint32            `yaml:"metric"`
	Class    dmsc.LinkClass     `yaml:"class"`
	Capacity manifest.Bandwidth `yaml:"capacity"`
	Dial     string             `yaml:"dial"`
	Fabric   string             `yaml:"fabric"`
	Tags     []string           `yaml:"tags"`
}

type addressKeys struct {
	Addresses []string `yaml:"addresses"`
}

// LoadNode reads the configuration of a node. Path "" is no file; the keys of
// flags are those of the file, dotted.
func LoadNode(path string, flags map[string]any) (*Node, error) {
	k := nodeKeys{Domain: defaultDomain, Log: defaultLog, Lease: manifest.Duration(30 * time.Second)}
	k.Listen.API, k.Listen.Peering, k.Listen.Health = "127.0.0.1:17800", "127.0.0.1:17802", "127.0.0.1:17805"
	k.Envoy.Fabric = "127.0.0.1:15901"
	k.Envoy.XDS = xdsKeys{Streams: "ads", Dialect: "delta", Cluster: "dmsc/xds"}
	k.Envoy.MaxHeapMiB, k.Envoy.AccessLog = 1024, accessLogKeys{Sample: 100, SampleErrors: 100}
	s, err := load(path, flags, &k)
	if err != nil {
		return nil, err
	}
	n := &Node{
		Node: s.node(k.Node), Domain: s.domain(k.Domain), Role: k.Role, Transit: k.Role == dmsc.RoleSR,
		Algorithm: k.Algorithm, AvoidTags: s.tags("avoid_tags", k.AvoidTags),
		StateDir: k.StateDir, Log: s.log(k.Log), Lease: time.Duration(k.Lease), RecordXDS: k.RecordXDS,
		SPA:  Centres{s.dials("spa.addresses", k.SPA.Addresses)},
		SCSC: Centres{s.dials("scsc.addresses", k.SCSC.Addresses)},
	}
	if k.Transit != nil {
		n.Transit = *k.Transit
	}
	if n.StateDir, err = stateDir(k.StateDir, k.Node); err != nil {
		s.faultf("state_dir", manifest.CodeValue, "%v", err)
	}
	if n.Lease < time.Second || n.Lease > time.Hour {
		s.faultf("lease", manifest.CodeValue, "%s is not between 1s and 1h", n.Lease)
	}
	s.nodeListeners(n, &k)
	s.envoy(n, &k)
	n.Links = s.links(n, k.Links)
	if n.Documents = k.Documents; n.Documents != "" && k.Role == dmsc.RoleSR {
		s.faultf("documents", manifest.CodeConflict, "an SR has no listener for pods or the outside; remove documents, or make the role SG")
	}
	if err := s.err(); err != nil {
		return nil, err
	}
	return n, nil
}

const defaultDomain = "default"

// stateDir makes the path absolute, since socket addresses are derived from it.
func stateDir(dir, node string) (string, error) {
	if dir == "" {
		return filepath.Join("/var/lib/dmsc", node), nil
	}
	return filepath.Abs(dir)
}

func (s *source) nodeListeners(n *Node, k *nodeKeys) {
	socket := func(given, name string) string {
		if given != "" {
			return given
		}
		return "unix://" + filepath.Join(n.StateDir, name)
	}
	taken := listeners{}
	n.Listen = NodeListen{
		API:     s.listen(taken, "listen.api", k.Listen.API, true),
		XDS:     s.listen(taken, "listen.xds", socket(k.Listen.XDS, "xds.sock"), true),
		Peering: s.listen(taken, "listen.peering", k.Listen.Peering, false),
		Health:  s.listen(taken, "listen.health", k.Listen.Health, true),
	}
	switch {
	case k.Role == dmsc.RoleUnknown:
		s.faultf("role", manifest.CodeMissing, "the role is missing, SG or SR")
	case k.Role == dmsc.RoleObserver:
		s.faultf("role", manifest.CodeValue, "a node is an SG or an SR; an observer is run by dmsc scsc")
	case k.Role == dmsc.RoleSR && k.Envoy.Ingress != "":
		s.faultf("envoy.ingress", manifest.CodeConflict, "an SR has no pod-facing listener; remove ingress, or make the role SG")
	case k.Role == dmsc.RoleSG:
		if k.Envoy.Ingress == "" {
			k.Envoy.Ingress = "127.0.0.1:15900"
		}
		n.Envoy.Ingress = s.listen(taken, "envoy.ingress", k.Envoy.Ingress, false)
	}
	s.outside(taken, n, k)
	n.Envoy.Fabric = s.listen(taken, "envoy.fabric", k.Envoy.Fabric, false)
	n.Envoy.Probe = s.listen(taken, "envoy.probe", socket(k.Envoy.Probe, "probe.sock"), true)
	n.Envoy.Admin = s.listen(taken, "envoy.admin", socket(k.Envoy.Admin, "admin.sock"), true)
}

func (s *source) outside(taken listeners, n *Node, k *nodeKeys) {
	o := &k.Outside
	n.Outside = Outside{Listen: o.Listen, Certificate: o.TLS.Certificate, Key: o.TLS.Key, TrustedHops: o.TrustedHops}
	if n.Outside == (Outside{}) {
		return
	}
	switch {
	case o.Listen == "":
		s.faultf("outside", manifest.CodeMissing, "listen is missing: the address at which Envoy takes clients outside the mesh")
	case k.Role == dmsc.RoleSR:
		s.faultf("outside", manifest.CodeConflict, "clients enter at an SG; remove outside, or make the role SG")
	default:
		s.listen(taken, "outside.listen", o.Listen, false)
	}
	if (o.TLS.Certificate == "") != (o.TLS.Key == "") {
		s.faultf("outside.tls", manifest.CodeMissing, "certificate and key are given together")
	}
	s.absolute("outside.tls.certificate", o.TLS.Certificate)
	s.absolute("outside.tls.key", o.TLS.Key)
	if o.TrustedHops > 16 {
		s.faultf("outside.trusted_hops", manifest.CodeValue, "%d proxies in front are too many, at most 16 are believed", o.TrustedHops)
	}
}

// absolute checks the name of a file that is read while the agent runs.
func (s *source) absolute(key, file string) {
	if file != "" && !filepath.IsAbs(file) {
		s.faultf(key, manifest.CodeValue, "%q is no absolute path; the agent may be started in any folder", file)
	}
}

// envoy is what else Envoy is told.
func (s *source) envoy(n *Node, k *nodeKeys) {
	const least = 64 // an idle Envoy has 10
	if k.Envoy.MaxHeapMiB < least || k.Envoy.MaxHeapMiB > 1<<20 {
		s.faultf("envoy.max_heap_mib", manifest.CodeValue, "%d is not between %d and %d", k.Envoy.MaxHeapMiB, least, 1<<20)
	}
	n.Envoy.PodLimits = PodLimits(k.Envoy.PodLimits)
	n.Envoy.Strict, n.Envoy.OnDemand, n.Envoy.MaxHeap = k.Envoy.Strict, k.Envoy.OnDemand, k.Envoy.MaxHeapMiB<<20
	n.Envoy.XDS = s.xds(k)
	l := k.Envoy.AccessLog
	switch {
	case l.To != "" && l.To != "stdout" && !filepath.IsAbs(l.To):
		s.faultf("envoy.access_log.to", manifest.CodeValue, "%q is neither stdout nor an absolute path; it is Envoy that writes it", l.To)
	case l.To == "" && l.Fabric:
		s.faultf("envoy.access_log.fabric", manifest.CodeConflict, "there is no access log; write envoy.access_log.to, stdout or a path")
	case l.To != "" && !l.Fabric && k.Role == dmsc.RoleSR:
		s.faultf("envoy.access_log.to", manifest.CodeConflict, "nothing would be written: an SR hears neighbours only; add fabric: true")
	}
	ofMillion := func(p manifest.Percent) uint32 { return uint32(math.Round(1e6 * p.Fraction())) }
	n.Envoy.AccessLog = AccessLog{To: l.To, Fabric: l.Fabric, Sample: ofMillion(l.Sample), SampleErrors: ofMillion(l.SampleErrors)}
}

func (s *source) xds(k *nodeKeys) XDS {
	x := k.Envoy.XDS
	if x.Streams != "ads" && x.Streams != "per_type" {
		s.faultf("envoy.xds.streams", manifest.CodeValue, "%q is neither ads, one stream for all, nor per_type", x.Streams)
	}
	if x.Dialect != "delta" && x.Dialect != "sotw" {
		s.faultf("envoy.xds.dialect", manifest.CodeValue, "%q is neither delta nor sotw, the state of the world", x.Dialect)
	}
	switch {
	case x.Cluster == "":
		s.faultf("envoy.xds.cluster", manifest.CodeMissing, "the name of the cluster is missing by which Envoy's bootstrap reaches the agent")
	case x.Cluster != "dmsc/xds" && strings.HasPrefix(x.Cluster, "dmsc/"):
		s.faultf("envoy.xds.cluster", manifest.CodeConflict, "%q: names that begin with dmsc/ are the agent's own; call the cluster of the bootstrap otherwise", x.Cluster)
	}
	if k.Envoy.OnDemand && (x.Streams != "ads" || x.Dialect != "delta") {
		s.faultf("envoy.clusters_on_demand", manifest.CodeConflict, "clusters are fetched on demand by one delta ADS stream only; remove clusters_on_demand, or envoy.xds")
	}
	return XDS{PerType: x.Streams == "per_type", SotW: x.Dialect == "sotw", Cluster: x.Cluster}
}

func (s *source) links(n *Node, keys []linkKeys) []Link {
	type end struct {
		neighbor dmsc.NodeID
		id       dmsc.LinkID
	}
	seen := map[end]bool{}
	var links []Link
	for i, k := range keys {
		at := fmt.Sprintf("links[%d]", i)
		l := Link{ID: "0", Metric: 10, Class: k.Class, Capacity: uint64(k.Capacity), Dial: k.Dial, Fabric: k.Fabric, Tags: s.tags(at+".tags", k.Tags)}
		neighbor, err := dmsc.ParseNodeID(k.Neighbor)
		switch l.Neighbor = neighbor; {
		case k.Neighbor == "":
			s.faultf(at, manifest.CodeMissing, "neighbor is missing")
		case err != nil:
			s.faultf(at+".neighbor", manifest.CodeValue, "%v", err)
		case neighbor == n.Node:
			s.faultf(at+".neighbor", manifest.CodeConflict, "the link leads from %s to itself", neighbor)
		}
		if k.ID != "" {
			if l.ID, err = dmsc.ParseLinkID(k.ID); err != nil {
				s.faultf(at+".id", manifest.CodeValue, "%v", err)
			}
		}
		if seen[end{l.Neighbor, l.ID}] {
			s.faultf(at, manifest.CodeDuplicate, "link %s to %s is given twice; parallel links need different ids", l.ID, l.Neighbor)
		}
		seen[end{l.Neighbor, l.ID}] = true
		if k.Metric != nil {
			l.Metric = dmsc.Metric(*k.Metric)
		}
		if l.Metric < 1 || l.Metric > dmsc.MaxLinkMetric {
			s.faultf(at+".metric", manifest.CodeValue, "%d is not between 1 and %d", l.Metric, dmsc.MaxLinkMetric)
		}
		switch {
		case k.Dial != "":
			s.dial(at+".dial", k.Dial)
			if n.Node > l.Neighbor {
				l.Dial = "" // the same file may be written for both ends
			}
		case n.Node < l.Neighbor:
			s.faultf(at, manifest.CodeMissing, "dial is missing: of %s and %s the lower name dials the other's peering listener", n.Node, l.Neighbor)
		}
		l.Fabric = s.linkFabric(at+".fabric", k.Fabric, n.Envoy.Fabric)
		links = append(links, l)
	}
	return links
}

// tags checks affinity tags: what is too many or too long no neighbour takes.
func (s *source) tags(key string, tags []string) []string {
	if len(tags) > linkstate.MaxTags {
		s.faultf(key, manifest.CodeTooMany, "%d tags, at most %d are allowed", len(tags), linkstate.MaxTags)
	}
	for i, t := range tags {
		if t == "" || len(t) > linkstate.MaxTag {
			s.faultf(fmt.Sprintf("%s[%d]", key, i), manifest.CodeValue, "a tag has 1 to %d bytes, not %d", linkstate.MaxTag, len(t))
		}
	}
	return tags
}

func (s *source) linkFabric(key, given, fabric string) string {
	addr := given
	if addr == "" {
		addr = fabric
	}
	switch _, _, err := hostPort(addr); {
	case err != nil && given != "":
		s.faultf(key, manifest.CodeAddress, "%v", err)
	case err == nil && everywhere(addr):
		s.faultf(key, manifest.CodeAddress, "%s is all interfaces; write the host:port at which this neighbour reaches our Envoy", addr)
	}
	return addr
}
