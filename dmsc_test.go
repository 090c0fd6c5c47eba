package dmsc_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

func TestAPrefixIsCanonicalLowerCase(t *testing.T) {
	for in, want := range map[string]string{
		"a/1": "a/1", "A/1": "a/1", "Shop/Cart.v2/~x_-": "shop/cart.v2/~x_-",
		strings.Repeat("a", 63): strings.Repeat("a", 63), strings.Repeat("a/", 15) + "a": strings.Repeat("a/", 15) + "a",
	} {
		p, err := dmsc.ParsePrefix(in)
		if err != nil || p.String() != want {
			t.Errorf("ParsePrefix(%q) = %q, %v; want %q", in, p, err, want)
		}
	}
}

func TestAPrefixOutsideTheGrammarIsRefusedWithTheRuleItBreaks(t *testing.T) {
	for in, want := range map[string]string{
		"": "is empty", "/a": "segment 1 is empty", "a/": "segment 2 is empty", "a//b": "segment 2 is empty",
		"a/./b": `segment 2 is "."`, "a/..": `segment 2 is ".."`, "a b": `' '`, "a*": `'*'`, "host:x": `':'`, "ä": "has the character",
		strings.Repeat("a", 64):          "64 bytes, at most 63",
		strings.Repeat("a/", 16) + "a":   "17 segments, at most 16",
		strings.Repeat("aaaaaaaaa/", 26): "260 bytes, at most 255",
	} {
		p, err := dmsc.ParsePrefix(in)
		if err == nil || !strings.Contains(err.Error(), want) || !p.IsZero() {
			t.Errorf("ParsePrefix(%q) = %q, %v; want an error with %q", in, p, err, want)
		}
	}
}

// design §3: a/1 covers a/1/x, never a/10.
func TestContainmentIsBySegment(t *testing.T) {
	for _, c := range []struct {
		p, q string
		want bool
	}{
		{"a/1", "a/1", true}, {"a/1", "a/1/x", true}, {"a/1", "a/10", false}, {"a/1", "a", false}, {"a", "ab", false}, {"a", "a/99", true},
	} {
		if got := dmsc.MustParsePrefix(c.p).Covers(dmsc.MustParsePrefix(c.q)); got != c.want {
			t.Errorf("%s covers %s: %t", c.p, c.q, got)
		}
	}
	if (dmsc.ServicePrefix{}).Covers(dmsc.MustParsePrefix("a")) {
		t.Error("no prefix covers a")
	}
}

func TestTheFunctionIsTheNameOneSegmentShorter(t *testing.T) {
	if f, ok := dmsc.MustParsePrefix("shop/cart/1").Function(); !ok || f.String() != "shop/cart" {
		t.Errorf("%v %t", f, ok)
	}
	if f, ok := dmsc.MustParsePrefix("a").Function(); ok {
		t.Errorf("a has the function %v", f)
	}
}

func TestTheFirstSegmentDmscIsReserved(t *testing.T) {
	for in, want := range map[string]bool{"dmsc": true, "DMSC/hello": true, "dmsc/node/sg-1": true, "dmscx": false, "a/dmsc": false} {
		if got := dmsc.MustParsePrefix(in).Reserved(); got != want {
			t.Errorf("%s reserved: %t", in, got)
		}
	}
}

func TestMetricsSaturateInsteadOfWrapping(t *testing.T) {
	for _, c := range []struct{ a, b, want dmsc.Metric }{
		{1, 2, 3}, {dmsc.Unreachable, 1, dmsc.Unreachable}, {dmsc.Unreachable - 1, 1, dmsc.Unreachable}, {1 << 31, 1 << 31, dmsc.Unreachable},
		{dmsc.Unreachable, dmsc.Unreachable, dmsc.Unreachable}, {0, dmsc.Unreachable, dmsc.Unreachable},
	} {
		if got := c.a.Add(c.b); got != c.want || c.b.Add(c.a) != c.want {
			t.Errorf("%d + %d = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestNamesOfNodesAndLinks(t *testing.T) {
	for in, ok := range map[string]bool{"sg-1": true, "0": true, "": false, "SG-1": false, "a_b": false, strings.Repeat("a", 64): false} {
		if _, err := dmsc.ParseNodeID(in); (err == nil) != ok {
			t.Errorf("node %q: %v", in, err)
		}
		if _, err := dmsc.ParseLinkID(in); (err == nil) != ok {
			t.Errorf("link %q: %v", in, err)
		}
	}
}

func TestWordsAreReadAsTheyAreWritten(t *testing.T) {
	type words struct {
		Prefix   dmsc.ServicePrefix
		Role     dmsc.Role
		Protocol dmsc.Protocol
		Class    dmsc.LinkClass
	}
	for _, w := range []words{
		{dmsc.MustParsePrefix("a/1"), dmsc.RoleSG, dmsc.HTTP1, dmsc.Metro},
		{dmsc.MustParsePrefix("b"), dmsc.RoleSR, dmsc.GRPC, dmsc.LAN},
		{dmsc.MustParsePrefix("c"), dmsc.RoleObserver, dmsc.TCP, dmsc.WAN},
		{dmsc.MustParsePrefix("d"), dmsc.RoleSG, dmsc.HTTP2, dmsc.WAN},
	} {
		b, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		var back words
		if err := json.Unmarshal(b, &back); err != nil || back != w {
			t.Errorf("%s read back as %+v, %v", b, back, err)
		}
	}
	for _, bad := range []string{`{"Role":"router"}`, `{"Protocol":"udp"}`, `{"Class":"moon"}`, `{"Prefix":"a//b"}`} {
		if err := json.Unmarshal([]byte(bad), &words{}); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

// design §4: lan 50/100 ms, metro 150/300 ms, wan 500 ms/1 s.
func TestALinkClassSetsTheProbeTimes(t *testing.T) {
	for c, want := range map[dmsc.LinkClass][2]time.Duration{
		dmsc.LAN: {50 * time.Millisecond, 100 * time.Millisecond}, dmsc.Metro: {150 * time.Millisecond, 300 * time.Millisecond},
		dmsc.WAN: {500 * time.Millisecond, time.Second},
	} {
		if c.ProbeInterval() != want[0] || c.ProbeTimeout() != want[1] {
			t.Errorf("%s: %v, %v", c, c.ProbeInterval(), c.ProbeTimeout())
		}
	}
}

func FuzzParsePrefix(f *testing.F) {
	for _, s := range []string{"a/1", "A/1", "a//b", "../x", "dmsc/hello", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := dmsc.ParsePrefix(s)
		if err != nil {
			return
		}
		again, err := dmsc.ParsePrefix(p.String())
		if err != nil || again != p {
			t.Fatalf("%q became %q, which became %q, %v", s, p, again, err)
		}
		segments := strings.Split(p.String(), "/")
		if len(segments) > dmsc.MaxPrefixSegments || slices.Contains(segments, "") {
			t.Fatalf("%q has the segments %q", s, segments)
		}
	})
}
