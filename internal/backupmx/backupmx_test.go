package backupmx

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

func address(t *testing.T, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// With a list only who is on it is taken; a list that cannot be read refuses nobody for
// good.
func TestList(t *testing.T) {
	text, broken := []byte("# people\nBob@example.org\r\n\n  eve@example.org  \n@example.net\n"), error(nil)
	list := func() ([]byte, error) { return text, broken }
	b := New(Options{Domains: []Domain{{"Example.org", list}, {"example.net", list}}, Now: time.Now})
	for to, want := range map[string]string{
		"bob@example.org": "true <nil>", "EVE@example.org": "true <nil>", "any@example.net": "true <nil>",
		"x@example.com": "false <nil>", "bob@sub.example.org": "false <nil>",
	} {
		backup, err := b.Takes(t.Context(), address(t, to))
		if got := fmt.Sprint(backup, " ", err); got != want {
			t.Errorf("%s: %s", to, got)
		}
	}
	if backup, err := b.Takes(t.Context(), address(t, "mallory@example.org")); !backup || !fault.Is(err, fault.NotFound) {
		t.Errorf("%v %v", backup, err)
	}
	broken = errors.New("no such file")
	if backup, err := b.Takes(t.Context(), address(t, "bob@example.org")); !backup || !fault.Of(err).Temporary() {
		t.Errorf("%v %v", backup, err)
	}
}

// The other host is asked, not for each message; while it is down those it has said yes of
// lately are taken, and nobody is refused for good.
func TestAsk(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	down, asked := false, 0
	b := New(Options{Domains: []Domain{{Name: "example.org"}}, Now: func() time.Time { return now }, Probe: func(_ context.Context, to mail.Address) (int, string) {
		asked++
		switch {
		case down:
			return 421, "no connection"
		case to.Local == "bob":
			return 250, "ok"
		}
		return 550, "5.1.1 who?"
	}})
	takes := func(local string) string {
		backup, err := b.Takes(t.Context(), mail.Address{Local: local, Domain: "example.org"})
		switch {
		case !backup:
			return "not ours"
		case err == nil:
			return "yes"
		case fault.Is(err, fault.NotFound):
			return "no"
		case fault.Of(err).Temporary():
			return "later"
		}
		return err.Error()
	}
	step := func(after time.Duration, isDown bool, want string, asks int) {
		t.Helper()
		now, down, asked = now.Add(after), isDown, 0
		if got := takes("bob") + " " + takes("Bob") + " " + takes("mallory"); got != want || asked != asks {
			t.Errorf("%s; asked %d times", got, asked)
		}
	}
	step(0, false, "yes yes no", 2)
	step(time.Minute, false, "yes yes no", 0)
	step(2*time.Hour, true, "yes yes later", 1)
	step(25*time.Hour, true, "yes yes later", 3)
	step(6*24*time.Hour, true, "later later later", 3)
	step(0, false, "yes yes no", 2)
}
