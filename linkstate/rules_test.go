package linkstate_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryRuleHasItsScene holds docs/link-state.md against the scenes, also of
// rib and spf: each is named by a rule, and each rule names a scene that exists
// or a test (cmd/dmsc checks that those exist).
func TestEveryRuleHasItsScene(t *testing.T) {
	text, err := os.ReadFile("../docs/link-state.md")
	if err != nil {
		t.Fatal(err)
	}
	var scenes []string
	for folder, prefix := range map[string]string{"testdata/scenes": "", "rib/testdata": "rib/", "spf/testdata": "spf/"} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			scenes = append(scenes, prefix+e.Name())
		}
	}
	named := make(map[string]bool)
	rules := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 2 || cells[0] == " rule" {
			continue
		}
		rules++
		shown := regexp.MustCompile("`([A-Za-z0-9_./-]+)`").FindAllStringSubmatch(cells[1], -1)
		if len(shown) == 0 {
			t.Errorf("nothing shows the rule%s", cells[0])
		}
		for _, m := range shown {
			if strings.HasPrefix(m[1], "Test") {
				continue
			}
			named[m[1]] = true
			if !slices.Contains(scenes, m[1]) {
				t.Errorf("the rule%s: there is no scene %s", cells[0], m[1])
			}
		}
	}
	for _, scene := range scenes {
		if !named[scene] {
			t.Errorf("the scene %s shows no rule: add a row to docs/link-state.md", scene)
		}
	}
	if rules < 60 {
		t.Errorf("only %d rules were read: this test is blind", rules)
	}
}
