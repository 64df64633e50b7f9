package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/serve/admin"
)

// TestClusterGroups adds a database to a cluster and moves an account there and back, by
// commands.
func TestClusterGroups(t *testing.T) {
	t.Parallel()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	server := pgtest.Start(t, pgtest.Options{})
	server.Database(t, "home")
	server.Database(t, "second")
	url := func(who, name string) string {
		return "postgres://" + who + "@" + server.Address() + "/" + name + "?sslmode=disable"
	}
	home, second := url("postgres", "home"), url("postgres:notshown", "second")
	cfg := filepath.Join(t.TempDir(), "martlet.toml")
	if err := os.WriteFile(cfg, []byte("hostname = \"mail.example.org\"\ndata = \"data\"\n[store]\nengine = \"postgres\"\nurl = \""+home+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	do := func(code int, says string, args ...string) string {
		t.Helper()
		got := command(t, "", append(args, "--config", cfg)...)
		if got.code != code || !strings.Contains(got.out+got.err, says) {
			t.Fatalf("martlet %s: code %d\n%s%swants %d and %q", strings.Join(args, " "), got.code, got.out, got.err, code, says)
		}
		return got.out
	}
	do(0, "", "domain", "add", "example.org")
	do(0, "", "account", "add", "carol@example.org")
	do(1, "no group \"second\"; see martlet cluster groups", "cluster", "move", "carol@example.org", "--to", "second")
	do(2, "needs --to", "cluster", "move", "carol@example.org")
	do(2, "needs --url", "cluster", "add-group", "second")
	do(1, "no name of a group", "cluster", "add-group", "Second", "--url", second)
	do(1, "a group already", "cluster", "add-group", "second", "--url", home)
	do(0, "group second is number 1", "cluster", "add-group", "second", "--url", second)
	if out := do(0, "second", "cluster", "groups"); strings.Contains(out, "notshown") || !strings.Contains(out, "home") {
		t.Errorf("groups:\n%s", out)
	}
	do(1, "a group \"second\" already; see martlet cluster groups", "cluster", "add-group", "second", "--url", second)
	do(0, "would be moved from group home to group second", "cluster", "move", "carol@example.org", "--to", "second", "--dry-run")
	do(0, "has been moved from group home to group second", "cluster", "move", "carol@example.org", "--to", "second")
	do(0, "is in group second already", "cluster", "move", "carol@example.org", "--to", "second")
	do(0, "is in group second already", "cluster", "move", "carol@example.org", "--to", "second", "--dry-run")
	do(0, "INBOX", "mailbox", "list", "carol@example.org")
	do(0, "no account is being moved", "cluster", "moves")
	do(1, "is not being moved; see martlet cluster moves", "cluster", "move", "carol@example.org", "--abort")
	var last admin.GroupMove
	keys := map[string]int64{}
	for line := range strings.Lines(do(0, "", "cluster", "move", "carol@example.org", "--to", "home", "--json")) {
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		keys[last.Step] = last.Keys
	}
	for step, n := range keys {
		if n != last.KeysTotal {
			t.Errorf("%s ends with %d of %d records", step, n, last.KeysTotal)
		}
	}
	if last.Step != "done" || last.From != "second" || last.To != "home" || last.Address != "carol@example.org" || last.KeysTotal == 0 || last.Bytes != last.BytesTotal || last.Bytes == 0 {
		t.Errorf("%+v", last)
	}
	do(0, "INBOX", "mailbox", "list", "carol@example.org")
	do(0, "takes no new accounts", "cluster", "groups", "--full", "home")
	do(0, "", "account", "add", "dave@example.org")
	out := do(0, "", "cluster", "groups", "--json")
	for line := range strings.Lines(out) {
		var g admin.Group
		if err := json.Unmarshal([]byte(line), &g); err != nil || g.Accounts != 1 || g.Full != (g.Name == "home") {
			t.Errorf("%s: %v", line, err)
		}
	}
	do(0, "takes new accounts", "cluster", "groups", "--open", "home")
}
