package imapsource

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/test/house"
	"github.com/martlet-mail/martlet/test/provider"
	"github.com/martlet-mail/martlet/test/provider/ledger"
)

// waits collects what a source waits for, and takes no time.
type waits struct {
	list   []time.Duration
	states []string
}

func (w *waits) wait(ctx context.Context, d time.Duration) error {
	w.list = append(w.list, d)
	return ctx.Err()
}

func (w *waits) tell(s string) { w.states = append(w.states, s) }

func open(t *testing.T, p *provider.Provider, user string, change func(*Options)) (*Source, *waits) {
	t.Helper()
	host, port, _ := net.SplitHostPort(p.Addr)
	n, _ := strconv.Atoi(port)
	w := &waits{}
	opt := Options{
		IMAP: imapc.Options{Host: host, Port: uint16(n), Security: imapc.OfferedTLS, Dial: (&net.Dialer{}).DialContext, Now: time.Now, Random: rand.Reader, Timeout: 20 * time.Second},
		User: user, Wait: w.wait, Tell: w.tell,
		Credentials: func(context.Context) (imapc.Credentials, error) {
			return imapc.Credentials{User: user, Password: house.Password}, nil
		},
	}
	if change != nil {
		change(&opt)
	}
	s := New(opt)
	t.Cleanup(func() { s.Close() })
	return s, w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func named(t *testing.T, s *Source, name string) move.Mailbox {
	t.Helper()
	all, err := s.Mailboxes(t.Context())
	must(t, err)
	i := slices.IndexFunc(all, func(m move.Mailbox) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("no mailbox %q in %+v", name, all)
	}
	return all[i]
}

// complete reports what a ledger lacks of the n messages of a Gmail account.
func complete(t *testing.T, l *ledger.Ledger, n int) {
	t.Helper()
	if len(l.Have) != n {
		t.Errorf("%d of %d messages", len(l.Have), n)
	}
	for key, sum := range l.Have {
		_, uid, _ := strings.Cut(key, ".")
		i, _ := strconv.Atoi(uid)
		if sum != sha256.Sum256([]byte(provider.Message(i-1))) {
			t.Errorf("message %d has other bytes", i-1)
		}
	}
}

func TestGmailAllMailOnce(t *testing.T) {
	p := provider.New(t, provider.Options{NoEnabled: true})
	user := p.Gmail(t, "carol", 30)
	s, _ := open(t, p, user, nil)
	all, err := s.Mailboxes(t.Context())
	must(t, err)
	var read []string
	for _, m := range all {
		if m.Skip == "" {
			read = append(read, m.Name)
		}
	}
	if got, want := strings.Join(read, ","), "Archive,Empty,[Gmail]/Spam,[Gmail]/Trash"; got != want {
		t.Fatalf("read are %s, not %s", got, want)
	}
	l := ledger.New()
	must(t, s.Read(t.Context(), named(t, s, "Archive"), move.Reading{}, l))
	complete(t, l, 30)
	for i, want := range map[int]string{
		0: "[] []", 1: "[INBOX Work] []", 3: "[Sent] [$Forwarded]", 4: "[INBOX Reisén Work/Projects] [$Important NonJunk]", 5: "[Drafts] []", 6: "[INBOX] []",
	} {
		for key, it := range l.Items {
			if strings.HasSuffix(key, "."+strconv.Itoa(i+1)) {
				slices.Sort(it.Places)
				slices.Sort(it.Keywords)
				if got := fmt.Sprint(it.Places, " ", it.Keywords); got != want {
					t.Errorf("message %d has %s, not %s", i, got, want)
				}
			}
		}
	}
}

func TestGmailLabelsAsKeywords(t *testing.T) {
	p := provider.New(t, provider.Options{})
	user := p.Gmail(t, "carol", 10)
	s, _ := open(t, p, user, func(o *Options) { o.Labels = LabelKeywords })
	l := ledger.New()
	must(t, s.Read(t.Context(), named(t, s, "Archive"), move.Reading{}, l))
	for key, it := range l.Items {
		if strings.HasSuffix(key, ".5") {
			slices.Sort(it.Keywords)
			if got := fmt.Sprint(it.Places, it.Keywords); got != "[INBOX] [$Important NonJunk Reisén Work/Projects]" && got != "[INBOX][$Important NonJunk Reisén Work/Projects]" {
				t.Errorf("got %s", got)
			}
		}
	}
}

// Reading goes on where it was, over connections that break anywhere: within literals, lines
// and logins.
func TestBrokenConnections(t *testing.T) {
	const n = 120
	control := 0
	p := provider.New(t, provider.Options{Broken: func(conn int) int64 {
		if conn%7 == 0 {
			return 0
		}
		return int64(conn*conn*977%60_000) + 1
	}})
	user := p.Gmail(t, "carol", n)
	s, w := open(t, p, user, nil)
	l := ledger.New()
	must(t, s.Read(t.Context(), named(t, s, "Archive"), move.Reading{Order: move.NewestFirst}, l))
	complete(t, l, n)
	if len(l.Skips) > 0 {
		t.Errorf("skipped: %v", l.Skips)
	}
	st := p.Stats()
	if control = st.Cut; control < 5 {
		t.Errorf("only %d connections broke: the test tests little", control)
	}
	t.Logf("%+v, waits %v", st, w.list)
}

// A message that breaks each connection is left out with a reason, and the others come.
func TestMessageThatBreaksConnections(t *testing.T) {
	p := provider.New(t, provider.Options{Command: func(_ int, line string) string {
		if strings.HasPrefix(line, "UID FETCH 17 ") && strings.Contains(line, "BODY.PEEK[]") {
			return "cut"
		}
		return ""
	}, NoBody: func(uid string) bool { return uid == "17" }})
	user := p.Gmail(t, "carol", 30)
	s, _ := open(t, p, user, nil)
	l := ledger.New()
	must(t, s.Read(t.Context(), named(t, s, "Archive"), move.Reading{}, l))
	complete(t, l, 29)
	if len(l.Skips) != 1 || !strings.Contains(l.Skips[0], ".17: ") || !strings.Contains(l.Skips[0], "broke 3 times") {
		t.Errorf("skipped: %v", l.Skips)
	}
}

// A message whose body is refused is left out with the server's reason, and the batch it was
// asked in comes message by message.
func TestMessageThatIsRefused(t *testing.T) {
	p := provider.New(t, provider.Options{NoBody: func(uid string) bool { return uid == "5" || uid == "23" }})
	user := p.Gmail(t, "carol", 30)
	s, _ := open(t, p, user, nil)
	l := ledger.New()
	must(t, s.Read(t.Context(), named(t, s, "Archive"), move.Reading{}, l))
	complete(t, l, 28)
	if len(l.Skips) != 2 || !strings.Contains(l.Skips[0], "could not be FETCHed") {
		t.Errorf("skipped: %v", l.Skips)
	}
}

// A provider that asks to wait is waited for, longer each time, and says so.
func TestThrottling(t *testing.T) {
	const n = 150
	p := provider.New(t, provider.Options{Throttle: 60_000, Refused: 3})
	user := p.Gmail(t, "carol", n)
	s, w := open(t, p, user, nil)
	l := ledger.New()
	must(t, s.Read(t.Context(), named(t, s, "Archive"), move.Reading{}, l))
	complete(t, l, n)
	if p.Stats().Throttled == 0 || len(w.list) < 4 {
		t.Fatalf("throttled %d times, waited %v", p.Stats().Throttled, w.list)
	}
	if w.list[0] != 30*time.Second || w.list[1] != time.Minute || w.list[3] != 4*time.Minute {
		t.Errorf("waits %v", w.list)
	}
	if !strings.Contains(w.states[0], "asks to wait") || w.states[len(w.states)-1] != "" {
		t.Errorf("states %q", w.states)
	}
}

// Patience has an end, and the error is the server's.
func TestThrottledForEver(t *testing.T) {
	p := provider.New(t, provider.Options{Command: func(_ int, line string) string {
		if strings.HasPrefix(line, "UID SEARCH") {
			return "NO [THROTTLED] come back tomorrow"
		}
		return ""
	}})
	user := p.Gmail(t, "carol", 3)
	s, w := open(t, p, user, nil)
	err := s.Read(t.Context(), named(t, s, "Archive"), move.Reading{}, ledger.New())
	if imapc.ProblemOf(err) != imapc.Throttled || !strings.Contains(err.Error(), "come back tomorrow") {
		t.Fatalf("error %v", err)
	}
	if last := w.list[len(w.list)-1]; last != longestPause {
		t.Errorf("the last wait is %v", last)
	}
}

func TestTooManyConnections(t *testing.T) {
	p := provider.New(t, provider.Options{Connections: 1})
	user := p.Gmail(t, "carol", 3)
	s, _ := open(t, p, user, nil)
	_, err := s.Mailboxes(t.Context())
	must(t, err)
	other, w := open(t, p, user, func(o *Options) { o.Patience = time.Minute })
	_, err = other.Mailboxes(t.Context())
	if imapc.ProblemOf(err) != imapc.Throttled || len(w.list) != 1 {
		t.Fatalf("error %v, waits %v", err, w.list)
	}
}

func TestAppPassword(t *testing.T) {
	p := provider.New(t, provider.Options{Web: "the web's", Password: "abcd efgh ijkl mnop", Token: func(user, token string) bool { return token == "good" }})
	user := p.Gmail(t, "carol", 3)
	for _, c := range []struct {
		cred imapc.Credentials
		want imapc.Problem
	}{
		{imapc.Credentials{User: user, Password: "the web's"}, imapc.AppPassword},
		{imapc.Credentials{User: user, Password: "wrong"}, imapc.BadLogin},
		{imapc.Credentials{User: user, Password: "abcd efgh ijkl mnop"}, imapc.None},
		{imapc.Credentials{User: user, Token: "good"}, imapc.None},
		{imapc.Credentials{User: user, Token: "good", Mechanism: "XOAUTH2"}, imapc.None},
		{imapc.Credentials{User: user, Token: "expired"}, imapc.BadLogin},
		{imapc.Credentials{User: user, Token: "expired", Mechanism: "XOAUTH2"}, imapc.BadLogin},
	} {
		s, _ := open(t, p, user, func(o *Options) {
			o.Credentials = func(context.Context) (imapc.Credentials, error) { return c.cred, nil }
		})
		_, err := s.Mailboxes(t.Context())
		if got := imapc.ProblemOf(err); got != c.want || (err != nil) != (c.want != imapc.None) {
			t.Errorf("%+v: %v, want %v", c.cred, err, c.want)
		}
	}
}

// Sizes that are lies change nothing.
func TestLyingSizes(t *testing.T) {
	for _, lie := range []int64{-100_000, 1, 1 << 40} {
		p := provider.New(t, provider.Options{LieSizes: lie})
		user := p.Gmail(t, "carol", 40)
		s, _ := open(t, p, user, nil)
		l := ledger.New()
		must(t, s.Read(t.Context(), named(t, s, "Archive"), move.Reading{}, l))
		complete(t, l, 40)
	}
}

// What changed since is told with QRESYNC, with CONDSTORE and with neither, all the same.
func TestSince(t *testing.T) {
	for _, hide := range []string{"", "QRESYNC", "QRESYNC CONDSTORE ESEARCH"} {
		t.Run("without "+hide, func(t *testing.T) { since(t, hide) })
	}
}

func since(t *testing.T, hide string) {
	p := provider.New(t, provider.Options{Hide: hide + " X-GM-EXT-1 IMAP4REV2"})
	user := p.Gmail(t, "carol", 50)
	s, _ := open(t, p, user, nil)
	m := named(t, s, "[Gmail]/All Mail")
	l := ledger.New()
	must(t, s.Read(t.Context(), m, move.Reading{}, l))
	complete(t, l, 50)
	must(t, s.SetFlags(t.Context(), m.Source, []string{l.Order[2]}, imapc.AddFlags, 1<<2, []string{"later"}))
	must(t, s.Delete(t.Context(), m.Source, l.Order[9:11], false))
	if _, err := s.Append(t.Context(), m.Source, []imapc.Appending{{Size: int64(len(provider.Message(50))), Body: strings.NewReader(provider.Message(50))}}, nil); err != nil {
		t.Fatal(err)
	}
	before := l.Told
	must(t, s.Read(t.Context(), m, move.Reading{Since: l.Since}, l))
	want := 2
	if strings.Contains(hide, "CONDSTORE") {
		want = 49
	}
	if l.Told-before != want || !slices.Equal(l.Missing, l.Order[9:11]) || len(l.Have) != 51 {
		t.Errorf("told of %d, not %d; gone %v, have %d", l.Told-before, want, l.Missing, len(l.Have))
	}
	if it := l.Items[l.Order[2]]; !slices.Contains(it.Keywords, "later") || !it.Flags.Has(1<<2) {
		t.Errorf("flags did not come: %+v", it)
	}
	before = l.Told
	must(t, s.Read(t.Context(), m, move.Reading{Since: l.Since}, l))
	if !strings.Contains(hide, "CONDSTORE") && l.Told != before {
		t.Errorf("told of %d though nothing changed", l.Told-before)
	}
}

// A server whose ESEARCH says only how many there are, and one that lists less than there is,
// are read whole; what was not listed is not taken for gone.
func TestSearchThatLies(t *testing.T) {
	p := provider.New(t, provider.Options{NoEnabled: true, CountOnly: true})
	user := p.Gmail(t, "carol", 30)
	s, _ := open(t, p, user, nil)
	l := ledger.New()
	must(t, s.Read(t.Context(), named(t, s, "Archive"), move.Reading{}, l))
	complete(t, l, 30)

	short := false
	p = provider.New(t, provider.Options{Hide: "ESEARCH IMAP4REV2", Short: func() bool { return short }})
	user = p.Gmail(t, "carol", 30)
	s, _ = open(t, p, user, nil)
	m := named(t, s, "Archive")
	l = ledger.New()
	must(t, s.Read(t.Context(), m, move.Reading{}, l))
	short = true
	p.Add(t, user, 30)
	must(t, s.Read(t.Context(), m, move.Reading{Since: l.Since}, l))
	complete(t, l, 31)
	if len(l.Missing) > 0 {
		t.Errorf("taken for gone: %v", l.Missing)
	}
}

// A message of which not even the facts are given is told as broken, and left out.
func TestFactsThatAreRefused(t *testing.T) {
	p := provider.New(t, provider.Options{Command: func(_ int, line string) string {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "UID" && f[1] == "FETCH" && (f[2] == "9" || strings.HasPrefix(f[2], "1:")) {
			return "NO [SERVERBUG] it is broken"
		}
		return ""
	}})
	user := p.Gmail(t, "carol", 30)
	s, _ := open(t, p, user, nil)
	l := ledger.New()
	must(t, s.Read(t.Context(), named(t, s, "Archive"), move.Reading{}, l))
	complete(t, l, 29)
	if len(l.Skips) != 1 || !strings.Contains(l.Skips[0], "it is broken") {
		t.Errorf("skipped: %v", l.Skips)
	}
	for key, it := range l.Items {
		if strings.HasSuffix(key, ".9") != (it.Broken != "") {
			t.Errorf("%s: broken %q", key, it.Broken)
		}
	}
}

// A server that was never reached is not waited for.
func TestNobodyListens(t *testing.T) {
	p := provider.New(t, provider.Options{})
	s, w := open(t, p, "carol", func(o *Options) { o.IMAP.Port = 1 })
	if _, err := s.Mailboxes(t.Context()); imapc.ProblemOf(err) != imapc.Refused || len(w.list) > 0 {
		t.Errorf("%v after %v", err, w.list)
	}
}
