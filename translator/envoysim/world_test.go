package envoysim_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/lab/labtest"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/translator/envoysim"
)

// world is a random node n-1 and the hosts around it: neighbours m-1 to m-3,
// which answer themselves, and pods.
type world struct {
	rng     *rand.Rand
	ip      string // a loopback address of its own: ports cannot collide
	hosts   map[string]*host
	dead    []string // addresses
	names   []string // that there are entries of
	outside []string // hosts and ports of external services
	text    strings.Builder

	mu    sync.Mutex
	calls map[string][]string // what hosts have seen, by request id
}

type host struct {
	name, address string
	tcp           bool
}

// answer is what a host answers: an error if the request asks for one of it.
func (h *host) answer(r envoysim.Request) envoysim.Reply {
	if at, _ := r.Headers.First("x-fail"); !h.tcp && (at == h.name || at == "all") {
		return envoysim.Reply{Status: 503, Headers: envoysim.Headers{{Name: "dmsc-error", Value: "no-healthy; node=" + h.name}}}
	}
	return envoysim.Reply{Status: 200}
}

func newWorld(rng *rand.Rand) *world {
	return &world{
		rng: rng, hosts: make(map[string]*host), calls: make(map[string][]string),
		ip: fmt.Sprintf("127.%d.%d.%d", 1+rng.IntN(254), rng.IntN(256), 1+rng.IntN(254)),
	}
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func pick[T any](w *world, of ...T) T { return of[w.rng.IntN(len(of))] }

// host starts a host at a new address, or leaves it dead.
func (w *world) host(t *testing.T, name string, tcp bool) string {
	h := &host{name: name, address: fmt.Sprintf("%s:%d", w.ip, 29000+len(w.hosts)), tcp: tcp}
	w.hosts[h.address] = h
	if len(w.dead) < 3 && w.chance(20) {
		w.dead = append(w.dead, h.address)
		fmt.Fprintf(&w.text, "dead: %s\n", name)
		return h.address
	}
	l, err := net.Listen("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	if tcp {
		t.Cleanup(func() { l.Close() })
		go w.serveTCP(h, l)
		return h.address
	}
	server := &http.Server{Handler: w.handler(h), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return h.address
}

func (w *world) handler(h *host) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		if r.Host == "health.dmsc" {
			return
		}
		in := envoysim.Request{Method: r.Method, Path: r.RequestURI}
		for key, values := range r.Header {
			for _, v := range values {
				in.Headers = append(in.Headers, envoysim.Header{Name: strings.ToLower(key), Value: v})
			}
		}
		id, _ := in.Headers.First("x-id")
		w.called(id, w.visit(h.address, in, false))
		reply := h.answer(in)
		for _, line := range reply.Headers {
			rw.Header().Add(line.Name, line.Value)
		}
		rw.WriteHeader(int(reply.Status))
	}
}

// serveTCP takes a line with the id of a request and sends it back.
func (w *world) serveTCP(h *host, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if id, err := bufio.NewReader(c).ReadString('\n'); err == nil {
				w.called(strings.TrimSpace(id), w.visit(h.address, envoysim.Request{}, true))
				io.WriteString(c, id)
			}
		}()
	}
}

func (w *world) called(id, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[id] = append(w.calls[id], what)
}

// state draws what the node knows.
func (w *world) state(t *testing.T) translator.State {
	s := translator.State{
		Node: "n-1", Role: dmsc.RoleSG,
		Outside: translator.OutsideListener{Address: w.ip + ":28903"},
		Addrs:   translator.Addrs{Ingress: w.ip + ":28900", Fabric: w.ip + ":28901", Probe: w.ip + ":28902"},
	}
	for _, id := range []dmsc.NodeID{"m-1", "m-2", "m-3"} {
		address := ""
		for _, link := range []linkstate.LinkKey{{Remote: id, ID: "0"}, {Remote: id, ID: "b"}}[:1+w.rng.IntN(2)] {
			switch { // a second link leads to the same address or to another
			case w.chance(5):
				address = ""
			case address == "" || w.chance(50):
				address = w.host(t, link.String(), false)
			}
			n := translator.Neighbour{Data: address, Class: dmsc.WAN, Up: w.chance(80)}
			n.LinkKey = link
			s.Neighbours = append(s.Neighbours, n)
			fmt.Fprintf(&w.text, "link %s %s up=%t\n", link, address, n.Up)
		}
	}
	var entries []*rib.Entry
	local := make(map[dmsc.ServicePrefix][]dmsc.ServicePrefix) // instances of functions
	for _, text := range []string{"a/1", "a/2", "a/1/x", "b/1", "b/1/x/y", "b/10", "c/1", "c/2", "d.e/1", "d.e/1/~f", "t/1", "t/2"} {
		e := &rib.Entry{Prefix: dmsc.MustParsePrefix(text), Kind: rib.Announced, Protocol: pick(w, dmsc.HTTP1, dmsc.HTTP1, dmsc.HTTP2), ReplaySafe: w.chance(40)}
		if strings.HasPrefix(text, "t/") {
			e.Protocol = dmsc.TCP
		}
		if w.chance(15) {
			continue
		}
		if w.chance(40) {
			e.Local = true
			function, _ := e.Prefix.Function()
			local[function] = append(local[function], e.Prefix)
			path := pick(w, "", "/healthz")
			for i := range w.rng.IntN(3) {
				name := fmt.Sprintf("pod-%s-%d", text, i)
				s.Services = append(s.Services, translator.Service{
					Prefix: e.Prefix, Address: w.host(t, name, e.Protocol == dmsc.TCP), Protocol: e.Protocol, HealthPath: path, Weight: uint32(w.rng.IntN(3)),
				})
			}
		} else {
			e.Group = w.group(s.Neighbours)
		}
		entries = append(entries, e)
	}
	for _, text := range []string{"a", "b", "c", "t"} {
		e := &rib.Entry{Prefix: dmsc.MustParsePrefix(text), Kind: rib.Function, Protocol: dmsc.HTTP1}
		if e.Instances = local[e.Prefix]; len(e.Instances) > 0 {
			e.Local = true
			if text == "t" {
				e.Protocol = dmsc.TCP
			}
		} else {
			e.Group = w.group(s.Neighbours)
		}
		entries = append(entries, e)
	}
	entries = append(entries, &rib.Entry{Prefix: dmsc.MustParsePrefix("dmsc/node/m-1"), Kind: rib.Node, Group: w.group(s.Neighbours)})
	for _, e := range entries {
		w.names = append(w.names, e.Prefix.String())
		fmt.Fprintf(&w.text, "entry %s kind=%d local=%t %s safe=%t group=%v\n", e.Prefix, e.Kind, e.Local, e.Protocol, e.ReplaySafe, e.Group)
		if e.Kind != rib.Node && w.chance(25) {
			s.Steering = append(s.Steering, w.steering(e))
			fmt.Fprintf(&w.text, "steering %v\n", s.Steering[len(s.Steering)-1])
		}
	}
	s.RIB = rib.NewRIB("n-1", entries...)
	for _, host := range []string{"Orders.example", "a.example", "lost.example", "a.example"} {
		a := translator.Alias{Host: host, From: pick(w, translator.Pods, translator.Outside, translator.Pods|translator.Outside), Prefix: dmsc.MustParsePrefix(pick(w, "a/1", "b/1/q", "c", "t/1", "zz/9"))}
		if a.Path = pick(w, "", "/x", "/x/y", "/m-1"); len(s.Aliases) == 3 {
			a.Path = "/api.v1"
		}
		a.StripPath = a.Path != "" && w.chance(50)
		s.Aliases = append(s.Aliases, a)
		fmt.Fprintf(&w.text, "alias %v\n", s.Aliases[len(s.Aliases)-1])
	}
	for _, name := range []string{"ext-1", "ext-2", "ext-tcp"} {
		e := translator.External{Name: name, Host: "Ext.example", Protocol: dmsc.HTTP1, Endpoints: []string{w.ip}, Retries: uint32(w.rng.IntN(3))}
		if name == "ext-tcp" {
			e.Host, e.Protocol = "db.example", dmsc.TCP
		}
		address := netip.MustParseAddrPort(w.host(t, name, e.Protocol == dmsc.TCP))
		e.Port = address.Port()
		s.Externals = append(s.Externals, e)
		w.outside = append(w.outside, fmt.Sprintf("%s:%d", e.Host, e.Port))
		fmt.Fprintf(&w.text, "external %v\n", e)
	}
	return s
}

func (w *world) group(links []translator.Neighbour) *rib.Group {
	g := new(rib.Group)
	order := w.rng.Perm(len(links))
	n := 1 + w.rng.IntN(2)
	for _, i := range order[:n] {
		g.Primaries = append(g.Primaries, rib.NextHop{LinkKey: links[i].LinkKey, Weight: 1 + uint32(w.rng.IntN(3))})
	}
	if len(order) > n && w.chance(50) {
		g.Backup = []rib.NextHop{{LinkKey: links[order[n]].LinkKey, Weight: 1}}
	}
	g.Name = rib.GroupName(g.Primaries, g.Backup)
	return g
}

func (w *world) steering(e *rib.Entry) translator.Steering {
	s := translator.Steering{Prefix: e.Prefix, PolicyID: "p"}
	rest := 100
	for range 1 + w.rng.IntN(2) {
		path := translator.WeightedPath{Weight: uint32(w.rng.IntN(rest + 1))}
		rest -= int(path.Weight)
		path.Nodes = append([]dmsc.NodeID{"n-1"}, pick(w, []dmsc.NodeID{"m-1"}, []dmsc.NodeID{"m-2", "sg-9"}, []dmsc.NodeID{"m-3", "m-2", "sg-9"}, []dmsc.NodeID{"gone", "sg-9"})...)
		if e.Kind == rib.Function && w.chance(50) {
			path.Instance = dmsc.MustParsePrefix(e.Prefix.String() + "/1")
		}
		s.Paths = append(s.Paths, path)
	}
	return s
}

// request draws what a client or a neighbour may send.
func (w *world) request(i int) asked {
	q := asked{id: fmt.Sprint(i), listener: pick(w, "dmsc/ingress", "dmsc/ingress", "dmsc/fabric", "dmsc/fabric", "dmsc/probe", "dmsc/outside")}
	q.Method = pick(w, "GET", "GET", "GET", "POST", "HEAD", "OPTIONS", "DELETE", "PATCH", "CONNECT")
	q.Path = pick(w, "/", "/", "/x?y=/z", "/m-1", "/m-1/b", "/m-2?x", "//", "/%2e/x", "/x/y/z", "/xx", "/api.v1", "/api.v1/", "/api.v1?q=/", "/apiXv1", "/X", "/y/../x/./y", "/..", "/x/..", "/x/.", "/x%2Fy", "/a%5cb?%2f", "/%78/%41%2d%7e%25%3b", "/x//y", "/m-1/../m-2", "/x/%2e%2e;/y", "/x/.%2E;a=1?y", "/x/..%3b/y", "/x/y..;/z")
	if q.Method == "OPTIONS" && w.chance(50) {
		q.Path = "*"
	}
	q.Authority = pick(w, "sg.example", "orders.example", "ORDERS.example:80", "orders.example.", "orders.example.:80", "orders.example..", "a.example:", "lost.example", "a.example.com", "127.0.0.1", "ext.example", "ext.example:9", pick(w, w.outside...),
		"orders.example.", "[::1]", "[::1]:80", "a.example:80:80", "A.EXAMPLE.", "*")
	if q.Method == "CONNECT" {
		q.Path = ""
		q.Authority = pick(w, "db.example:5432", "orders.example:443", "orders.example.:443", pick(w, w.outside...))
	}
	add := func(percent int, name string, values ...string) {
		if w.chance(percent) {
			q.Headers = append(q.Headers, envoysim.Header{Name: name, Value: pick(w, values...)})
		}
	}
	named := 90
	if strings.HasPrefix(strings.ToLower(q.Authority), "ext") || strings.HasPrefix(q.Authority, "db") {
		named = 20
	}
	add(named, "dmsc-service-prefix", w.name(), w.name(), w.name(), "")
	add(5, "dmsc-service-prefix", w.name()) // a second line
	vias := []string{"<n-1>", "<xn-1>", "<m-1>", "<m-1>,<n-1>", "n-1", ""}
	paths := []string{">m-1>n-1>m-2>sg-9>", ">m-1>n-1>m-3>", ">n-1>m-1>", "safe>n-1>m-2>sg-9>", "tcp>n-1>m-1>m-2>", ">n-1>gone>sg-9>", ">x>y>", ">", "", "odd"}
	add(25, "dmsc-via", vias...)
	add(10, "dmsc-via", vias...)
	add(30, "dmsc-path", paths...)
	add(3, "dmsc-path", paths...)
	add(15, "dmsc-instance", "a/1", "b/1", "c/2", "zz/9")
	add(10, "dmsc-demoted", "dmsc/again", "1")
	add(10, "dmsc-key", "a/1", "dmsc/again", "")
	add(5, "dmsc-error", "forged")
	add(5, "dmsc_service_prefix", "a/1")
	add(5, "x-dmsc-keep-0", "a/1")
	add(5, "x-dmsc-keep-1", "1")
	add(5, "dmsc-trace", "1")
	add(15, "x-fail", "all", "m-1", "m-2", "m-3", "pod-a/1-0")
	add(5, "x-forwarded-proto", "http")
	return q
}

// name is a service prefix, a name below or beside one, or none.
func (w *world) name() string {
	name := pick(w, w.names...)
	switch w.rng.IntN(12) {
	case 0:
		return strings.ToUpper(name)
	case 1:
		return name + "/"
	case 2:
		return name + "/x"
	case 3:
		return name + "0"
	case 4:
		return pick(w, "zz/9", "*", "host:orders.example", "dmsc/hello", "dmsc/node/n-1", "dmsc/again", ">n-1>m-1>", "/", "a//1", "a/1/*", "a/1//", "a/1/.", "a/.", "a/1%2f", "%REQ(:path)%", "a/1 x", "/.", strings.Repeat("a/1/", 300))
	case 5:
		return name[:w.rng.IntN(len(name))]
	case 6:
		return pick(w, " "+name, name+" ", "\t"+name+" \t", name+"//", "/"+name, name+"/.", name+"/./x", strings.ReplaceAll(name, "/", "%2F"), name+", b/1", name+"\u00e9", "host:"+name, "dmsc/none")
	}
	return name
}

// ask sends a request and waits for its answer.
func (w *world) ask(s translator.State, q asked) (seen, error) {
	address := map[string]string{"dmsc/ingress": s.Addrs.Ingress, "dmsc/fabric": s.Addrs.Fabric, "dmsc/probe": s.Addrs.Probe, "dmsc/outside": s.Outside.Address}[q.listener]
	c, err := net.Dial("tcp", address)
	if err != nil {
		return seen{}, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	target := q.Path
	if q.Method == "CONNECT" {
		target = q.Authority
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nhost: %s\r\n", q.Method, target, q.Authority)
	for _, h := range append(slices.Clip(q.Headers), envoysim.Header{Name: "x-id", Value: q.id}) {
		fmt.Fprintf(&text, "%s: %s\r\n", h.Name, h.Value)
	}
	if q.Method == "POST" {
		text.WriteString("content-length: 0\r\n")
	}
	io.WriteString(c, text.String()+"\r\n")
	r := bufio.NewReader(c)
	response, err := http.ReadResponse(r, &http.Request{Method: q.Method})
	if err != nil {
		return seen{}, err
	}
	defer response.Body.Close()
	if q.Method == "CONNECT" && response.StatusCode == 200 {
		fmt.Fprintf(c, "%s\n", q.id)
		r.ReadString('\n') // a host that speaks HTTP just ends the stream
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return seen{uint32(response.StatusCode), response.Header.Get("dmsc-error"), w.calls[q.id]}, nil
}

// byEDS gives the endpoints of a cluster by EDS again, from a file: EDS treats
// them in another way than STATIC does.
func byEDS(t *testing.T, c *clusterv3.Cluster, file string) {
	endpoints, err := anypb.New(c.LoadAssignment)
	if err != nil {
		t.Fatal(err)
	}
	writeYAML(t, file, &discoveryv3.DiscoveryResponse{VersionInfo: "1", Resources: []*anypb.Any{endpoints}})
	c.LoadAssignment = nil
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{
			PathConfigSource: &corev3.PathConfigSource{Path: file},
		},
	}}
}

func writeYAML(t *testing.T, file string, m proto.Message) {
	text, err := translator.YAML(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// startEnvoy runs the resources until the test ends, and returns when Envoy
// serves.
// The result reads from its admin listener.
func startEnvoy(t *testing.T, envoy string, s translator.State, r translator.Resources) (read func(path string) []byte) {
	dir, err := os.MkdirTemp("", "dmsc") // t.TempDir is too long for a Unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "admin.sock")
	s.Addrs.Admin = "unix://" + socket
	boot, err := translator.Static(s.Node, s.Addrs, r)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range boot.StaticResources.Clusters {
		// A machine under load is not a network of dead hosts.
		c.ConnectTimeout = durationpb.New(time.Minute)
		for _, check := range c.HealthChecks {
			check.Timeout = durationpb.New(time.Minute)
		}
		byEDS(t, c, filepath.Join(dir, fmt.Sprintf("eds-%d.yaml", i)))
	}
	file := filepath.Join(dir, "envoy.yaml")
	writeYAML(t, file, boot)
	e := labtest.StartEnvoy(t, lab.EnvoyConfig{Name: "envoy", Binary: envoy, Bootstrap: file, Admin: socket})
	return func(path string) []byte {
		body, err := e.Get(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
}
