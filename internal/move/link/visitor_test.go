package link

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/store"
)

// A message that does not fit in memory goes through a file, and comes whole; one that is too
// large is told of.
func TestLongMessages(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX", "Trash")
	long := letter(1) + strings.Repeat("0123456789abcdef\r\n", 100_000)
	s.add("INBOX", long, 0)
	s.add("INBOX", letter(2)+strings.Repeat("x", 5<<20), 0)
	s.add("INBOX", letter(3), 0)
	files := 0
	for _, spool := range []func() (store.SpoolFile, error){func() (store.SpoolFile, error) { files++; return h.spool.File() }, nil} {
		source := s.open()
		r := round{rule: everything(), source: source, target: move.NewLocal(h.store, 1), mirror: source, now: steady, spool: spool}
		if err := r.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.report.Refused != 1 || !strings.Contains(r.report.Why, "larger than") {
			t.Errorf("%+v", r.report)
		}
	}
	if files != 2 {
		t.Errorf("%d files", files)
	}
	got, _ := h.content(t)
	if len(got["INBOX"]) != 2 || !slices.ContainsFunc(got["INBOX"], func(l string) bool { return strings.HasPrefix(l, "text 1\r\n0123") && len(l) > 1_800_000 }) {
		t.Errorf("%d messages", len(got["INBOX"]))
	}
	h.verify(t)
}

// What there was no room for comes when there is.
func TestOverQuota(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX", "Trash")
	quota := func(n int64) {
		if err := h.account().Update(t.Context(), func(tx *store.Tx) error { tx.SetQuota(store.Quota{Messages: n}); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	quota(3)
	for i := range 8 {
		s.add("INBOX", letter(i), 0)
	}
	if r, err := oneRound(t, h, s, everything(), nil); err != nil || r.Brought != 3 || r.Refused != 5 || r.Why == "" {
		t.Errorf("%+v %v", r, err)
	}
	// For an hour they are not read again.
	now, reads := steady(), s.calls
	lately := map[string]declined{}
	again := func() Report {
		source := s.open()
		r := round{rule: everything(), source: source, target: move.NewLocal(h.store, 1), mirror: source, now: func() time.Time { return now }, declined: lately}
		reads = s.calls
		if err := r.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		reads = s.calls - reads
		return r.report
	}
	again()
	if r := again(); r.Refused != 5 || r.Why == "" || reads > 5 {
		t.Errorf("%+v, %d calls", r, reads)
	}
	quota(100)
	if r := again(); r.Brought != 0 {
		t.Errorf("%+v", r)
	}
	now = now.Add(2 * time.Hour)
	if r := again(); r.Brought != 5 || r.Refused != 0 {
		t.Errorf("%+v", r)
	}
	got, _ := h.content(t)
	same(t, "with room", got, s.content())
}

func TestSinceAndInto(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX", "Work", "Trash")
	rule := everything()
	rule.Since, rule.Into = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), "From elsewhere/All"
	s.add("INBOX", letter(1), mail.Seen)
	s.add("Work", letter(2), 0)
	s.box("INBOX").list[0].date = time.Date(2026, 9, 30, 0, 0, 0, 0, time.UTC)
	s.add("INBOX", "Date: Tue, 3 Feb 2009 04:05:06 +0100\r\n\r\ntext 3\r\n", 0)
	s.box("INBOX").list[1].date = time.Time{} // as POP3 has it
	if r := accord(t, h, s, rule); r.Brought != 1 {
		t.Errorf("%+v", r)
	}
	got, _ := h.content(t)
	if len(got["From elsewhere/All"]) != 1 || len(got) != 1 {
		t.Errorf("%q", got)
	}
	s.transfer(s.box("Work"), 0, s.box("INBOX")) // moves within what goes into one are none here
	if r := accord(t, h, s, rule); r.Brought+r.Moved+r.Carried != 0 {
		t.Errorf("%+v", r)
	}
}

// popped is a source without flags whose messages can be removed.
type popped struct {
	*session
	removed []string
}

func (p *popped) Remove(_ context.Context, _ string, keys []string) (int, error) {
	p.removed = append(p.removed, keys...)
	b := p.box("INBOX")
	for _, k := range keys {
		if i := b.find(k); i >= 0 {
			p.remove(b, i)
		}
	}
	return len(keys), nil
}

// Read tells of all: POP3 knows no changes.
func (p *popped) Read(ctx context.Context, m move.Mailbox, how move.Reading, v move.Visitor) error {
	how.Since = nil
	return p.session.Read(ctx, m, how, v)
}

// Of POP3 only what is durable here is removed there, and only if it is asked for.
func TestRemovedWhenDurable(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX")
	rule := everything()
	rule.Server.Protocol, rule.BothWays, rule.FollowDeletes, rule.DeleteAtSource = "pop3", false, false, false
	for i := range 5 {
		s.add("INBOX", letter(i), 0)
	}
	source := &popped{session: s.open()}
	run := func(target move.Target) error {
		r := round{rule: rule, source: source, target: target, now: steady}
		return r.run(t.Context())
	}
	local := move.NewLocal(h.store, 1)
	if err := run(local); err != nil || len(source.removed) > 0 {
		t.Errorf("%v %q", err, source.removed)
	}
	rule.DeleteAtSource = true
	s.add("INBOX", letter(9), 0)
	calls := 0
	if err := run(cutTarget{local, &calls, 1}); err != errBroken || len(source.removed) > 0 {
		t.Errorf("what is not here was removed there: %q %v", source.removed, err)
	}
	if err := run(local); err != nil || len(source.removed) != 6 {
		t.Errorf("%v %q", err, source.removed)
	}
	got, _ := h.content(t)
	if len(got["INBOX"]) != 6 || len(s.content()["INBOX"]) != 0 {
		t.Errorf("%q", got)
	}
}

// A change that is carried is carried alike, many at once, and keywords are taken for carried
// when they are read back: a server that takes none does not take them away here.
func TestKeywordsAreReadBack(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX", "Trash")
	s.add("INBOX", letter(1), 0)
	accord(t, h, s, everything())
	if _, err := h.account().SetFlags(t.Context(), h.box(t, "INBOX"), store.All(), store.FlagChange{Op: store.AddFlags, Flags: mail.Seen, Keywords: []string{"later"}}); err != nil {
		t.Fatal(err)
	}
	deaf := deafSession{s.open()}
	for range 3 {
		r := round{rule: everything(), source: deaf, target: move.NewLocal(h.store, 1), mirror: deaf, now: steady}
		if err := r.run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := h.content(t)
	if fmt.Sprint(got["INBOX"]) != `[text 1 \Seen [later]]` {
		t.Errorf("%q", got)
	}
}

// deafSession takes no keywords.
type deafSession struct{ *session }

func (d deafSession) SetFlags(ctx context.Context, m move.Mailbox, list []FlagChange) error {
	list = slices.Clone(list)
	for i := range list {
		list[i].AddWords, list[i].RemoveWords = nil, nil
	}
	return d.session.SetFlags(ctx, m, list)
}
