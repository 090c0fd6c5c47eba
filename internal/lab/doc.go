// Package lab is the harness that dmsc demo and the end-to-end tests share: it
// holds ports, starts and kills processes, runs Envoys, puts relays into links
// and drives an open-loop load.
//
//	group := lab.NewGroup()
//	defer group.Stop(2 * time.Second)
//	ports, err := lab.HoldPorts(3) // nobody else gets them while they are held
//	relay, err := lab.NewRelay(ctx, ports[0].Addr())
//	envoy, err := lab.StartEnvoy(ctx, group, lab.EnvoyConfig{Name: "sg-1", …})
//	load := lab.Load{Address: ingress, Header: http.Header{"dmsc-service-prefix": {"b/4"}}, RPS: 400}.Start()
//	envoy.Kill()
//	relay.SetDelay(80 * time.Millisecond)
//	report := load.Stop()
//
// Everything is Linux and loopback; nothing of it is linked into a node.
package lab
