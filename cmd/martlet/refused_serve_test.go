package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/node"
)

// nodeOnDatabase returns the configuration of a node with a database of the test's own, and the
// node, which does not serve yet.
func nodeOnDatabase(t *testing.T, lease string) (config string, h *house) {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it, as make test does: it starts a real PostgreSQL")
	}
	server := pgtest.Start(t, pgtest.Options{})
	server.Database(t, "home")
	config = filepath.Join(t.TempDir(), "martlet.toml")
	text := "hostname = \"mail.example.org\"\ndata = \"data\"\n[store]\nengine = \"postgres\"\nurl = \"postgres://postgres@" + server.Address() + "/home?sslmode=disable\"\n[cluster]\nnode = \"mx1\"\nlease = \"" + lease + "\"\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := loadConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	h, err = openAs(t.Context(), &house{cfg: cfg, log: slog.New(slog.DiscardHandler), serving: true})
	if err != nil {
		t.Fatal(err)
	}
	return config, h
}

// A server that may not serve from its database is no node of it afterwards: whoever needs the
// store for himself does not wait for it, and says so where there is one to wait for.
func TestARefusedServerSaysGoodBye(t *testing.T) {
	config, h := nodeOnDatabase(t, "3s")
	cfg, log := h.cfg, h.log
	if err := setMark(t.Context(), h.engine, sourceKey, sourceMark{To: "pebble", Done: true}.encode()); err != nil {
		t.Fatal(err)
	}
	leave := h.live(func(err error) { t.Error(err) })
	if got := command(t, "", "store", "reopen", "postgres", "--config", config); got.code == 0 || strings.Count(got.err, "node mx1 has not said good-bye") != 1 {
		t.Errorf("a node runs: %+v", got)
	}
	leave()
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
	if h, err := openAs(t.Context(), &house{cfg: cfg, log: log, serving: true}); err == nil || !strings.Contains(err.Error(), "was copied to pebble") {
		t.Fatalf("a server on a store that was copied: %v, %v", h, err)
	}
	s, err := openSide(t.Context(), cfg, "postgres", false, log)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	n, err := s.nodes(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := n.List(t.Context()); err != nil || len(all) != 1 || all[0].Name != "mx1" || all[0].State != node.Stopped {
		t.Errorf("%+v, %v", all, err)
	}
	if left, err := s.members(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("there are still %v, %v", left, err)
	}
	if got := command(t, "", "store", "reopen", "postgres", "--config", config); got.code != 0 || got.err != "" {
		t.Errorf("%+v", got)
	}
}
