package outward

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/imapsource"
)

// faulty is another server in memory, whose connections break when they are told to.
type faulty struct {
	origin
	next   mail.UID
	late   []func() // what becomes mail only when it is looked next, or later
	chance *rand.Rand
	breaks int // one in so many appends; 0: never
	dies   int // appends until the exporting process is killed; 0: never
	kill   context.CancelFunc
	refuse string // messages with this are refused
	twins  int
}

func lost() error {
	return fault.Wrap(fault.Unavailable, "the connection broke", &imapc.Error{Problem: imapc.Lost})
}

func (f *faulty) Read(ctx context.Context, m move.Mailbox, how move.Reading, v move.Visitor) error {
	for _, arrive := range f.late {
		arrive()
	}
	f.late = nil
	var items []move.Item
	for _, l := range f.mail[m.Source] {
		items = append(items, move.Item{Key: fmt.Sprint("1.", l.uid), UID: l.uid, Size: int64(len(l.body)), Flags: l.flags, Keywords: l.keywords, Date: l.date, MessageID: idOf(l.body)})
	}
	want, err := v.Want(ctx, items)
	if err != nil {
		return err
	}
	for i, it := range items {
		if want[i] {
			if err := v.Put(ctx, it, strings.NewReader(f.mail[m.Source][i].body)); err != nil {
				return err
			}
		}
	}
	return nil
}

func idOf(body string) string {
	_, rest, ok := strings.Cut(body, "Message-ID: <")
	id, _, _ := strings.Cut(rest, ">")
	if !ok {
		return ""
	}
	return id
}

func (f *faulty) CreateMailbox(_ context.Context, name string, role mail.Role, _ bool) (string, error) {
	if strings.HasPrefix(name, "~") {
		return "", fault.Wrap(fault.Unsupported, "no", &imapc.Error{Problem: imapc.No})
	}
	f.add(name, role)
	return name, nil
}

func (f *faulty) Subscribe(context.Context, string, bool) error { return nil }

func (f *faulty) SetFlags(_ context.Context, source string, keys []string, _ imapc.Storing, flags mail.Flags, words []string) error {
	for i := range f.mail[source] {
		if l := &f.mail[source][i]; slices.Contains(keys, fmt.Sprint("1.", l.uid)) {
			l.flags |= flags
			l.keywords = append(slices.Clone(l.keywords), words...)
		}
	}
	return nil
}

func (f *faulty) Delete(_ context.Context, source string, keys []string, _ bool) error {
	f.twins += len(keys)
	f.mail[source] = slices.DeleteFunc(f.mail[source], func(l letter) bool { return slices.Contains(keys, fmt.Sprint("1.", l.uid)) })
	return nil
}

// Append takes all of a command or nothing of it, as MULTIAPPEND does.
func (f *faulty) Append(ctx context.Context, source string, list []imapc.Appending, _ []string) ([]imapsource.Appended, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var all []letter
	out := make([]imapsource.Appended, len(list))
	for i, a := range list {
		b, err := io.ReadAll(a.Body)
		if err != nil {
			return nil, err
		}
		if int64(len(b)) != a.Size {
			return nil, fmt.Errorf("%d bytes of %d", len(b), a.Size)
		}
		if f.refuse != "" && strings.Contains(string(b), f.refuse) {
			for j := range out {
				out[j].Err = fault.Wrap(fault.TooLarge, "too large", &imapc.Error{Problem: imapc.No})
			}
			return out, nil
		}
		f.next++
		out[i].Key = fmt.Sprint("1.", f.next)
		all = append(all, letter{f.next, a.Flags, a.Keywords, a.Date, string(b)})
	}
	take := func() { f.mail[source] = append(f.mail[source], all...) }
	if f.dies > 0 {
		if f.dies--; f.dies == 0 { // it has been sent, and nobody waits for the answer any more
			f.late = append(f.late, take)
			f.kill()
			return nil, ctx.Err()
		}
	}
	if f.breaks > 0 && f.chance.IntN(f.breaks) == 0 {
		if f.chance.IntN(2) == 0 {
			take()
		}
		return nil, lost()
	}
	take()
	return out, nil
}

func spool() (*os.File, error) {
	f, err := os.CreateTemp("", "martlet-outward-")
	if err == nil {
		os.Remove(f.Name())
	}
	return f, err
}

// correspondence is an account with ids, duplicates, and odd ones.
func correspondence() *origin {
	src := &origin{}
	for _, box := range []string{"INBOX", "Sent", "~odd"} {
		var all []letter
		for i := range 350 {
			body := fmt.Sprintf("Subject: %d\r\nMessage-ID: <%d.%s@x>\r\n\r\nbody %d\r\n", i, i, box, i)
			switch i % 50 {
			case 1: // the same once more
				body = fmt.Sprintf("Subject: %d\r\nMessage-ID: <%d.%s@x>\r\n\r\nbody %d\r\n", i-1, i-1, box, i-1)
			case 2:
				body = fmt.Sprintf("Subject: %d\r\n\r\nno id\r\n", i)
			case 3:
				body = fmt.Sprintf("Subject: %d\nMessage-ID: <%d.%s@x>\n\nbare\n", i, i, box)
			case 4:
				body = fmt.Sprintf("Subject: %d\r\nMessage-ID: <%d.%s@x>\r\n\r\n%s", i, i, box, strings.Repeat("large\r\n", 200<<10))
				if i > 50 {
					body = body[:1000]
				}
			}
			all = append(all, letter{uid: mail.UID(i + 1), flags: mail.Flags(i % 32), date: now().Add(time.Duration(i) * time.Minute), body: body})
		}
		src.add(box, "", all...)
	}
	return src
}

// mustBeThere wants each message once, with its flags.
func mustBeThere(t *testing.T, src *origin, f *faulty) {
	t.Helper()
	for box, all := range src.mail {
		text := func(list []letter) (out []string) {
			for _, l := range list {
				body := strings.ReplaceAll(strings.ReplaceAll(l.body, "\r\n", "\n"), "\n", "\r\n")
				out = append(out, fmt.Sprintf("%.100q %d %v %s", body, len(body), l.flags, l.date.UTC().Format(time.RFC3339)))
			}
			slices.Sort(out)
			return out
		}
		want, got := text(all), text(f.mail[strings.Replace(box, "~", "_", 1)])
		if slices.Equal(want, got) {
			continue
		}
		for i := range max(len(want), len(got)) {
			if i >= len(want) || i >= len(got) || want[i] != got[i] {
				t.Fatalf("%s: %d messages, %d there; from number %d on they differ", box, len(want), len(got), i)
			}
		}
	}
}

func TestServerWhoseConnectionsBreak(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	for range 6 {
		f := &faulty{chance: chance, breaks: 3}
		f.add("INBOX", mail.RoleInbox)
		src := correspondence()
		o := ServerOptions{Source: src, Server: f, Spool: spool, Proof: true, Wait: func(context.Context, time.Duration) error { return nil }}
		// Killed somewhere, what was on its way arrives later; then it runs to its end.
		ctx, cancel := context.WithCancel(t.Context())
		f.dies, f.kill = 1+chance.IntN(8), cancel
		if _, err := RunServer(ctx, o); err == nil && f.dies == 0 {
			t.Fatal("it was killed and says that it was not")
		}
		cancel()
		f.dies, o.Unsettled = 0, true
		for n := 0; ; n++ {
			r, err := RunServer(t.Context(), o)
			if err == nil {
				if !r.Whole() {
					t.Fatalf("%+v", r)
				}
				break
			}
			if imapc.ProblemOf(err) != imapc.Lost || n > 100 {
				t.Fatal(err)
			}
		}
		mustBeThere(t, src, f)
	}
}

// TestWhatArrivesLateIsNotThereTwice has a server take in what a killed run had sent only when
// the next run has looked.
func TestWhatArrivesLateIsNotThereTwice(t *testing.T) {
	f := &faulty{}
	f.add("INBOX", mail.RoleInbox)
	src := &origin{}
	var all []letter
	for i := range 50 {
		all = append(all, letter{uid: mail.UID(i + 1), date: now(), body: fmt.Sprintf("Message-ID: <%d@x>\r\n\r\n%d\r\n", i, i)})
	}
	src.add("INBOX", mail.RoleInbox, all...)
	copyOf := slices.Clone(all)
	for i := range copyOf {
		copyOf[i].uid += 1000
	}
	o := ServerOptions{Source: src, Server: &lateServer{faulty: f, letters: copyOf}, Spool: spool, Wait: func(context.Context, time.Duration) error { return nil }}
	r, err := RunServer(t.Context(), o)
	if err != nil || !r.Whole() {
		t.Fatalf("%+v %v", r, err)
	}
	mustBeThere(t, src, f)
	if f.twins != len(all) {
		t.Errorf("%d were taken back", f.twins)
	}
}

// lateServer has letters arrive once something was appended.
type lateServer struct {
	*faulty
	letters []letter
}

func (l *lateServer) Append(ctx context.Context, source string, list []imapc.Appending, ids []string) ([]imapsource.Appended, error) {
	l.mail[source] = append(l.mail[source], l.letters...)
	l.letters = nil
	return l.faulty.Append(ctx, source, list, ids)
}

func TestServerThatRefusesAMessage(t *testing.T) {
	f := &faulty{refuse: "poison"}
	f.add("Posteingang", mail.RoleInbox)
	src := &origin{}
	src.add("INBOX", mail.RoleInbox, letter{uid: 1, date: now(), body: "Message-ID: <1@x>\r\n\r\ngood\r\n"}, letter{uid: 2, date: now(), body: "Message-ID: <2@x>\r\n\r\npoison\r\n"}, letter{uid: 3, date: now(), body: "Message-ID: <3@x>\r\n\r\ngood\r\n"})
	o := ServerOptions{Source: src, Server: f, Spool: spool, Wait: func(context.Context, time.Duration) error { return nil }}
	r, err := RunServer(t.Context(), o)
	if err != nil || r.Whole() || len(r.Skipped) != 1 || r.Skipped[0].UID != 2 || len(f.mail["Posteingang"]) != 2 {
		t.Fatalf("%+v %v, %d there", r, err, len(f.mail["Posteingang"]))
	}
	// Flags that were set at home since go along; what was set there stays.
	src.mail["INBOX"][0].flags = mail.Flagged
	src.mail["INBOX"][0].keywords = []string{"work"}
	f.mail["Posteingang"][0].flags = mail.Seen
	f.refuse = ""
	if r, err = RunServer(t.Context(), o); err != nil || !r.Whole() || r.Mailboxes[0].Added != 1 || r.Mailboxes[0].Reflagged != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	slices.SortFunc(f.mail["Posteingang"], func(a, b letter) int { return cmp.Compare(a.uid, b.uid) })
	if l := f.mail["Posteingang"][0]; l.flags != mail.Seen|mail.Flagged || !slices.Equal(l.keywords, []string{"work"}) {
		t.Errorf("%+v", l)
	}
}
