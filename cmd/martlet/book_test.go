package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// TestPeople: who is there after which start.
func TestPeople(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	tr := &tryout{dir: dir, ca: localCA{dir: filepath.Join(dir, "tls"), now: time.Now}}
	if err := tr.prepare(); err != nil {
		t.Fatal(err)
	}
	h, err := openHouse(ctx, tr.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	start := func(names ...string) string {
		t.Helper()
		tr.names = names
		people, err := tr.people(ctx, h)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, p := range people {
			if len(p.Password) != 16 {
				t.Errorf("%s has the password %q", p.Address, p.Password)
			}
			all = append(all, fmt.Sprintf("%s %d", p.Address, inbox(t, h, p.Address)))
		}
		return strings.Join(all, ", ")
	}
	remove := func(address string) {
		t.Helper()
		addr, _ := mail.ParseAddress(address)
		if err := h.directory.RemoveAccount(ctx, addr); err != nil {
			t.Fatal(err)
		}
	}
	const both = "alice@martlet.test 1, bob@martlet.test 1"
	for _, c := range []struct {
		before func()
		names  []string
		want   string
	}{
		{func() {}, nil, both},
		{func() {}, []string{"Carol", "dave@other.example"}, both + ", Carol@martlet.test 1, dave@other.example 1"},
		{func() {}, []string{"carol@MARTLET.TEST"}, both + ", Carol@martlet.test 1, dave@other.example 1"},
		// Removed by hand: stays so, unless it is asked for.
		{func() { remove("carol@martlet.test") }, nil, both + ", dave@other.example 1"},
		{func() { remove("bob@martlet.test") }, []string{"carol"}, both + ", Carol@martlet.test 1, dave@other.example 1"},
		// Killed after the delivery and before the book says so.
		{func() { forgetWelcome(t, dir) }, nil, both + ", Carol@martlet.test 1, dave@other.example 1"},
	} {
		c.before()
		if got := start(c.names...); got != c.want {
			t.Errorf("with %v: %s\nwant %s", c.names, got, c.want)
		}
	}
	tr.names = []string{"not an address"}
	if _, err := tr.people(ctx, h); err == nil {
		t.Error("--account takes anything")
	}
}

// inbox counts the messages of an account.
func inbox(t *testing.T, h *house, address string) (n uint32) {
	t.Helper()
	addr, _ := mail.ParseAddress(address)
	acct, err := h.directory.Lookup(context.Background(), addr)
	if err == nil {
		err = h.store.Account(acct.ID).View(context.Background(), func(s *store.Snapshot) error {
			box, err := s.Mailbox("INBOX")
			n = box.Messages
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func forgetWelcome(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "accounts.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	less := bytes.ReplaceAll(text, []byte(`"welcomed": true`), []byte(`"welcomed": false`))
	if bytes.Equal(less, text) {
		t.Fatal("nobody was welcomed")
	}
	if err := os.WriteFile(path, less, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMoveListeners(t *testing.T) {
	blocks := []conf.Listen{
		{Protocol: "imap", Address: "127.0.0.1:10143"}, {Protocol: "imap", Address: "127.0.0.1:9999"},
		{Protocol: "imaps", Address: "[::1]:10993"}, {Protocol: "smtp", Address: "192.0.2.1:25"}, {Protocol: "http", Address: "localhost:10080"},
		{Protocol: "pop3", Address: ":10110"},
	}
	moveListeners(blocks, 20000)
	var got []string
	for _, b := range blocks {
		got = append(got, string(b.Address))
	}
	want := "127.0.0.1:20143 127.0.0.1:9999 [::1]:20993 192.0.2.1:25 localhost:20080 :10110"
	if strings.Join(got, " ") != want {
		t.Errorf("moved to %v, want %s", got, want)
	}
}

// TestSpoken: what try offers and what the server runs is the same.
func TestSpoken(t *testing.T) {
	tr := &tryout{dir: t.TempDir()}
	tr.ca = localCA{dir: filepath.Join(tr.dir, "tls"), now: time.Now}
	if err := tr.prepare(); err != nil {
		t.Fatal(err)
	}
	h, err := openHouse(context.Background(), tr.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	services := h.services()
	for _, p := range spoken() {
		if s, ok := services[string(p)]; !isHTTP(p) && (!ok || s.Handle == nil) {
			t.Errorf("nothing speaks %s", p)
		}
		delete(services, string(p))
		delete(services, conf.Listen{Protocol: p, Legacy: true}.Name())
	}
	if len(services) > 0 {
		t.Errorf("nobody is told of %v", services)
	}
}

// TestVerifyExit: damage is told on standard output and by the exit code.
func TestVerifyExit(t *testing.T) {
	config := server(t, "example.org", "")
	if got := command(t, "", "verify", "--config", config); got.code != 0 || !strings.Contains(got.out, `"event":"done","ok":true`) {
		t.Fatalf("verify: %+v", got)
	}
	cfg, _, err := loadConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	e, err := pebble.Open(engineDir(cfg), pebble.Options{FS: vfs.Default, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	err = e.Update(context.Background(), store.DirectoryShard, func(w engine.Writer) error {
		return w.Put([]byte("dspoilt.example"), []byte("garbage"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	got := command(t, "", "verify", "--config", config)
	if got.code != 1 || !strings.Contains(got.out, `"event":"problem","what":"`) || !strings.Contains(got.err, "1 problem found in the store") {
		t.Errorf("verify of a damaged store: %+v", got)
	}
}
