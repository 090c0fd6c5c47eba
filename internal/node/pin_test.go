package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// What Envoy does not deliver, or delivers by another protocol, is not announced.
// The loop asks with each announcement: of 50,000 it must not ask each of 50,000.
func TestAPinPartsALargeOfferInNoTime(t *testing.T) {
	const prefixes = 50_000
	p, o := &pin{needs: &needs{}}, &offer{}
	for i := range prefixes {
		prefix := dmsc.MustParsePrefix(fmt.Sprintf("a/%06d", i))
		o.prefixes = append(o.prefixes, linkstate.Prefix{Prefix: prefix})
		switch i {
		case 7: // came later
		case 8:
			p.delivers = append(p.delivers, delivery{prefix, dmsc.TCP})
		default:
			p.delivers = append(p.delivers, delivery{Prefix: prefix})
		}
	}
	begun := time.Now()
	s := p.split(o)
	statuses := make([]prefixStatus, prefixes)
	for i := range statuses {
		statuses[i] = prefixStatus{prefix: o.prefixes[i].Prefix.String(), state: announced}
	}
	s.tell(statuses)
	if took := time.Since(begun); took > 2*time.Second { // 0.03 s; each with each, 7 s
		t.Errorf("it took %v", took)
	}
	if want := []dmsc.ServicePrefix{o.prefixes[7].Prefix, o.prefixes[8].Prefix}; !slices.Equal(s.withheld, want) || len(s.announced) != prefixes-2 {
		t.Errorf("withheld %v, announced %d", s.withheld, len(s.announced))
	}
	for i, st := range statuses {
		if (st.code == "gateway_pinned") != (i == 7 || i == 8) {
			t.Errorf("the pod hears of %s: %+v", st.prefix, st)
		}
	}
}
