package featuretests

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dmsc-mesh/dmsc/client"
)

const line1, line2 = "sg-1 sr-1", "sg-2 sr-1"

// draft §4.2(1), §4.2(2), §6.1: announced, authenticated, flooded, routed.
func TestAnAnnouncementBecomesRoutesAtTheOtherNodes(t *testing.T) {
	n := newNetwork(t, line1, line2)
	p := n.pod("pod-1", "sg-1", service("a/1"), service("b/1"))
	for _, prefix := range []string{"a/1", "b/1", "a"} {
		n.routed("sg-1", prefix, "local")
		n.routed("sr-1", prefix, "sg-1")
		n.routed("sg-2", prefix, "sr-1")
	}
	p.hears("a/1", client.Announced)
	n.until("sg-2's Envoy has the names", func() error {
		for _, v := range n.nodes["sg-2"].envoy.routes("dmsc/ingress").GetVirtualHosts() {
			if slices.Contains(v.GetDomains(), "a/1/*") && slices.Contains(v.GetDomains(), "b/1/*") {
				return nil
			}
		}
		return errors.New("no virtual host has a/1 and b/1")
	})
	n.converged()
}

func TestAWithdrawalIsHeardEverywhereAtOnce(t *testing.T) {
	n := newNetwork(t, line1, line2)
	p := n.pod("pod-1", "sg-1", service("a/1"))
	n.routed("sg-2", "a/1", "sr-1")
	p.withdraw()
	n.routed("sg-1", "a/1", "")
	n.routed("sg-2", "a/1", "")
	if got := p.status("a/1").State; got != client.Withdrawn {
		t.Errorf("the pod heard %q last, want withdrawn", got)
	}
}

func TestAPodThatIsGoneKeepsItsPrefixesForTheLease(t *testing.T) {
	n := newNetwork(t, line1, line2)
	p := n.leased("pod-1", "sg-1", time.Second, service("a/1"))
	n.routed("sg-2", "a/1", "sr-1")
	begun := time.Now()
	p.cutOff()
	n.routed("sg-2", "a/1", "")
	if d := time.Since(begun); d < 900*time.Millisecond {
		t.Errorf("withdrawn after %v, the lease is 1s", d)
	}
}

func TestAMalformedPrefixIsToldToItsPodAndTheOthersCount(t *testing.T) {
	n := newNetwork(t, line1, line2)
	s := n.rawStream("sg-1")
	s.announce("pod-1", "a/1", "a//2", "dmsc/x")
	want := []string{"a//2 denied malformed", "a/1 announced ", "dmsc/x denied reserved"}
	if got := s.statuses(); !slices.Equal(got, want) {
		t.Errorf("statuses %q, want %q", got, want)
	}
	n.routed("sg-2", "a/1", "sr-1")
}

func TestOneStreamSpeaksForOnePod(t *testing.T) {
	n := newNetwork(t, line1, line2)
	s := n.rawStream("sg-1")
	s.announce("pod-1", "a/1")
	s.statuses()
	s.announce("pod-2", "a/2")
	for {
		_, err := s.Recv()
		if err == nil {
			continue
		}
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `pod "pod-2" was "pod-1" before`) {
			t.Errorf("the stream ends with %v", err)
		}
		break
	}
	// What pod-1 has announced stays, for its lease.
	n.pod("pod-3", "sg-1", service("c/1"))
	n.routed("sg-2", "c/1", "sr-1")
	n.routed("sg-2", "a/1", "sr-1")
	if got := n.route("sg-2", "a/2"); got != "" {
		t.Errorf("a/2 is reached by %q", got)
	}
}

func TestARenewalIsAnsweredAndChangesNothing(t *testing.T) {
	n := newNetwork(t, line1, line2)
	s := n.rawStream("sg-1")
	s.announce("pod-1", "a/1")
	first := s.statuses()
	n.routed("sg-2", "a/1", "sr-1")
	before := n.nodes["sg-2"].Status().LSDB.Digest
	for range 3 {
		s.announce("pod-1", "a/1")
		if again := s.statuses(); fmt.Sprint(again) != fmt.Sprint(first) {
			t.Errorf("statuses %v, first %v", again, first)
		}
	}
	if after := n.nodes["sg-2"].Status().LSDB.Digest; after != before {
		t.Errorf("renewals have changed the database of sg-2")
	}
}
