package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// A node that is asleep while its database is copied as a whole changes nothing there when it wakes,
// before and after the end of the copy, until the store is opened again.
func TestCopyShutsTheDatabase(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	server := pgtest.Start(t, pgtest.Options{})
	server.Database(t, "home")
	config := filepath.Join(t.TempDir(), "martlet.toml")
	text := "hostname = \"mail.example.org\"\ndata = \"data\"\n[store]\nengine = \"postgres\"\nurl = \"postgres://postgres@" + server.Address() + "/home?sslmode=disable\"\n[cluster]\nnode = \"mx1\"\nlease = \"2s\"\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := loadConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	asleep, err := openAs(t.Context(), &house{cfg: cfg, log: slog.New(slog.DiscardHandler), serving: true})
	if err != nil {
		t.Fatal(err)
	}
	defer asleep.close()
	wakes := func() error {
		return asleep.engine.Update(t.Context(), 1000, func(w engine.Writer) error { return w.Put([]byte("k"), []byte("late")) })
	}
	run := func(args ...string) (output string) {
		t.Helper()
		got := command(t, "", append(args, "--config", config)...)
		if got.code != 0 {
			t.Fatalf("%v: %+v", args, got)
		}
		return got.out + got.err
	}
	run("store", "copy", "--from", "postgres", "--to", "pebble")
	for range 2 { // the first may find its connection gone
		if err := wakes(); !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Unknown) {
			t.Errorf("a node that wakes: %v", err)
		}
	}
	if err := wakes(); !strings.Contains(fault.Say(err), "was copied to pebble") {
		t.Errorf("a node that wakes is told: %v", err)
	}
	if got := command(t, "", "account", "list", "--config", config); got.code == 0 || !strings.Contains(got.err, "was copied to pebble") {
		t.Errorf("a command: %+v", got)
	}
	run("store", "reopen", "postgres")
	if err := wakes(); err != nil {
		t.Errorf("when it is open again: %v", err)
	}
	s, err := openSide(t.Context(), cfg, "postgres", false, slog.New(slog.DiscardHandler))
	if err == nil { // a repair that is cut short
		err = errors.Join(setMark(t.Context(), s.engine, mendingKey, underWay()), s.shut(t.Context(), mendingCloses("postgres"), func(what string) { t.Error(what) }), s.close())
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = wakes()
	if err := wakes(); !strings.Contains(fault.Say(err), "verify --repair") {
		t.Errorf("while it is repaired: %v", err)
	}
	run("verify", "--repair")
	if err := wakes(); err != nil {
		t.Errorf("when it is repaired: %v", err)
	}
}
