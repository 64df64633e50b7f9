package isolation

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/house"
	"github.com/martlet-mail/martlet/test/promise"
)

// unknown makes the house check every password anew.
func unknown(o *directory.Options) { o.RememberFor = -1 }

// A login that does not exist is answered as one with a wrong password: by the same
// words, and after the same work. The hash is made cheap, so that whatever else differs
// would show.
func TestAttack49TimesOfLogins(t *testing.T) {
	h := house.New(t, house.Options{Directory: unknown})
	h.Account(t, "alice")
	ssha := directory.Login{Hash: "{SSHA}ORSWlIWi2yq52mkRTW3JAo4WfhLTp0EW"} // of another server, cheaper than any of ours
	if _, err := h.Directory.AddAccountWith(t.Context(), mail.Address{Local: "bert", Domain: "example.org"}, ssha, store.Quota{}); err != nil {
		t.Fatal(err)
	}
	trials := promise.Times(t, "R35", 2000, 10_000)
	logins := []string{"alice@example.org", "nobody@example.org", "bert@example.org", "alice@elsewhere.example", "alice", "aliçe@example.org"}
	took := make([][]time.Duration, len(logins))
	from := netip.MustParseAddr("192.0.2.7")
	for range trials {
		for i, login := range logins { // in turn, so that whatever the machine does meanwhile meets all
			began := time.Now()
			_, err := h.Directory.Authenticate(t.Context(), login, "wrong horse", from)
			took[i] = append(took[i], time.Since(began))
			if !fault.Is(err, fault.Unauthenticated) || fault.Say(err) != "authentication failed" {
				t.Fatalf("%s: %v", login, err)
			}
		}
	}
	known, usual := median(took[0]), usualLogin(t)
	worst := 0.0
	for i, login := range logins[1:] {
		part := float64(median(took[i+1])-known) / float64(usual)
		if worst = max(worst, math.Abs(part)); math.Abs(part) > 0.01 {
			t.Errorf("%s takes %v, a login that exists %v: %.2f %% of what a login takes with the usual hash", login, median(took[i+1]), known, 100*part)
		}
	}
	promise.Kept(t, "R35", "logins of each kind", trials, "difference of medians, known and unknown login, in % of a login", fmt.Sprintf("%.3f", 100*worst))
}

// usualLogin is the median time of a failed login with the hash that accounts have.
func usualLogin(t *testing.T) time.Duration {
	h := house.New(t, house.Options{Directory: func(o *directory.Options) { unknown(o); o.Argon = directory.Argon{} }})
	h.Account(t, "alice")
	var took []time.Duration
	for range 15 {
		began := time.Now()
		if _, err := h.Directory.Authenticate(t.Context(), "alice@example.org", "wrong horse", netip.Addr{}); !fault.Is(err, fault.Unauthenticated) {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	return median(took)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// wireLogins are ways to log in, with the answers' first words left out.
var wireLogins = map[string]func(login, secret string) (protocol string, lines []string){
	"IMAP LOGIN": func(login, secret string) (string, []string) {
		return "imap", []string{fmt.Sprintf("a LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\n", len(login), login, len(secret), secret)}
	},
	"IMAP AUTHENTICATE": func(login, secret string) (string, []string) {
		return "imap", []string{"a AUTHENTICATE PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+login+"\x00"+secret)) + "\r\n"}
	},
	"POP3 AUTH": func(login, secret string) (string, []string) {
		return "pop3", []string{"AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+login+"\x00"+secret)) + "\r\n"}
	},
	"SMTP AUTH": func(login, secret string) (string, []string) {
		return "submission", []string{"EHLO client.example.net\r\n", "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+login+"\x00"+secret)) + "\r\n"}
	},
}

// answer logs in and returns the last line of the answer.
func answer(t *testing.T, h *house.House, way, login, secret string) string {
	t.Helper()
	protocol, lines := wireLogins[way](login, secret)
	c := h.Dial(t, protocol)
	last := c.Reply()
	for _, line := range lines {
		c.Send(line)
		for last = c.Reply(); strings.HasPrefix(last, "* "); {
			last = c.Reply()
		}
	}
	return last
}

// oddLogins are names that other servers have taken for more than bytes: a query's
// quotes and wildcards, a template's variables, a path, line ends, and too much.
var oddLogins = []string{
	"' OR '1'='1", `" OR ""="`, "*", "*)(uid=*", "alice@example.org' --", "alice@example.org\r\nalice@example.org", "%u", "%{run:id}",
	"${run{/bin/id}}", "$(id)@example.org", "`id`@example.org", ";id;@example.org", "../../alice", "alice@example.org/../bob", "alice\x00@example.org",
	"alice@example.org\x00", "\xff\xfe@example.org", "\u202ealice@example.org", strings.Repeat("a", 10_000) + "@example.org", "a@" + strings.Repeat("b.", 5000) + "org", "",
}

// Whatever a login consists of, it is bytes, and the answer that of a wrong password or
// of wrong syntax.
func oddNames(t *testing.T, ways ...string) {
	h := house.New(t, house.Options{Directory: unknown})
	h.Account(t, "alice")
	for _, way := range ways {
		wrong := answer(t, h, way, "alice@example.org", "wrong horse")
		nobody := answer(t, h, way, "nobody@example.org", "wrong horse")
		if wrong != nobody {
			t.Errorf("%s: %q for a wrong password, %q for a name that is not there", way, wrong, nobody)
		}
		for _, login := range oddLogins {
			got := answer(t, h, way, login, house.Password)
			refused := strings.HasPrefix(got, "a NO") || strings.HasPrefix(got, "a BAD") || strings.HasPrefix(got, "-ERR") || strings.HasPrefix(got, "5")
			if !refused || strings.Contains(got, "SYS") {
				t.Errorf("%s as %.40q: %s", way, login, got)
			}
		}
		if got := answer(t, h, way, "alice@example.org", house.Password); !strings.Contains(got, "OK") && !strings.HasPrefix(got, "235") {
			t.Errorf("%s afterwards: %s", way, got)
		}
	}
	if n := h.Sessions.Stats().Panics; n > 0 {
		t.Errorf("%d sessions panicked", n)
	}
}

func TestAttack24QueriesInNames(t *testing.T) { oddNames(t, "SMTP AUTH") }

func TestAttack51NamesAreBytes(t *testing.T) {
	oddNames(t, "IMAP LOGIN", "IMAP AUTHENTICATE", "POP3 AUTH")
}

// Nothing that a peer says makes a line of the log, or a part of one that is not quoted;
// no secret is in the log, whatever happens to it.
func TestAttack32LogsAreEscaped(t *testing.T) {
	for raw, handler := range map[string]func(io.Writer) slog.Handler{
		"\x1b\x00\u202e": func(w io.Writer) slog.Handler {
			return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
		},
		"\x1b\x00": func(w io.Writer) slog.Handler {
			return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
		},
	} {
		var log house.Log
		h := house.New(t, house.Options{Directory: unknown, Log: slog.New(handler(&log))})
		h.Account(t, "alice")
		for way := range wireLogins {
			answer(t, h, way, "eve\r\nlevel=ERROR msg=forged \x1b[31m\x00\u202e\"quoted", "s3cr3t-"+house.Password)
			answer(t, h, way, "eve\" msg=forged \x1b[31m \u202e@example.org", "s3cr3t-"+house.Password)
			answer(t, h, way, "eve msg=forged", "s3cr3t-"+house.Password)
			answer(t, h, way, "alice@example.org", "s3cr3t-wrong")
			answer(t, h, way, "alice@example.org", house.Password)
		}
		_ = talk(h, "smtp", "alice", script{{"", "220"}, {"EHLO \x1b[31mx\u202e\r\n", "..."}})
		_ = talk(h, "smtp", "alice", mx("EHLO a\x1b]0;x", "{user}"))
		must(t, h, "smtp", "alice")
		text := log.String()
		for _, secret := range []string{"s3cr3t", house.Password, plain("alice"), base64.StdEncoding.EncodeToString([]byte(house.Password))} {
			if strings.Contains(text, secret) {
				t.Errorf("a secret is in the log:\n%s", text)
			}
		}
		if strings.ContainsAny(text, raw) || strings.Contains(text, "\nlevel=ERROR msg=forged") {
			t.Errorf("the log holds what a peer wrote, as it wrote it:\n%q", text)
		}
		if !strings.Contains(text, "forged") {
			t.Error("the log does not name the login, so that this test shows nothing")
		}
	}
}
