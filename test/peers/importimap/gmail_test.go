package importimap

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/test/house"
	"github.com/martlet-mail/martlet/test/provider"
)

// labelled says how a Gmail account of n messages is to be here: the sums of messages by
// mailbox.
func labelled(n int) map[string][]string {
	want := map[string][]string{"Archive": nil, "INBOX": nil, "Sent": nil, "Drafts": nil, "Work": nil, "Work/Projects": nil, "Reisén": nil, "Empty": nil, "Junk": nil, "Trash": nil}
	names := map[string]string{`\Inbox`: "INBOX", `\Sent`: "Sent", `\Draft`: "Drafts", "Reis&AOk-n": "Reisén", "Work": "Work", "Work/Projects": "Work/Projects"}
	put := func(box string, i int) {
		want[box] = append(want[box], fmt.Sprintf("%x", sha256.Sum256([]byte(provider.Message(i))))[:16])
	}
	for i := range n {
		labels := provider.LabelsOf(i)
		if len(labels) == 0 {
			put("Archive", i)
		}
		for _, l := range labels {
			if box := names[l]; box != "" {
				put(box, i)
			}
		}
	}
	for i := range max(n/50, 1) {
		put("Junk", n+i)
		put("Trash", 2*n+i)
	}
	return want
}

// A person's mail comes from a provider that breaks connections, by a program that is killed
// ten times on the way, and is whole: every message once, in the mailboxes of its labels.
func TestGmailKilledTenTimes(t *testing.T) {
	peers(t)
	const n = 2500
	rnd := rand.New(rand.NewPCG(seed(t), 7))
	p := provider.New(t, provider.Options{NoEnabled: true, Broken: func(conn int) int64 {
		if conn%3 != 0 {
			return 0
		}
		return int64(50_000 + conn*100_003%400_000)
	}})
	user := p.Gmail(t, "carol", n)
	m := startMartlet(t)
	killed := 0
	for tries := 0; killed < 10 && tries < 40; tries++ {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(60+rnd.IntN(140))*time.Millisecond)
		if _, err := run(ctx, m, p.Addr, user, house.Password); err != nil && ctx.Err() != nil {
			killed++
		}
		cancel()
	}
	if killed < 10 {
		t.Errorf("killed only %d times: the test tests little", killed)
	}
	out, err := run(t.Context(), m, p.Addr, user, house.Password)
	if err != nil {
		t.Fatalf("%v: %s", err, out[max(0, len(out)-3000):])
	}
	t.Logf("killed %d times; %+v", killed, p.Stats())
	got := census(t, here(t, m))
	for box, want := range labelled(n) {
		var sums []string
		for _, r := range got[box] {
			sums = append(sums, r.sum)
		}
		slices.Sort(want)
		slices.Sort(sums)
		if !slices.Equal(want, sums) {
			t.Errorf("%s has %d messages and should have %d, or others", box, len(sums), len(want))
		}
	}
	flagged := 0
	for _, r := range got["INBOX"] {
		if strings.Contains(r.flags, mail.Flagged.String()) {
			flagged++
		}
		if r.date != "2009-02-03T03:05:06Z" {
			t.Fatalf("a message has the date %s", r.date)
		}
	}
	if flagged == 0 {
		t.Error("no message is flagged")
	}
}

// What a person is told when signing in fails, and that nothing is waited for then.
func TestWhatIsSaid(t *testing.T) {
	peers(t)
	p := provider.New(t, provider.Options{Web: "the web's", Token: func(_, token string) bool { return token == "good" }})
	user := p.Gmail(t, "carol", 10)
	m := startMartlet(t)
	for _, c := range []struct {
		addr, secret string
		args         []string
		code         int
		want         string
	}{
		{p.Addr, "the web's", nil, 1, "wants an app password or another way to sign in: Application-specific password required: https://support.example.com"},
		{p.Addr, "wrong", nil, 1, "refuses the name or the password: Invalid credentials"},
		{p.Addr, "expired", []string{"--token-stdin"}, 1, "refuses the token"},
		{p.Addr, house.Password, []string{"--mechanism", "NTLM"}, 1, "offers no way to sign in"},
		{p.Addr, house.Password, []string{"--mailbox", "nothing"}, 1, "there is no mailbox to bring"},
		{p.Addr, "good", []string{"--token-stdin", "--mailbox", "Empty"}, 0, ""},
		{p.Addr, house.Password, []string{"--labels", "colours"}, 2, "--labels is mailboxes or keywords"},
		{"127.0.0.1:1", house.Password, nil, 1, "nobody listens on that port"},
	} {
		out, err := run(t.Context(), m, c.addr, user, c.secret, c.args...)
		code := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%v: exit code %d, not %d, or it does not say %q: %s", c.args, code, c.code, c.want, out)
		}
	}
}
