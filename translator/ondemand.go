package translator

import (
	"time"

	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// onDemandTimeout is how long the first request of a group waits for it. The
// agent is on this machine; a name it does not have it refuses at once.
const onDemandTimeout = time.Second

// filters are those of a listener whose requests go to next-hop groups. With
// clusters on demand, the first request of a group waits until Envoy has it.
func (b *builder) filters() []*hcmv3.HttpFilter {
	filters := []*hcmv3.HttpFilter{b.hopFilter()}
	if b.OnDemand {
		filters = append(filters, &hcmv3.HttpFilter{
			Name: "dmsc/on-demand",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: typed(&ondemandv3.OnDemand{Odcds: &ondemandv3.OnDemandCds{
				Source:  b.Source.config(fetchTimeout),
				Timeout: durationpb.New(onDemandTimeout),
			}})},
		})
	}
	return append(filters, routerFilter())
}
