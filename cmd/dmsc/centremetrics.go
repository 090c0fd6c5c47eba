package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/scsc"
)

// centreMetrics are those of a scheduling centre. Labels are of a bounded set.
type centreMetrics struct {
	registry *prometheus.Registry
	events   *prometheus.CounterVec
}

func newCentreMetrics() *centreMetrics {
	m := &centreMetrics{
		registry: admin.NewMetrics(),
		events:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dmsc_scsc_events_total", Help: "Scheduling events by kind."}, []string{"kind"}),
	}
	m.registry.MustRegister(m.events)
	return m
}

// count exports what the tables hold.
func (m *centreMetrics) count(t *scsc.Tables) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dmsc_scsc_rollouts_halted", Help: "QoSPolicies that were refused too often and go no further until they are changed.",
	}, func() float64 { return float64(len(t.Halted())) }))
}
