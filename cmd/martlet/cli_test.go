package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/engine/pebble"
)

func TestExitCodes(t *testing.T) {
	good := newConfig(t)
	bad := filepath.Join(t.TempDir(), "bad.toml")
	if err := os.WriteFile(bad, []byte("hostnam = \"x.example\"\n[queue]\nport = 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		says string // on standard error
	}{
		{"", 0, ""},
		{"--help", 0, ""},
		{"help account add", 0, ""},
		{"help acount", 2, `did you mean "account"?`},
		{"version", 0, ""},
		{"--version", 0, ""},
		{"versoin", 2, `did you mean "version"?`},
		{"frobnicate", 2, "see martlet --help"},
		{"version --jsn", 2, "did you mean --json?"},
		{"version -x", 2, "no flag -x"},
		{"version extra", 2, `too many arguments, first "extra"`},
		{"domain", 2, "needs one of add, list, remove"},
		{"domain ad x", 2, `did you mean "add"?`},
		{"domain add", 2, "usage: martlet domain add DOMAIN"},
		{"domain list --config /nonexistent/martlet.toml", 2, "no configuration file at /nonexistent/martlet.toml"},
		{"domain list --config", 2, "flag needs an argument"},
		{"domain list --config " + good, 1, "there is no data in"},
		{"domain add not_a_domain! --config " + good, 1, "domain"},
		{"config check " + good, 0, ""},
		{"config check " + bad, 2, bad + ":1: hostnam: "},
		{"config show --config " + bad, 2, bad + ":3: queue.port: "},
		{"serve --config " + good, 2, "no [[listen]] block"},
		{"try --port-base 70000", 2, "--port-base 70000 is not between"},
		{"try --port-base x", 2, "invalid argument"},
		{"try --config " + good, 2, "martlet serve --config"},
		{"queue drop --config " + good, 2, "or all with --all"},
		{"queue drop --all 3 --config " + good, 2, "or all with --all"},
		{"account add a@example.org --quota 5XB --config " + good, 2, "is not a size"},
		{"account passwd a@example.org --password-stdin --config " + good, 2, "standard input holds no password"},
	} {
		got := command(t, "", strings.Fields(c.args)...)
		if got.code != c.code || !strings.Contains(got.err, c.says) {
			t.Errorf("martlet %s: code %d, want %d, and standard error\n\t%s\nwants %q", c.args, got.code, c.code, got.err, c.says)
		}
		lines := strings.Count(got.err, "\n")
		if c.code == 0 && lines != 0 || c.code != 0 && lines != 1 && !strings.Contains(c.args, bad) {
			t.Errorf("martlet %s: %d lines on standard error: %s", c.args, lines, got.err)
		}
	}
}

// TestHelp holds what every command promises: a sentence, examples that can be run,
// and --json.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "completion" {
			return
		}
		examples := strings.Split(c.Example, "\n")
		if len(examples) > 4 || len(examples) < 2 && !c.HasSubCommands() || c.Example == "" {
			t.Errorf("%s has %d examples, not 2 to 4", c.CommandPath(), len(examples))
		}
		for _, e := range examples {
			if !strings.HasPrefix(e, "  ") || !strings.Contains(e, "martlet ") {
				t.Errorf("%s: example %q", c.CommandPath(), e)
			}
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short text %q", c.CommandPath(), c.Short)
		}
		help := command(t, "", append(strings.Fields(c.CommandPath())[1:], "--help")...)
		if help.code != 0 || !strings.Contains(help.out, "--json") && c.Name() != "help" || c.HasSubCommands() && strings.Contains(help.out, c.CommandPath()+" [flags]") {
			t.Errorf("%s --help: code %d\n%s", c.CommandPath(), help.code, help.out)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRootCommand())
	overview := command(t, "", "--help").out
	for _, group := range []string{"Running a server:", "Domains, people and their mail:", "Care:", "About:"} {
		if !strings.Contains(overview, "\n"+group+"\n") {
			t.Errorf("the overview lacks %q", group)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"port-base", "account", "dir", "json"}
	for word, want := range map[string]string{
		"portbase": "port-base", "acount": "account", "acc": "account", "jsno": "json", "zzzzzz": "", "": "", "dri": "dir",
		strings.Repeat("a", 200): "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestConfigCommands(t *testing.T) {
	path := newConfig(t)
	if got := command(t, "", "config", "check", "--json", path); got.code != 0 || got.out != `{"file":"`+path+`","ok":true}`+"\n" {
		t.Errorf("config check --json: %+v", got)
	}
	shown := command(t, "", "config", "show", path)
	again := filepath.Join(t.TempDir(), "again.toml")
	if err := os.WriteFile(again, []byte(shown.out), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := command(t, "", "config", "check", again); got.code != 0 {
		t.Errorf("what config show prints has faults: %s", got.err)
	}
	var all map[string]any
	if err := json.Unmarshal([]byte(command(t, "", "config", "show", "--json", path).out), &all); err != nil || all["hostname"] != "mail.example.org" {
		t.Errorf("config show --json: %v, hostname %v", err, all["hostname"])
	}
	bad := filepath.Join(t.TempDir(), "bad.toml")
	if err := os.WriteFile(bad, []byte("[queue]\nresolvr = \"127.0.0.1:53\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := command(t, "", "config", "check", "--json", bad)
	var line struct {
		File, Key, Problem string
		Line               int
	}
	if err := json.Unmarshal([]byte(got.out), &line); err != nil || got.code != 2 || line.File != bad || line.Line != 2 || line.Key != "queue.resolvr" || !strings.Contains(line.Problem, "resolver") {
		t.Errorf("config check --json of a bad file: %v, %+v", err, got)
	}
}

// TestTryConfig holds the file that try writes against its golden form, and against
// the commands that read it.
func TestTryConfig(t *testing.T) {
	text := []byte(tryConfig(10000))
	golden := filepath.Join("testdata", "try.toml")
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("the configuration is not that of %s:\n%s", golden, text)
	}
	path := filepath.Join(t.TempDir(), "martlet.toml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := command(t, "", "config", "check", path); got.code != 0 {
		t.Errorf("config check: %s", got.err)
	}
	// A table put at the end, as people do, must not meet one that is there.
	more := append(text, "\n[queue]\nresolver = \"127.0.0.1:5353\"\nport = 2525\n"...)
	if err := os.WriteFile(path, more, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := loadConfigFile(path)
	if err != nil || cfg.Queue.Port != 2525 {
		t.Errorf("with a queue table: %v", err)
	}
}

func TestClean(t *testing.T) {
	if got := clean("a\x1b[31mb\nc\u009bd\té"); got != "a?[31mb?c?d?é" {
		t.Errorf("clean: %q", got)
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 KB", 25_400_000: "25 MB", 999_950: "1.0 MB", 1 << 62: "4.6 EB"} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %q, want %q", n, got, want)
		}
	}
}

// TestLocked: a data folder that a process holds without answering.
func TestLocked(t *testing.T) {
	path := newConfig(t)
	if got := command(t, "", "domain", "add", "example.org", "--config", path); got.code != 0 {
		t.Fatal(got.err)
	}
	cfg, _, err := loadConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e, err := pebble.Open(engineDir(cfg), pebble.Options{FS: vfs.Default, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	got := runBinary(t, nil, "domain", "list", "--config", path)
	if got.code != 1 || !strings.Contains(got.err, "is in use by ") || !strings.Contains(got.err, "which does not answer") || strings.Count(got.err, "\n") != 1 {
		t.Errorf("domain list on a locked folder: %+v", got)
	}
}

// TestOtherOwner: root must not leave files in a data folder that its owner cannot open.
func TestOtherOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can")
	}
	config := server(t, "example.org", "")
	cfg, _, err := loadConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(engineLock(cfg), 54321, 54321); err != nil {
		t.Fatal(err)
	}
	got := command(t, "", "domain", "list", "--config", config)
	if got.code != 1 || !strings.Contains(got.err, "sudo -u '#54321' martlet") {
		t.Errorf("domain list on another user's data: %+v", got)
	}
}
