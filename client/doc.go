// Package client announces a pod's service prefixes to its Service Gateway:
// signaling type 1 (draft §4.2(1)) for pods written in Go. Pods in other
// languages run `dmsc announce` beside them or speak
// dmsc.v1.AnnouncementService themselves.
//
//	err := client.Announce(ctx, client.Config{
//		Gateway:  "127.0.0.1:17800",
//		Pod:      "pod-1",
//		Services: []client.Service{{Prefix: "a/1", Port: 8080}},
//		OnStatus: func(s client.Status) { log.Println(s.Prefix, s.State, s.Reason) },
//	})
//
// Announce blocks until ctx ends, and then withdraws, or until the gateway
// refuses what no waiting can mend. In between it renews the lease and
// reconnects; a pod that is away for less than its lease loses no request.
package client
