package translator

import (
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// maxConnections bounds the connections of clients to an Envoy.
const maxConnections = 100000

// defaultMaxHeap is the heap an Envoy may use before it turns clients away, in
// bytes. With 100,000 prefixes it needs a tenth of that.
const defaultMaxHeap = 1 << 30

// SetMaxHeap has the Envoy of a bootstrap turn clients away before its heap
// exceeds so many bytes.
func SetMaxHeap(boot *bootstrapv3.Bootstrap, bytes uint64) {
	boot.OverloadManager = overloadManager(bytes)
}

const heapMonitor = "envoy.resource_monitors.fixed_heap"

// overloadManager gives up what costs least first: unused memory, idle
// connections, the streams that hold most, then new requests and in the end new
// connections. It means the border only. The listeners of the fabric bypass it:
// neighbours would take a node that refuses them for dead and send everything
// another way, where there is less memory then.
func overloadManager(maxHeap uint64) *overloadv3.OverloadManager {
	return &overloadv3.OverloadManager{
		RefreshInterval: durationpb.New(250 * time.Millisecond),
		ResourceMonitors: []*overloadv3.ResourceMonitor{
			{
				Name: "envoy.resource_monitors.global_downstream_max_connections",
				ConfigType: &overloadv3.ResourceMonitor_TypedConfig{
					TypedConfig: typed(&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: maxConnections}),
				},
			},
			{
				Name:       heapMonitor,
				ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: typed(&heapv3.FixedHeapConfig{MaxHeapSizeBytes: maxHeap})},
			},
		},
		// Streams that hold less than 1 MiB (2^20) are not worth a reset.
		BufferFactoryConfig: &overloadv3.BufferFactoryConfig{MinimumAccountToTrackPowerOfTwo: 20},
		Actions: []*overloadv3.OverloadAction{
			overloadAction("shrink_heap", from(0.85)),
			idleAction(between(0.80, 0.95)),
			overloadAction("disable_http_keepalive", from(0.90)),
			overloadAction("reset_high_memory_stream", between(0.92, 0.98)),
			overloadAction("stop_accepting_requests", from(0.95)),
			overloadAction("reject_incoming_connections", from(0.98)),
		},
	}
}

func overloadAction(name string, trigger *overloadv3.Trigger) *overloadv3.OverloadAction {
	trigger.Name = heapMonitor
	return &overloadv3.OverloadAction{Name: "envoy.overload_actions." + name, Triggers: []*overloadv3.Trigger{trigger}}
}

// idleAction shortens the patience with idle connections.
func idleAction(trigger *overloadv3.Trigger) *overloadv3.OverloadAction {
	action := overloadAction("reduce_timeouts", trigger)
	action.TypedConfig = typed(&overloadv3.ScaleTimersOverloadActionConfig{
		TimerScaleFactors: []*overloadv3.ScaleTimersOverloadActionConfig_ScaleTimer{{
			Timer: overloadv3.ScaleTimersOverloadActionConfig_HTTP_DOWNSTREAM_CONNECTION_IDLE,
			OverloadAdjust: &overloadv3.ScaleTimersOverloadActionConfig_ScaleTimer_MinScale{
				MinScale: &typev3.Percent{Value: 1},
			},
		}},
	})
	return action
}

// from acts as soon as that share of the heap is in use.
func from(share float64) *overloadv3.Trigger {
	return &overloadv3.Trigger{TriggerOneof: &overloadv3.Trigger_Threshold{Threshold: &overloadv3.ThresholdTrigger{Value: share}}}
}

// between acts the more the nearer the second share is.
func between(some, full float64) *overloadv3.Trigger {
	return &overloadv3.Trigger{TriggerOneof: &overloadv3.Trigger_Scaled{
		Scaled: &overloadv3.ScaledTrigger{ScalingThreshold: some, SaturationThreshold: full},
	}}
}

// layeredRuntime turns off what Envoy does about connections whose requests are
// mostly given up: it closes them. One between two nodes carries the requests
// of everybody, and a single impatient client is enough (measured: 600 requests
// given up cut those of others). Clients have a limit of their own, see
// fabricResets. The admin layer is the one Envoy has by default.
func layeredRuntime() *bootstrapv3.LayeredRuntime {
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{
		{
			Name: "dmsc",
			LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: map[string]*structpb.Value{
				"overload.premature_reset_total_stream_count": structpb.NewNumberValue(1 << 31),
			}}},
		},
		{Name: "admin", LayerSpecifier: &bootstrapv3.RuntimeLayer_AdminLayer_{AdminLayer: new(bootstrapv3.RuntimeLayer_AdminLayer)}},
	}}
}
