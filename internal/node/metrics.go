package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/peering"
	"github.com/dmsc-mesh/dmsc/xds"
)

// metrics of one agent. Labels are codes and types of ours, never a prefix.
type metrics struct {
	registry  *prometheus.Registry
	verdicts  *prometheus.CounterVec
	alarms    *prometheus.CounterVec
	standing  *prometheus.GaugeVec
	nacks     *prometheus.CounterVec
	adjacency *prometheus.GaugeVec
	records   prometheus.Gauge
	entries   prometheus.Gauge
	runs      *prometheus.CounterVec
	spf       *prometheus.HistogramVec
	messages  *prometheus.CounterVec
	flooded   *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry:  admin.NewMetrics(),
		verdicts:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dmsc_spa_decisions_total", Help: "Verdicts of the SPA."}, []string{"result"}),
		alarms:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dmsc_alarms_total", Help: "Alarms by code."}, []string{"code"}),
		standing:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "dmsc_alarm_standing", Help: "1 while an alarm that is cleared by itself stands, by code."}, []string{"code"}),
		nacks:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dmsc_xds_nacks_total", Help: "Configurations that Envoy refused."}, []string{"type"}),
		adjacency: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "dmsc_adjacencies", Help: "Links by the state of their adjacency."}, []string{"state"}),
		records:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "dmsc_lsdb_records", Help: "Records in the LSDB, tombstones included."}),
		entries:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "dmsc_fib_entries", Help: "Names in the FIB."}),
		runs:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dmsc_spf_runs_total", Help: "Computations of the RIB by how much of the shortest paths they took."}, []string{"kind"}),
		spf: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dmsc_spf_duration_seconds", Help: "Wall-clock time of computations of the RIB.", Buckets: prometheus.ExponentialBuckets(10e-6, 4, 8), // 10 µs to 164 ms
		}, []string{"kind"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dmsc_peering_messages_total", Help: "Messages of the link-state protocol."}, []string{"direction", "message"}),
		flooded:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dmsc_flooded_records_total", Help: "Copies of records in updates."}, []string{"direction"}),
	}
	m.registry.MustRegister(m.verdicts, m.alarms, m.standing, m.nacks, m.adjacency, m.records, m.entries, m.runs, m.spf, m.messages, m.flooded)
	return m
}

func (m *metrics) computed(c *computation) {
	kind := c.run.Kind.String()
	m.runs.WithLabelValues(kind).Inc()
	m.spf.WithLabelValues(kind).Observe(c.compute.Seconds())
}

func (m *metrics) sent(messages []linkstate.Envelope) {
	for _, e := range messages {
		m.count("sent", e.Message)
	}
}

func (m *metrics) received(ev linkstate.Event) {
	if r, ok := ev.(linkstate.Received); ok {
		m.count("received", r.Message)
	}
}

func (m *metrics) count(direction string, msg linkstate.Message) {
	kind := "other"
	switch msg := msg.(type) {
	case *linkstate.Hello:
		kind = "hello"
	case *linkstate.LSAck:
		kind = "ack"
	case *linkstate.Digest:
		kind = "digest"
	case *linkstate.LSUpdate:
		kind = "update"
		m.flooded.WithLabelValues(direction).Add(float64(len(msg.Records)))
	}
	m.messages.WithLabelValues(direction, kind).Inc()
}

func (m *metrics) verdict(granted bool) {
	result := "denied"
	if granted {
		result = "granted"
	}
	m.verdicts.WithLabelValues(result).Inc()
}

func (m *metrics) alarm(code string)   { m.alarms.WithLabelValues(code).Inc() }
func (m *metrics) nack(typeURL string) { m.nacks.WithLabelValues(typeURL).Inc() }

// countCertificate exports when the certificate that Envoy is served ends.
func (m *metrics) countCertificate(ends func() time.Time) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dmsc_outside_certificate_expiry_timestamp_seconds", Help: "When the certificate of the listener for the outside ends; 0 while there is none.",
	}, func() float64 {
		if at := ends(); !at.IsZero() {
			return float64(at.Unix())
		}
		return 0
	}))
}

// countXDS exports what the Envoy of the node has not taken, and whether it is
// pinned to an earlier configuration.
func (m *metrics) countXDS(status func() xds.Status) {
	for t := xds.Clusters; t <= xds.Listeners; t++ {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "dmsc_xds_parked", Help: "Resources of which Envoy has refused the wanted version.", ConstLabels: prometheus.Labels{"type": t.String()},
		}, func() float64 { return float64(len(status().Types[t].Rejected)) }))
	}
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dmsc_xds_pinned", Help: "1 while Envoy is pinned to an earlier configuration by dmsc xds rollback.",
	}, func() float64 {
		if status().Pinned != nil {
			return 1
		}
		return 0
	}))
}

// countIgnored exports what neighbours have said and peering did not hand on.
func (m *metrics) countIgnored(stats func() peering.Stats) {
	for what, count := range map[string]func(peering.Stats) uint64{
		"unknown_message":   func(s peering.Stats) uint64 { return s.UnknownMessages },
		"malformed_message": func(s peering.Stats) uint64 { return s.MalformedMessages },
		"oversized_message": func(s peering.Stats) uint64 { return s.OversizedMessages },
		"malformed_record":  func(s peering.Stats) uint64 { return s.MalformedRecords },
		"refused_stream":    func(s peering.Stats) uint64 { return s.Refused },
	} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "dmsc_peering_ignored_total", Help: "What neighbours said that was not taken in.", ConstLabels: prometheus.Labels{"what": what},
		}, func() float64 { return float64(count(stats())) }))
	}
}
