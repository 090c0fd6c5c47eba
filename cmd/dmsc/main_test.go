package main

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the files that are generated")

func TestMain(m *testing.M) {
	os.Unsetenv(nodesEnv) // a fleet of whoever runs the tests is no part of them
	goleak.VerifyTestMain(m)
}

// Each testdata file is what a person at a terminal would see, in a folder of
// its own. Commands:
//
//	file <name>     writes a file
//	script <name>   writes an executable file
//	run [key=value] runs each line; environment variables stay set. A line of
//	                stderr begins with "! ", an exit code other than 0 ends it.
//	                REPO is the top of this repository, BUSY an address in use,
//	                HERE the folder
//	ls              lists all files of the folder
//
// Nothing that a run is refused for may have started anything: the transcripts
// show it with ls, and the goroutines of the process are checked at the end.
func TestTranscripts(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	repo := filepath.Dir(filepath.Dir(here))
	names := strings.NewReplacer("REPO", repo, "BUSY", busy.Addr().String())
	back := []string{repo, "REPO", busy.Addr().String(), "BUSY"}
	files, err := filepath.Glob(filepath.Join(here, "testdata", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d transcripts, error %v", len(files), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) { transcript(t, path, names, back) })
	}
}

func transcript(t *testing.T, path string, names *strings.Replacer, places []string) {
	dir := shortTempDir(t)
	t.Chdir(dir)
	back := strings.NewReplacer(slices.Concat(places, []string{dir, "HERE"})...)
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "file":
			writeFile(t, d.CmdArgs[0].Key, names.Replace(d.Input)+"\n", 0o644)
			return ""
		case "script":
			writeFile(t, d.CmdArgs[0].Key, d.Input+"\n", 0o755)
			return ""
		case "ls":
			return tree(t)
		case "run":
			for _, a := range d.CmdArgs {
				t.Setenv(a.Key, names.Replace(a.Vals[0]))
			}
			var text strings.Builder
			for line := range strings.Lines(d.Input) {
				text.WriteString(back.Replace(command(t, names.Replace(line))))
			}
			return text.String()
		}
		d.Fatalf(t, "unknown command %s", d.Cmd)
		return ""
	})
}

// command runs a line "dmsc …" and returns what it printed.
func command(t *testing.T, line string) string {
	t.Helper()
	words := strings.Fields(line)
	if len(words) == 0 || words[0] != "dmsc" {
		t.Fatalf("%q is no dmsc command line", line)
	}
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), words[1:], &stdout, &stderr)
	text := stdout.String()
	for l := range strings.Lines(stderr.String()) {
		text += "! " + l
	}
	if code != 0 {
		text += fmt.Sprintf("exit %d\n", code)
	}
	return text
}

// output runs dmsc and returns its stdout; anything else fails the test.
func output(t *testing.T, args ...string) []byte {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), args, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("dmsc %s: exit %d\n%s", strings.Join(args, " "), code, stderr.String())
	}
	return stdout.Bytes()
}

// tree lists the files below the working directory.
func tree(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			fmt.Fprintln(&text, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// shortTempDir is t.TempDir with a name short enough for Unix sockets in it.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dmsc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func writeFile(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestHelpNamesEveryVerbAnOperatorUses(t *testing.T) {
	help := string(output(t, "--help"))
	for _, verb := range rootCommand().Commands() {
		if shown := strings.Contains(help, "\n  "+verb.Name()+" "); shown == verb.Hidden {
			t.Errorf("%s: shown %t, hidden %t", verb.Name(), shown, verb.Hidden)
		}
		if verb.Short == "" {
			t.Errorf("%s has no short help", verb.Name())
		}
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{}, &stdout, &stderr); code != 0 || stdout.Len() == 0 {
		t.Errorf("dmsc alone: exit %d, %d bytes of help", code, stdout.Len())
	}
}

func TestVerbsOfVerbsSayWhatThereIs(t *testing.T) {
	for line, want := range map[string]string{
		"dmsc bench":     "! dmsc: say what to measure: convergence, sync, xds, fib or failover\nexit 2\n",
		"dmsc bench tea": "! dmsc: \"tea\" is not known; say one of convergence, failover, fib, sync, xds; see dmsc bench --help\nexit 2\n",
	} {
		if got := command(t, line); got != want {
			t.Errorf("%s:\n%s", line, got)
		}
	}
}

// A network that is not as large as was asked for is no surprise later on.
func TestGenSaysWhenAFatTreeHasOtherNodes(t *testing.T) {
	const note = "! a fattree has 5k²/4 nodes with an even k: this one has 5, not 7\n"
	if got := command(t, "dmsc gen fattree --nodes 7"); !strings.HasSuffix(got, note) {
		t.Error(got)
	}
	for _, line := range []string{"dmsc gen fattree", "dmsc gen fattree --nodes 5", "dmsc gen fattree --k 2", "dmsc gen ring --nodes 7"} {
		if got := command(t, line); strings.Contains(got, "!") {
			t.Errorf("%s: %s", line, got)
		}
	}
}
