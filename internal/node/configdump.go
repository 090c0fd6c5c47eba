package node

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/admin"
)

const (
	dumpWait = 2 * time.Second // until Envoy begins its answer
	dumpMax  = 64 << 20        // bytes of it
)

// configDump serves what our own Envoy says that it runs. Envoy makes a dump in
// the thread that takes our updates, so it is asked for one at a time, and only
// the beginning of its answer is waited for: the rest goes at the pace of the
// reader, who has the time of any page. A dump that is longer than dumpMax, or
// breaks off, ends unexpectedly: no half looks like a whole.
func (n *Node) configDump(w http.ResponseWriter, r *http.Request) {
	if err := admin.Known(r.URL.Query()); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	n.dumping.Lock()
	late := time.AfterFunc(dumpWait, cancel)
	dump, err := admin.Client{Address: n.cfg.Envoy.Admin}.Open(ctx, "/config_dump", url.Values{"include_eds": {""}})
	intime := late.Stop()
	n.dumping.Unlock()
	if err == nil {
		defer dump.Close()
	}
	if !intime {
		err = fmt.Errorf("%s has not answered within %v", n.cfg.Envoy.Admin, dumpWait)
	}
	if err != nil {
		http.Error(w, fmt.Sprintf("the Envoy of %s: %v", n.cfg.Node, err), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// One byte more than allowed tells a dump that is too long.
	if size, err := io.Copy(w, io.LimitReader(dump, dumpMax+1)); err != nil || size > dumpMax {
		panic(http.ErrAbortHandler)
	}
}
