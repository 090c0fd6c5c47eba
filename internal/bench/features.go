package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// feature is something of the data plane that costs each request.
type feature struct {
	event  string
	sample uint32 // of an access log, in millionths; 0 is no log
	hop    bool   // the filter that answers dmsc-trace is there
}

// Those without anything come first and last: their ratio is the noise.
var featuresMeasured = []feature{
	{event: "forwarding without the hop filter"},
	{event: "forwarding with the hop filter, as always", hop: true},
	{event: "with an access log of 1 % of requests", hop: true, sample: 1e4},
	{event: "with an access log of every request", hop: true, sample: 1e6},
	{event: "forwarding without the hop filter again (noise)"},
}

func featureEvents() (events []string) {
	for _, f := range featuresMeasured {
		events = append(events, f.event)
	}
	return events
}

// features forwards by the smallest table with and without what is optional.
func (f *fibBench) features(ctx context.Context, dir string) (err error) {
	all := &planes{next: newNeighbours(ctx)}
	defer func() { err = errors.Join(err, all.close()) }()
	var prefixes [][]string
	for i, feature := range featuresMeasured {
		at := filepath.Join(dir, fmt.Sprint("feature", i))
		p, err := all.start(ctx, ours, at, f.Envoy, f.Sizes[0])
		if err != nil {
			return err
		}
		log := filepath.Join(at, "access.json")
		if feature.sample > 0 {
			p.state.AccessLog = translator.AccessLog{To: log, Sample: feature.sample, SampleErrors: feature.sample}
		}
		if !feature.hop {
			p.alter = withoutHopFilter
		}
		if _, err := p.change(ctx, p.state, xds.Routes); err != nil {
			return err
		}
		prefixes = append(prefixes, p.prefixes())
		// The Envoy has what is measured, and no more.
		bounded, stop := context.WithTimeout(ctx, planeLimit)
		err = lab.Until(bounded, feature.event, func(ctx context.Context) error {
			traced, err := p.traced(ctx)
			if err == nil && traced != feature.hop {
				err = fmt.Errorf("answers a trace: %t", traced)
			}
			if _, missing := os.Stat(log); err == nil && (missing == nil) != (feature.sample > 0) {
				err = fmt.Errorf("access log: %w", missing)
			}
			return err
		})
		stop()
		if err != nil {
			return err
		}
	}
	f.say("forward with and without the hop filter and access logs")
	return f.inTurn(ctx, all.planes, featureEvents(), prefixes, "CPU per request, × without")
}

// withoutHopFilter takes the filter from the listener for pods.
func withoutHopFilter(r translator.Resources) error {
	const name = "dmsc/ingress"
	l := proto.CloneOf[*listenerv3.Listener](r.Listeners[name])
	config := l.FilterChains[0].Filters[0]
	manager := new(hcmv3.HttpConnectionManager)
	if err := config.GetTypedConfig().UnmarshalTo(manager); err != nil {
		return err
	}
	manager.HttpFilters = slices.DeleteFunc(manager.HttpFilters, func(f *hcmv3.HttpFilter) bool { return f.Name == "dmsc/hop" })
	packed, err := anypb.New(manager)
	if err != nil {
		return err
	}
	config.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed}
	r.Listeners[name] = l
	return nil
}

// traced reports whether the Envoy answers a traced request with its hop.
func (p *plane) traced(ctx context.Context) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.state.Addrs.Ingress, nil)
	if err != nil {
		return false, err
	}
	request.Header.Set("dmsc-service-prefix", p.probed.Prefix.String())
	request.Header.Set("dmsc-trace", "1")
	client := &http.Transport{DisableKeepAlives: true}
	response, err := client.RoundTrip(request)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.Header.Get("dmsc-hop") != "", err
}
