package manifest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/dmsc-mesh/dmsc"
)

type quality struct {
	Match  match     `yaml:"match,required"`
	Limits limits    `yaml:"limits"`
	Shares []share   `yaml:"shares"`
	Weight uint8     `yaml:"weight"`
	Offset int       `yaml:"offset"`
	Ratio  float64   `yaml:"ratio"`
	On     bool      `yaml:"on"`
	Note   string    `yaml:"note"`
	Role   dmsc.Role `yaml:"role"`
	Extra  *match    `yaml:"extra"`
	common `yaml:",inline"`
}

type match struct {
	Prefix dmsc.ServicePrefix `yaml:"prefix,required"`
}

type limits struct {
	MaxDelay     Duration  `yaml:"maxDelay"`
	MinBandwidth Bandwidth `yaml:"minBandwidth"`
	MaxLoss      Percent   `yaml:"maxLoss"`
}

type share struct {
	Node string `yaml:"node"`
	Part int    `yaml:"part"`
}

type common struct {
	Tags map[string]string `yaml:"tags"`
}

// TestFaults reads like the terminal of an operator: a file, and what is said
// about it. The kind QoSPolicy decodes into quality above.
func TestFaults(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			var b strings.Builder
			switch td.Cmd {
			case "parse":
				docs, err := Parse("f.yaml", []byte(td.Input))
				faults := []error{err}
				for _, d := range docs {
					q := quality{Weight: 7}
					err := d.Decode(&q)
					faults = append(faults, err)
					fmt.Fprintf(&b, "%s %s line %d labels %v\n", d.Kind, d.Name, d.Line, d.Labels)
					if err == nil {
						fmt.Fprintf(&b, "  %+v\n", q)
					}
				}
				if err := errors.Join(faults...); err != nil {
					fmt.Fprintln(&b, err)
				}
			case "settings":
				d, err := ParseSettings("f.yaml", []byte(td.Input))
				if err != nil {
					return err.Error()
				}
				var q quality
				fmt.Fprintf(&b, "%v", d.Decode(&q))
			case "locate":
				docs, err := Parse("f.yaml", []byte(td.Input))
				if err != nil {
					return err.Error()
				}
				for _, arg := range td.CmdArgs {
					fmt.Fprintln(&b, docs[0].Errorf(arg.Key, CodeValue, "%s", arg.Key))
				}
			}
			if strings.Contains(b.String(), "manifest.") || strings.Contains(b.String(), "reflect") {
				t.Errorf("%s: a Go type name reached the operator:\n%s", td.Pos, b.String())
			}
			return b.String()
		})
	})
}

func TestUnitsAreDemandedAndExact(t *testing.T) {
	for _, c := range []struct {
		in, want string
		code     string
	}{
		{"20ms", "20ms", ""}, {"1.5s", "1.5s", ""}, {"1m30s", "1m30s", ""}, {"0s", "0s", ""},
		{"20", "", CodeUnit}, {"0", "", CodeUnit}, {"20 ms", "", CodeUnit}, {"ms", "", CodeUnit}, {"-1s", "", CodeValue}, {"", "", CodeUnit},
	} {
		var d Duration
		check(t, c.in, &d, c.want, c.code)
	}
	for _, c := range []struct {
		in, want string
		code     string
	}{
		{"100Mbps", "100Mbps", ""}, {"1.5Gbps", "1500Mbps", ""}, {"0.1Gbps", "100Mbps", ""}, {"8bps", "8bps", ""}, {"0bps", "0bps", ""}, {"64kbps", "64kbps", ""},
		{"100", "", CodeUnit}, {"100mbps", "", CodeUnit}, {"100M", "", CodeUnit}, {"1e3Mbps", "", CodeUnit}, {"1/2Gbps", "", CodeUnit},
		{"0.5bps", "", CodeValue}, {"99999999999Gbps", "", CodeValue}, {"-1Mbps", "", CodeUnit}, {"1.Mbps", "", CodeUnit},
	} {
		var b Bandwidth
		check(t, c.in, &b, c.want, c.code)
	}
	for _, c := range []struct {
		in, want string
		code     string
	}{
		{"1%", "1%", ""}, {"0.5%", "0.5%", ""}, {"100%", "100%", ""},
		{"1", "", CodeUnit}, {"101%", "", CodeValue}, {"-1%", "", CodeUnit}, {"x%", "", CodeUnit},
	} {
		var p Percent
		check(t, c.in, &p, c.want, c.code)
	}
	if got := Percent(1).Fraction(); got != 0.01 {
		t.Errorf("1%% as a fraction = %v", got)
	}
	if d := Duration(time.Second); time.Duration(d) != time.Second {
		t.Error("Duration is not time.Duration")
	}
}

func check(t *testing.T, in string, v interface {
	UnmarshalText([]byte) error
	String() string
}, want, code string) {
	t.Helper()
	err := v.UnmarshalText([]byte(in))
	if code == "" {
		if err != nil || v.String() != want {
			t.Errorf("%q = %v, %v; want %s", in, v, err, want)
		}
		return
	}
	got := CodeValue
	if coded := (*codedError)(nil); errors.As(err, &coded) {
		got = coded.code
	}
	if err == nil || got != code {
		t.Errorf("%q = %v, %v (%s); want a fault %s", in, v, err, got, code)
	}
}

func TestLoadReadsFoldersSortedAndNamesEveryFault(t *testing.T) {
	dir := t.TempDir()
	doc := func(name string) string {
		return "apiVersion: dmsc.io/v1alpha1\nkind: QoSPolicy\nmetadata: {name: " + name + "}\nspec: {match: {prefix: a/1}}\n"
	}
	for name, text := range map[string]string{"b.yml": doc("b"), "a.yaml": doc("a"), "README.md": "not YAML: ["} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	docs, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range docs {
		names = append(names, d.Name)
	}
	if !reflect.DeepEqual(names, []string{"a", "b"}) {
		t.Errorf("loaded %v, want a, b", names)
	}

	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(doc("a")), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Load(dir)
	wantFault(t, err, filepath.Join(dir, "c.yaml")+":3:18: DMSC111 a QoSPolicy named a is already at "+filepath.Join(dir, "a.yaml")+":1")

	_, err = Load(filepath.Join(dir, "none"), t.TempDir())
	wantFault(t, err, "none: DMSC100 no such file or directory")
	wantFault(t, err, "DMSC117 the folder holds no *.yaml or *.yml")
}

func wantFault(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v\nwant %s", err, text)
	}
}

func TestCodesAreUniqueAndExplained(t *testing.T) {
	last := ""
	for _, c := range Codes {
		if c.Code <= last || c.Meaning == "" || c.Fix == "" {
			t.Errorf("%+v is out of order or unexplained", c)
		}
		last = c.Code
	}
}

// FuzzParse: no text makes the reader panic, and every fault has a code and,
// but for the file as a whole, a place.
func FuzzParse(f *testing.F) {
	f.Add("apiVersion: dmsc.io/v1alpha1\nkind: QoSPolicy\nmetadata: {name: a}\nspec: {match: {prefix: a/1}}\n")
	f.Add("a: [1, {b: *x}]\n---\n? x\n: |\n  y\n")
	f.Fuzz(func(t *testing.T, text string) {
		docs, err := Parse("f.yaml", []byte(text))
		for _, d := range docs {
			err = errors.Join(err, d.Decode(&quality{}))
		}
		walk(err, func(err error) {
			var e *Error
			if !errors.As(err, &e) || e.Code == "" || e.Line < 1 || e.Col < 1 {
				t.Errorf("%q: fault without code or place: %v", text, err)
			}
		})
	})
}

func walk(err error, visit func(error)) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			walk(e, visit)
		}
	} else if err != nil {
		visit(err)
	}
}

// Text that is not UTF-8 would end the process where it is put into a message.
func TestTextThatIsNotUTF8IsRefusedAtItsPlace(t *testing.T) {
	for _, parse := range []func([]byte) error{
		func(data []byte) error { _, err := Parse("f.yaml", data); return err },
		func(data []byte) error { _, err := ParseSettings("f.yaml", data); return err },
	} {
		err := parse([]byte("a: grün\ntags: [\"ü\xff\"]\n"))
		if err == nil || !strings.HasPrefix(err.Error(), "f.yaml:2:10: DMSC101 the byte 0xff") {
			t.Errorf("got %v", err)
		}
		if err := parse([]byte("# grün")); err != nil {
			t.Errorf("UTF-8 is refused: %v", err)
		}
	}
}
