package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/conf"
)

// What docs/cluster.md has people type is there: commands with their flags, configuration, keys,
// figures of /metrics, and the pages that it leads to.
func TestClusterPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	commands := regexp.MustCompile("(?m)(?:^\\s*|`)(martlet [a-z][^`\\n#|;>&]*)").FindAllStringSubmatch(page, -1)
	if len(commands) < 20 {
		t.Errorf("only %d commands are found", len(commands))
	}
	for _, c := range commands {
		words := strings.Fields(c[1])[1:]
		root := newRootCommand()
		cmd, rest, err := root.Find(words)
		if err != nil || cmd == root {
			t.Errorf("%q: there is no such command", c[1])
			continue
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Errorf("%q: %v", c[1], err)
		}
		mentioned := len(cmd.Flags().Args()) == 0
		if cmd.Args != nil && !mentioned && cmd.Args(cmd, cmd.Flags().Args()) != nil {
			t.Errorf("%q: %v", c[1], cmd.Args(cmd, cmd.Flags().Args()))
		}
	}
	for _, b := range regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(page, -1) {
		if _, err := conf.Parse("docs/cluster.md", []byte(b[1])); err != nil {
			t.Error(err, describe(err))
		}
	}
	all := showAll(t)
	for _, k := range regexp.MustCompile("`\\[([a-z.]+)\\]\\s+([a-z_]+)`").FindAllStringSubmatch(page, -1) {
		_, table, ok := strings.Cut(all, "\n["+k[1]+"]\n")
		table, _, _ = strings.Cut(table, "\n[")
		if !ok || !regexp.MustCompile(`(?m)^`+k[2]+` = `).MatchString(table) {
			t.Errorf("there is no key %s in [%s]", k[2], k[1])
		}
	}
	sources := ""
	for _, name := range []string{"metrics.go", "health_parts.go", "health.go", "http.go"} {
		b, _ := os.ReadFile(name)
		sources += string(b)
	}
	for _, m := range regexp.MustCompile("`(martlet_[a-z_]+)`").FindAllStringSubmatch(page, -1) {
		name := m[1]
		if rest, ok := strings.CutPrefix(name, "martlet_engine_"); ok {
			name = strings.TrimSuffix(rest, "_total")
		}
		if !strings.Contains(sources, `"`+name+`"`) {
			t.Errorf("there is no figure %s", m[1])
		}
	}
	for _, p := range regexp.MustCompile("`(?:GET )?(/[a-z.]+)`").FindAllStringSubmatch(page, -1) {
		if known := []string{"/healthz", "/readyz", "/health", "/health.json", "/metrics"}; !slices.Contains(known, p[1]) {
			t.Errorf("what is at %s?", p[1])
		}
	}
	for _, l := range regexp.MustCompile(`\]\(([^)#:]+)`).FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat(filepath.Join("../../docs", l[1])); err != nil {
			t.Error(err)
		}
	}
}

// showAll returns every key of the configuration.
func showAll(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../internal/conf/testdata/good/empty.show")
	if err != nil {
		t.Fatal(err)
	}
	return "\n" + string(b)
}
