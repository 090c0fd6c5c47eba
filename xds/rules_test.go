package xds_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestEveryRuleHasItsTest holds docs/xds-protocol.md against the tests: each
// rule names one for both dialects, or says that the dialect has no words for
// it; each protocol test is named. (cmd/dmsc checks that the tests exist.)
func TestEveryRuleHasItsTest(t *testing.T) {
	text, err := os.ReadFile("../docs/xds-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	test := regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	rules := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 3 || strings.TrimSpace(cells[0]) == "rule" {
			continue
		}
		rules++
		for _, cell := range cells[1:] {
			shown := test.FindAllStringSubmatch(cell, -1)
			if len(shown) == 0 && strings.TrimSpace(cell) != "not sayable" {
				t.Errorf("nothing shows the rule%s in one of the dialects: %q", cells[0], cell)
			}
			for _, m := range shown {
				named[m[1]] = true
			}
		}
	}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing`)
	for _, file := range []string{"protocol_test.go", "sotw_test.go", "scenarios_test.go", "property_test.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range declared.FindAllStringSubmatch(string(source), -1) {
			if !named[m[1]] {
				t.Errorf("%s: %s shows no rule: add it to docs/xds-protocol.md", file, m[1])
			}
		}
	}
	if rules < 25 {
		t.Errorf("only %d rules were read: this test is blind", rules)
	}
}
