package main

import (
	"log/slog"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
)

// A key stays in the DNS for longer than any message that it signed may lie here: it signs
// when a message is submitted, not when that is released.
func TestKeysOutliveTheQueue(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		what, text string
		longest    time.Duration // that a message waits here
	}{
		{"as it is", ``, 35 * day},
		{"no time of release", "[submission]\nfuture_release = \"0s\"\n", 5 * day},
		{"a long queue", "[queue]\nmax_age = \"20d\"\n", 50 * day},
		{"a schedule", "[[queue.schedule]]\ndomain = \"example.net\"\nmax_age = \"40d\"\n", 70 * day},
		{"a domain that mail is kept for", "[[backup_mx]]\ndomain = \"example.net\"\n", 44 * day},
	} {
		cfg, err := conf.Parse("x", []byte("hostname = \"mx.example.org\"\n"+c.text))
		if err != nil {
			t.Fatal(c.what, err)
		}
		o, err := directoryOptions(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(c.what, err)
		}
		if want := max(14*day, c.longest+7*day); o.KeepKeys != want {
			t.Errorf("%s: a key that signs no more stays for %v, not %v", c.what, o.KeepKeys, want)
		}
	}
}
