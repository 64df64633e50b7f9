package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// withMail makes a data folder with two accounts and mail in one.
func withMail(t *testing.T) (config string) {
	t.Helper()
	config = newConfig(t)
	for _, line := range []string{"domain add example.org", "account add carol@example.org", "account add dave@example.org"} {
		if got := command(t, "", append(strings.Fields(line), "--config", config)...); got.code != 0 {
			t.Fatalf("%s: %+v", line, got)
		}
	}
	onHouse(t, config, func(h *house) error {
		acct, err := h.directory.Lookup(context.Background(), mail.Address{Local: "carol", Domain: "example.org"})
		for i := range 5 {
			if err != nil {
				return err
			}
			err = deliver(h, acct.ID, fmt.Sprintf("Subject: %d\r\n\r\n%s", i, strings.Repeat(fmt.Sprint(i*7919), 1000*i)))
		}
		return err
	})
	return config
}

func deliver(h *house, to mail.AccountID, text string) error {
	p, err := h.store.Receive(context.Background(), strings.NewReader(text))
	if err != nil {
		return err
	}
	return h.store.Account(to).Update(context.Background(), func(tx *store.Tx) error {
		m, err := tx.Mailbox("INBOX")
		if err == nil {
			_, err = tx.Append(m.ID, store.NewMessage{Parcel: p})
		}
		return err
	})
}

// onHouse works on a data folder that no server holds.
func onHouse(t *testing.T, config string, fn func(h *house) error) {
	t.Helper()
	cfg, _, err := loadConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	h, err := openHouse(context.Background(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := fn(h); err != nil {
		t.Error(err)
	}
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
}

func emptyInbox(t *testing.T, config string) {
	onHouse(t, config, func(h *house) error {
		acct, err := h.directory.Lookup(context.Background(), mail.Address{Local: "carol", Domain: "example.org"})
		if err != nil {
			return err
		}
		return h.store.Account(acct.ID).Update(context.Background(), func(tx *store.Tx) error {
			m, err := tx.Mailbox("INBOX")
			if err == nil {
				_, err = tx.Expunge(m.ID, store.All(), false)
			}
			return err
		})
	})
}

// Commands of backups say the same, whether a server runs or not.
func TestBackupCommands(t *testing.T) {
	for _, online := range []bool{false, true} {
		t.Run(fmt.Sprintf("online %v", online), func(t *testing.T) {
			config := withMail(t)
			dir := filepath.Join(t.TempDir(), "backup")
			if got := command(t, "", "backup", dir, "--config", config); got.code != 0 {
				t.Fatalf("%+v", got)
			}
			emptyInbox(t, config)
			if online {
				startHouse(t, config)
			}
			for _, c := range []struct {
				args string
				code int
				says string
			}{
				{"backup DIR", 0, "2 accounts, 0 messages, 0 messages in the queue"},
				{"backup DIR --full --json", 0, `"unchanged_accounts":0`},
				{"backup list DIR", 0, "MESSAGES"},
				{"backup list DIR --json", 0, `"messages":5,`},
				{"backup verify DIR", 0, "all is whole: 3 snapshots"},
				{"backup verify DIR --json", 0, `{"event":"done","ok":true,"snapshots":3,`},
				{"backup verify DIR/snapshots", 1, "there is no backup in"},
				{"backup DIR/snapshots", 1, "has other files in it"},
				{"backup", 2, "missing argument"},
				{"backup DIR extra", 2, "too many arguments"},
				{"backup prune DIR", 2, "--keep-last"},
				{"backup prune DIR --keep-days 999999", 2, "36500"},
				{"backup prune DIR --keep-last -1 --keep-days 3", 2, "--keep-last"},
				{"restore DIR", 2, "--whole, or --account"},
				{"restore DIR --whole --account carol@example.org", 2, "not both"},
				{"restore DIR --whole --merge", 2, "are for --account"},
				{"restore DIR --account carol@example.org --to X", 2, "--to needs --mailbox"},
				{"restore DIR --account carol@example.org --at soon", 2, `--at "soon" is no time`},
				{"restore DIR --account carol@example.org --at 2020-01-01", 1, "the oldest snapshot"},
				{"restore DIR --account nobody@example.org", 1, "has no account nobody@example.org"},
				{"restore DIR --account carol", 1, "not of the form name@domain"},
				{"restore DIR --whole", 1, "is not empty"},
				{"restore DIR --account carol@example.org --merge --plan", 0, "0 messages would be brought back"},
				{"restore DIR --at FIRST --account carol@example.org --plan", 0, "INBOX -> Restored"},
				{"restore DIR --at FIRST --account carol@example.org --mailbox INBOX --to Found", 0, "INBOX -> Found: 5 messages"},
				{"restore DIR --at FIRST --account carol@example.org --merge", 0, "0 messages brought back"},
				{"mailbox list carol@example.org --json", 0, `{"name":"Found","subscribed":true,"messages":5,`},
				{"account remove carol@example.org", 0, ""},
				{"restore DIR --at FIRST --account carol@example.org --json", 0, `"accounts":1,"mailboxes":6,"messages":5,`},
				{"account list", 0, "carol@example.org"},
				{"verify", 0, `"ok":true`},
				{"backup prune DIR --keep-last 1 --plan", 0, "2 snapshots would be removed, 1 snapshot kept"},
				{"backup prune DIR --keep-last 1 --json", 0, `"kept":1,"removed":2`},
				{"backup verify DIR", 0, "all is whole: 1 snapshot,"},
			} {
				args := strings.ReplaceAll(strings.ReplaceAll(c.args, "DIR", dir), "FIRST", firstSnapshot(t, dir))
				got := command(t, "", append(strings.Fields(args), "--config", config)...)
				if got.code != c.code || !strings.Contains(got.out+got.err, c.says) {
					t.Errorf("martlet %s: %+v, want %d, %q", c.args, got, c.code, c.says)
				}
			}
		})
	}
}

// firstSnapshot returns the time of the first, as --at takes it.
func firstSnapshot(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil || len(list) == 0 {
		t.Fatal(err)
	}
	n := list[0].Name() // a digit more: no whole second, which --at would make longer
	return fmt.Sprintf("%s-%s-%sT%s:%s:%sZ", n[:4], n[4:6], n[6:8], n[9:11], n[11:13], n[13:19]+"1")
}

// Everything comes back into an empty data folder, also after a restore that was killed.
func TestRestoreWhole(t *testing.T) {
	config := withMail(t)
	dir := filepath.Join(t.TempDir(), "backup")
	if got := command(t, "", "backup", dir, "--config", config); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	other := newConfig(t)
	cfg, _, err := loadConfigFile(other)
	if err != nil {
		t.Fatal(err)
	}
	left := engineDir(cfg) + ".restoring"
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "000004.log"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"restore DIR --whole --plan", 0, "2 accounts and 5 messages would be brought back"},
		{"mailbox list carol@example.org", 1, "there is no data"},
		{"restore DIR --whole --json", 0, `"accounts":2,"messages":5,"queued":0,"failed":0`},
		{"restore DIR --whole", 1, "is not empty"},
		{"verify", 0, `"ok":true`},
		{"mailbox list carol@example.org --json", 0, `"messages":5`},
		{"backup DIR", 0, "5 messages"},
		{"backup verify DIR", 0, "all is whole: 2 snapshots"},
	} {
		args := strings.ReplaceAll(c.args, "DIR", dir)
		got := command(t, "", append(strings.Fields(args), "--config", other)...)
		if got.code != c.code || !strings.Contains(got.out+got.err, c.says) {
			t.Errorf("martlet %s: %+v, want %d, %q", c.args, got, c.code, c.says)
		}
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("something is left: %v", err)
	}
}
