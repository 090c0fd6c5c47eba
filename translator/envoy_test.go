package translator_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/lab/labtest"
	"github.com/dmsc-mesh/dmsc/translator"
)

// Each testdata/envoy file is a small network of real Envoys that run what
// Translate gives, and what pods on it see. Commands:
//
//	pod <name> [forge] [names] [tls=host] [fail=n] [refuse=status]
//	                           an HTTP server at {name}; forge: answers with dmsc-* headers;
//	                           names: adds those of all headers it was sent, and
//	                           for whom it was forwarded;
//	                           tls: with a certificate for host that {ca} signed;
//	                           fail: it hangs up on the first n requests
//	                           refuse: what it answers to an upgrade
//	tcp <name>                 a TCP server at {name}
//	envoy                      starts the node of the scene below; {name} is an address
//	get <node> [host=h] [path=/p] [method=m] [times=n]
//	                           a request to the node's ingress, with the headers
//	                           below; repeated: the different answers, sorted
//	raw <node>                 the lines below, as they are, to the node's ingress
//	websocket <node> [host=h] [path=/p]
//	                           an upgrade with the headers below, then a line of text
//	connect <node> [to=h:p]    a CONNECT with the headers below, then a line of text
//	probe <node> path=/p       what the agent asks
//	fabric <node>              a request to the node's fabric listener
//
// With the argument outside, a request goes to the listener for the outside.
// An address {name} that nothing was started at is a dead host. {name.ip} and
// {name.port} are its parts.
func TestEnvoyForwardsAsTranslated(t *testing.T) {
	envoy := findEnvoy(t)
	datadriven.Walk(t, "testdata/envoy", func(t *testing.T, file string) {
		t.Parallel()
		n := newNetwork(t, envoy)
		datadriven.RunTest(t, file, n.run)
	})
}

type network struct {
	envoy    string
	ip       string // a loopback address of this network's own: ports cannot collide
	ports    map[string]int
	states   map[string]translator.State
	envoys   map[string]*lab.Envoy
	served   atomic.Int64 // requests that pods have seen
	redact   *strings.Replacer
	dir      string
	replaced []string

	authority authority
}

func newNetwork(t *testing.T, envoy string) *network {
	dir, err := os.MkdirTemp("", "dmsc") // t.TempDir is too long for a Unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &network{
		envoy:  envoy,
		ip:     fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254)),
		ports:  make(map[string]int),
		states: make(map[string]translator.State),
		envoys: make(map[string]*lab.Envoy),
		redact: strings.NewReplacer(),
		dir:    dir,

		authority: newAuthority(t),
	}
}

func (n *network) run(t *testing.T, d *datadriven.TestData) string {
	name := ""
	if len(d.CmdArgs) > 0 {
		name = d.CmdArgs[0].Key
	}
	switch d.Cmd {
	case "pod":
		p := pod{name: name, forge: d.HasArg("forge"), names: d.HasArg("names")}
		d.MaybeScanArgs(t, "tls", &p.tls)
		d.MaybeScanArgs(t, "fail", &p.fail)
		d.MaybeScanArgs(t, "refuse", &p.refuse)
		n.pod(t, p)
		return ""
	case "tcp":
		n.tcp(t, name)
		return ""
	case "envoy":
		n.start(t, n.expand(d.Input))
		return ""
	case "get":
		host, path := "", "/"
		d.MaybeScanArgs(t, "host", &host)
		d.MaybeScanArgs(t, "path", &path)
		host = n.expand(host)
		method := "GET"
		d.MaybeScanArgs(t, "method", &method)
		times := 1
		addr := n.listener(d, name)
		d.MaybeScanArgs(t, "times", &times)
		var answers []string
		for range times {
			answers = append(answers, n.send(t, method, addr, path, host, d.Input))
		}
		slices.Sort(answers)
		return strings.Join(slices.Compact(answers), "")
	case "fabric":
		return n.get(t, n.states[name].Addrs.Fabric, "/", "", d.Input)
	case "probe":
		var path string
		d.ScanArgs(t, "path", &path)
		return n.get(t, n.states[name].Addrs.Probe, path, "", "")
	case "connect":
		to := "db.example:5432"
		d.MaybeScanArgs(t, "to", &to)
		to = n.expand(to)
		return n.exchange(t, n.listener(d, name), "CONNECT "+to+" HTTP/1.1\nHost: "+to+"\n"+d.Input)
	case "websocket":
		host, path := "ws.example", "/"
		d.MaybeScanArgs(t, "host", &host)
		d.MaybeScanArgs(t, "path", &path)
		return n.exchange(t, n.listener(d, name), "GET "+path+" HTTP/1.1\nHost: "+host+"\nConnection: Upgrade\nUpgrade: websocket\n"+d.Input)
	case "raw":
		return n.exchange(t, n.listener(d, name), d.Input)
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return ""
}

// listener is the one of a node that a command is for.
func (n *network) listener(d *datadriven.TestData, node string) string {
	s := n.states[node]
	if d.HasArg("outside") {
		return s.Outside.Address
	}
	return s.Addrs.Ingress
}

var braced = regexp.MustCompile(`\{[a-z0-9.-]+\}`)

// expand replaces {name} by the address of that name.
func (n *network) expand(text string) string {
	return braced.ReplaceAllStringFunc(text, func(s string) string { return n.address(strings.Trim(s, "{}")) })
}

func (n *network) address(name string) string {
	if name == "ca" {
		return n.authority.file
	}
	if name, ok := strings.CutSuffix(name, ".ip"); ok {
		host, _, _ := net.SplitHostPort(n.address(name))
		return host
	}
	if name, ok := strings.CutSuffix(name, ".port"); ok {
		_, port, _ := net.SplitHostPort(n.address(name))
		return port
	}
	if n.ports[name] == 0 {
		n.ports[name] = 15900 + len(n.ports)
	}
	return fmt.Sprintf("%s:%d", n.ip, n.ports[name])
}

type pod struct {
	name   string
	forge  bool
	names  bool
	tls    string // host
	fail   int64
	refuse int // status
}

// pod echoes what it was sent of ours and of Envoy's.
func (n *network) pod(t *testing.T, p pod) {
	var certificate *tls.Config
	if p.tls != "" {
		certificate = &tls.Config{Certificates: []tls.Certificate{n.authority.certificate(t, p.tls)}}
	}
	var failed atomic.Int64
	n.serveAs(t, p.name, certificate, func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "health.dmsc" {
			return
		}
		n.served.Add(1)
		if failed.Add(1) <= p.fail {
			panic(http.ErrAbortHandler)
		}
		name := p.name
		if r.TLS != nil {
			name += " (" + r.Proto + " to " + r.TLS.ServerName + ")"
		}
		if p.forge {
			for _, header := range []string{"dmsc-error", "dmsc-hop", "dmsc-node", "dmsc-generation"} {
				w.Header().Set(header, "forged")
			}
		}
		switch {
		case r.Header.Get("Upgrade") != "websocket":
		case p.refuse != 0:
			w.Header().Set("Location", "/login") // of a redirect
			w.WriteHeader(p.refuse)
			fmt.Fprintf(w, "%s: no", name)
			return
		default:
			upgrade(w, name+":"+ours(r.Header))
			return
		}
		path := ""
		if r.RequestURI != "/" {
			path = " " + r.RequestURI
		}
		if p.names {
			path += fmt.Sprint(" ", slices.Sorted(maps.Keys(r.Header)), " for=", lastHop.ReplaceAllString(r.Header.Get("X-Forwarded-For"), "<peer>"))
		}
		fmt.Fprintf(w, "%s:%s%s", name, path, ours(r.Header))
	})
}

// serve runs an HTTP/1.1 and HTTP/2 server at {name} until the test ends.
func (n *network) serve(t *testing.T, name string, handler http.HandlerFunc) {
	n.serveAs(t, name, nil, handler)
}

// serveAs is serve behind TLS, unless there is no certificate.
func (n *network) serveAs(t *testing.T, name string, certificate *tls.Config, handler http.HandlerFunc) {
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols), TLSConfig: certificate, ErrorLog: log.New(io.Discard, "", 0)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", n.address(name))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if certificate != nil {
			server.ServeTLS(l, "", "")
			return
		}
		server.Serve(l)
	}()
	t.Cleanup(func() { server.Close(); <-done })
}

// upgrade answers one line of a WebSocket's stream with text and the line.
func upgrade(w http.ResponseWriter, text string) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if line, err := rw.ReadString('\n'); err == nil {
		fmt.Fprintf(c, "%s %s", text, line)
	}
}

// tcp answers each line with its name and the line.
func (n *network) tcp(t *testing.T, name string) {
	n.accept(t, name, func(c net.Conn) {
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			fmt.Fprintf(c, "%s: %s\n", name, lines.Text())
		}
	})
}

// accept talks to each connection to an address until the test ends.
func (n *network) accept(t *testing.T, name string, talk func(net.Conn)) {
	l, err := net.Listen("tcp", n.address(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				talk(c)
			}()
		}
	}()
}

// start runs the Envoy of a scene until the test ends, and returns when it
// serves.
func (n *network) start(t *testing.T, text string) {
	n.startAs(t, text, nil)
}

// startAs lets the test change what Envoy starts with.
func (n *network) startAs(t *testing.T, text string, change func(*bootstrapv3.Bootstrap)) {
	state := parseScene(t, text)
	resources := translate(t, state)
	state.Addrs.Admin = "unix://" + filepath.Join(n.dir, string(state.Node)+".sock")
	n.states[string(state.Node)] = state
	n.replaced = append(n.replaced, resources.Generation, "<generation>")
	n.redact = strings.NewReplacer(n.replaced...)
	boot, err := translator.Static(state.Node, state.Addrs, resources)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(boot)
	}
	config := writeYAML(t, boot)

	n.envoys[string(state.Node)] = labtest.StartEnvoy(t, lab.EnvoyConfig{
		Name: "envoy of " + string(state.Node), Binary: n.envoy, Bootstrap: config, Admin: strings.TrimPrefix(state.Addrs.Admin, "unix://"),
		Args: []string{"--file-flush-interval-msec", "20"},
	})
}

// ask reads a page of the admin interface of a node's Envoy.
func (n *network) ask(t *testing.T, node, path string) []byte {
	t.Helper()
	body, err := n.envoys[node].Get(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// stats are the counters and gauges of a node's Envoy.
func (n *network) stats(t *testing.T, node string) map[string]int {
	t.Helper()
	stats := make(map[string]int)
	for line := range strings.Lines(string(n.ask(t, node, "/stats?type=Counters"))) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		stats[name], _ = strconv.Atoi(value)
	}
	return stats
}

func (n *network) get(t *testing.T, addr, path, host, headers string) string {
	return n.send(t, "GET", addr, path, host, headers)
}

func (n *network) send(t *testing.T, method, addr, path, host, headers string) string {
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	for _, line := range strings.FieldsFunc(headers, func(r rune) bool { return r == '\n' }) {
		key, value, _ := strings.Cut(line, ":")
		request.Header[key] = append(request.Header[key], strings.TrimSpace(value))
	}
	before := n.served.Load()
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	text := fmt.Sprintf("%d%s\n%s\n", response.StatusCode, ours(response.Header), strings.TrimSpace(string(body)))
	if served := n.served.Load() - before; served > 1 {
		text += fmt.Sprintf("pods have seen it %d times\n", served)
	}
	text = microseconds.ReplaceAllString(text, "us=<n>")
	return n.redact.Replace(resetReason.ReplaceAllString(text, "reset reason: <reason>"))
}

var (
	microseconds = regexp.MustCompile(`us=\d+`)
	lastHop      = regexp.MustCompile(`[^, ]+$`)          // who has connected to the border
	resetReason  = regexp.MustCompile(`reset reason: .*`) // its words differ between versions
)

// exchange sends the head of a request as it is. If what comes back opens a
// stream of bytes, it sends a line of text and adds the answer.
func (n *network) exchange(t *testing.T, addr, head string) string {
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	before := n.served.Load()
	head = strings.Trim(head, "\n")
	fmt.Fprint(c, strings.ReplaceAll(head, "\n", "\r\n")+"\r\n\r\n")
	method, _, _ := strings.Cut(head, " ")
	r := bufio.NewReader(c)
	response, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text := fmt.Sprintf("%d%s\n", response.StatusCode, ours(response.Header))
	if response.StatusCode == http.StatusSwitchingProtocols || method == "CONNECT" && response.StatusCode == http.StatusOK {
		fmt.Fprintln(c, "ping")
		line, err := r.ReadString('\n')
		if err != nil {
			return err.Error()
		}
		return text + line
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	if said := strings.TrimSpace(string(body)); said != "" {
		text += said + "\n"
	}
	if served := n.served.Load() - before; served > 1 {
		text += fmt.Sprintf("pods have seen it %d times\n", served)
	}
	return text
}

// ours lists the headers of the fabric, of Envoy and of the border, sorted.
func ours(h http.Header) string {
	var list []string
	for key, values := range h {
		key = strings.ToLower(key)
		if strings.HasPrefix(key, "dmsc") || strings.HasPrefix(key, "x-dmsc") || strings.HasPrefix(key, "x-envoy-retry") {
			list = append(list, " "+key+"="+strings.Join(values, " | "))
		}
	}
	slices.Sort(list)
	return strings.Join(list, "")
}
