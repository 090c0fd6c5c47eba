// Package spa is the Service Prefix Authentication unit (draft §4.2(2), §6.1(2)):
// it decides which pod may announce which prefix at which gateway.
//
// [Authority] is the pure decision over a list of grants:
//
//	a := spa.NewAuthority(grants)
//	verdicts := a.Judge(spa.Claim{Gateway: "sg-1", Pod: "pod-1", Prefixes: []string{"a/1"}})
//
// Grants come from a PrefixGrants file. Of all grants that cover a claimed
// prefix the longest decides alone, and what no grant covers is refused. Whoever
// holds a may therefore not announce a/1 once a/1 is granted to another, which
// keeps a parent from quietly taking a name it has given away.
//
// [Server] puts an Authority behind gRPC (signaling type 3). It remembers what
// every gateway has claimed, and when the grants change it pushes each verdict
// that changed: the draft's authentication failure notification, or the yes
// after a no.
//
//	s := spa.NewServer(spa.ServerConfig{Log: log})
//	if err := s.Load("grants.yaml"); err != nil { … }
//	g := grpc.NewServer(spa.ServerOptions()...)
//	s.Register(g)
//	go s.Watch(ctx, "grants.yaml") // a bad file keeps the last good grants
//
// [Client] is the gateway's side. It holds the claims that are live and asks
// any one of several SPAs, again after every reconnect:
//
//	c := spa.NewClient(spa.ClientConfig{Gateway: "sg-1", Addresses: addrs, OnVerdicts: …, OnAway: …})
//	go c.Run(ctx)
//	c.Claim("pod-1", []string{"a/1", "b/1"}, nil)
//
// While no SPA answers, new prefixes wait and granted ones stay: the network
// fails static, not open.
package spa
