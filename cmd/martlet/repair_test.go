package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
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

// withoutDirectory is a data folder with mail of carol@example.org, whose account is known as
// recovered-N as its directory was lost; pass is a password that it got since.
func withoutDirectory(t *testing.T, pass string) (config string, id mail.AccountID) {
	t.Helper()
	config = withMail(t)
	onHouse(t, config, func(h *house) error {
		a, err := h.directory.Lookup(context.Background(), mail.Address{Local: "carol", Domain: "example.org"})
		if id = a.ID; err != nil {
			return err
		}
		return h.engine.Update(context.Background(), store.DirectoryShard, func(w engine.Writer) error { return w.DeleteRange(nil, nil) })
	})
	got := command(t, "", "verify", "--repair", "--json", "--config", config)
	if got.code != exitFailed || !strings.Contains(got.out, fmt.Sprintf("recovered-%d@recovered.invalid", id)) {
		t.Fatalf("the directory is gone: %+v", got)
	}
	if got := command(t, "", "verify", "--config", config); got.code != 0 {
		t.Fatalf("afterwards: %+v", got)
	}
	onHouse(t, config, func(h *house) error {
		return h.directory.SetPassword(context.Background(), mail.Address{Local: fmt.Sprintf("recovered-%d", id), Domain: "recovered.invalid"}, pass)
	})
	return config, id
}

// TestRepairGivesBack takes the directory away, and gives an account its address back. It
// keeps its mail and its password.
func TestRepairGivesBack(t *testing.T) {
	const pass = "a word that it got since"
	config, id := withoutDirectory(t, pass)
	for _, wrong := range []string{"x=carol@example.org", "0=carol@example.org", fmt.Sprintf("%d=carol", id)} {
		if got := command(t, "", "verify", "--repair", "--give", wrong, "--config", config); got.code != exitUsage {
			t.Errorf("%s: %+v", wrong, got)
		}
	}
	for range 2 { // the second finds it done
		got := command(t, "", "verify", "--repair", "--json", "--give", fmt.Sprintf("%d=carol@example.org", id), "--config", config)
		if got.code != exitDone || !strings.Contains(got.out, "the address that is given for it") {
			t.Errorf("given back: %+v", got)
		}
	}
	if got := command(t, "", "verify", "--config", config); got.code != 0 {
		t.Errorf("in the end: %+v", got)
	}
	onHouse(t, config, func(h *house) error {
		if n := inbox(t, h, "carol@example.org"); n != 5 {
			t.Errorf("%d messages are left", n)
		}
		_, err := h.directory.Authenticate(context.Background(), "carol@example.org", pass, netip.Addr{})
		return err
	})
}

// TestRepairGivesNoOnesAddress: somebody else has made the address anew meanwhile.
func TestRepairGivesNoOnesAddress(t *testing.T) {
	config, id := withoutDirectory(t, "a word that it got since")
	var now mail.AccountID
	carol := mail.Address{Local: "carol", Domain: "example.org"}
	onHouse(t, config, func(h *house) error {
		if err := h.directory.AddDomain(context.Background(), "example.org"); err != nil {
			return err
		}
		a, err := h.directory.AddAccount(context.Background(), carol, "", store.Quota{})
		now = a.ID
		return err
	})
	for _, give := range []string{fmt.Sprintf("%d=Carol@example.org", id), fmt.Sprintf("%d=dave@example.org", now), "7777=dave@example.org"} {
		got := command(t, "", "verify", "--repair", "--json", "--give", give, "--config", config)
		if got.code != exitUsage || !strings.Contains(got.err, "does not get") || !strings.Contains(got.out, `"refused":true`) {
			t.Errorf("%s: %+v", give, got)
		}
	}
	if got := command(t, "", "verify", "--config", config); got.code != 0 {
		t.Errorf("afterwards: %+v", got)
	}
	onHouse(t, config, func(h *house) error {
		a, err := h.directory.Lookup(context.Background(), carol)
		if err == nil && a.ID != now {
			t.Errorf("%s was account %d and is %d", carol, now, a.ID)
		}
		if n := inbox(t, h, fmt.Sprintf("recovered-%d@recovered.invalid", id)); n != 5 {
			t.Errorf("%d messages are left", n)
		}
		return err
	})
}

// TestQuarantineOfItsOwn: two repairs in the same second do not share a folder.
func TestQuarantineOfItsOwn(t *testing.T) {
	data, now := t.TempDir(), time.Now()
	seen := map[string]bool{}
	for range 3 {
		away, err := makeQuarantine(data, now)
		if err != nil || seen[away] {
			t.Errorf("%s is used twice, %v", away, err)
		}
		seen[away] = true
	}
}

// TestRepairGoesOn kills a repair before the records are in accord: no server starts, and the
// next repair still says what could not be read.
func TestRepairGoesOn(t *testing.T) {
	config := withMail(t)
	hurtTables(t, config, func(b []byte) { clear(b[:min(512, len(b))]) })
	data := filepath.Join(filepath.Dir(config), "data")
	opt := pebble.Options{FS: vfs.Default, Now: time.Now, Mending: true}
	if _, err := pebble.Repair(context.Background(), filepath.Join(data, "store"), filepath.Join(data, "quarantine", "store"), opt, nil); err != nil {
		t.Fatal(err)
	}
	if got := command(t, "", "verify", "--config", config); got.code == 0 || !strings.Contains(got.out+got.err, "cut short") {
		t.Errorf("verify: %+v", got)
	}
	got := command(t, "", "verify", "--repair", "--json", "--config", config)
	done, unreadable := lastLine(t, got.out)
	if got.code != exitFailed || done.OK == nil || *done.OK || len(unreadable) == 0 {
		t.Errorf("it does not say what is lost: %+v", got)
	}
	if got := command(t, "", "verify", "--config", config); got.code != 0 {
		t.Errorf("afterwards: %+v", got)
	}
}
