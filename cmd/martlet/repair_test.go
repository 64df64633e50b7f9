package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// hurtTables changes bytes of every table of a data folder and returns how many there are.
func hurtTables(t *testing.T, config string, hurt func(b []byte)) int {
	t.Helper()
	for range 2 { // what was in logs is in tables then
		onHouse(t, config, func(*house) error { return nil })
	}
	tables, err := filepath.Glob(filepath.Join(filepath.Dir(config), "data", "store", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, name := range tables {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		hurt(b)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return len(tables)
}

// lastLine reads the last line of a repair, and those that say what could not be read.
func lastLine(t *testing.T, out string) (done repairLine, unreadable []repairLine) {
	t.Helper()
	for line := range strings.Lines(out) {
		done = repairLine{}
		if err := json.Unmarshal([]byte(line), &done); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if done.Event == "unreadable" {
			unreadable = append(unreadable, done)
		}
	}
	return done, unreadable
}

// TestRepairBits turns over a bit of every table: nothing is lost.
func TestRepairBits(t *testing.T) {
	config := withMail(t)
	n := hurtTables(t, config, func(b []byte) { b[len(b)/3] ^= 4 })
	if got := command(t, "", "verify", "--config", config); got.code == 0 {
		t.Fatalf("damage was not seen: %+v", got)
	}
	got := command(t, "", "verify", "--repair", "--json", "--config", config)
	done, _ := lastLine(t, got.out)
	if got.code != 0 || len(done.Turned) != n || done.OK == nil || !*done.OK {
		t.Errorf("%d tables: %+v", n, got)
	}
	if got := command(t, "", "verify", "--config", config); got.code != 0 {
		t.Errorf("afterwards: %+v", got)
	}
	onHouse(t, config, func(h *house) error {
		if n := inbox(t, h, "carol@example.org"); n != 5 {
			t.Errorf("%d messages are left", n)
		}
		return nil
	})
}

// TestRepairSaysWhatIsLost takes a sector from every table, records and all that leads to them: the
// repair must not say that all is well.
func TestRepairSaysWhatIsLost(t *testing.T) {
	config := withMail(t)
	hurtTables(t, config, func(b []byte) { clear(b[:min(512, len(b))]) })
	got := command(t, "", "verify", "--repair", "--json", "--config", config)
	done, unreadable := lastLine(t, got.out)
	if got.code != exitFailed || done.OK == nil || *done.OK || len(unreadable) == 0 || done.Ranges != len(unreadable) {
		t.Errorf("a sector of every table is gone, and: %+v", got)
	}
	if !strings.Contains(got.err, "are lost") || !strings.Contains(got.err, "martlet restore") || !strings.Contains(got.err, "quarantine") {
		t.Errorf("it says: %s", got.err)
	}
	if got := command(t, "", "verify", "--config", config); got.code != 0 {
		t.Errorf("afterwards: %+v", got)
	}
}

// TestRepairGivesBack takes the directory away, and gives an account its address back.
func TestRepairGivesBack(t *testing.T) {
	config := withMail(t)
	var id mail.AccountID
	onHouse(t, config, func(h *house) error {
		a, err := h.directory.Lookup(context.Background(), mail.Address{Local: "carol", Domain: "example.org"})
		if id = a.ID; err != nil {
			return err
		}
		return h.engine.Update(context.Background(), store.DirectoryShard, func(w engine.Writer) error { return w.DeleteRange(nil, nil) })
	})
	if got := command(t, "", "verify", "--repair", "--give", "x=carol@example.org", "--config", config); got.code != exitUsage {
		t.Errorf("no number: %+v", got)
	}
	got := command(t, "", "verify", "--repair", "--json", "--config", config)
	if got.code != exitFailed || !strings.Contains(got.out, fmt.Sprintf("recovered-%d@recovered.invalid", id)) {
		t.Errorf("the directory is gone: %+v", got)
	}
	if got := command(t, "", "verify", "--config", config); got.code != 0 {
		t.Errorf("afterwards: %+v", got)
	}
	if got := command(t, "", "verify", "--repair", "--json", "--give", fmt.Sprintf("%d=carol@example.org", id), "--config", config); got.code != 0 && !strings.Contains(got.out, "the domain was lost") {
		t.Errorf("given back: %+v", got)
	}
	if got := command(t, "", "verify", "--config", config); got.code != 0 {
		t.Errorf("in the end: %+v", got)
	}
	onHouse(t, config, func(h *house) error {
		if n := inbox(t, h, "carol@example.org"); n != 5 {
			t.Errorf("%d messages are left", n)
		}
		return nil
	})
}
