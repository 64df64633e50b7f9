package store

import (
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

func (w *world) names(t testing.TB) string {
	t.Helper()
	var names []string
	err := w.a.View(ctx, func(s *Snapshot) error {
		boxes, err := s.Mailboxes()
		for _, m := range boxes {
			names = append(names, m.Name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func TestCleanName(t *testing.T) {
	for in, want := range map[string]string{
		"inbox": "INBOX", "iNbOx/a": "INBOX/a", "a/b/": "a/b", "inboxes": "inboxes", "a/inbox": "a/inbox",
		"e\u0301": "é", "Büro & Co": "Büro & Co", "日本": "日本",
	} {
		if got, err := CleanName(in); err != nil || got != want {
			t.Errorf("%q: %q %v", in, got, err)
		}
	}
	for _, bad := range []string{
		"", "/", "//", "/a", "a//b", "a/../b", "..", ".", "a/.", "a\x00", "a\r\nb", "a\xff", "a*", "%", "\u2028",
		strings.Repeat("x", MaxMailboxName+1), strings.Repeat("a/", 5000) + "a",
	} {
		if got, err := CleanName(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.20q: %q %v", bad, got, err)
		}
	}
}

func TestDefaultMailboxesAndCreateTwice(t *testing.T) {
	w := newWorld(t)
	if got := w.names(t); got != "INBOX Archive Drafts Junk Sent Trash" {
		t.Error(got)
	}
	uid := w.deliver(t, "INBOX", hello)
	if err := w.CreateAccount(ctx, 1, Quota{}); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.picture(t, w.box(t, "INBOX").ID).Message(uid); !ok {
		t.Error("creating an account again lost its mail")
	}
	if m := w.box(t, "Sent"); m.Role != mail.RoleSent {
		t.Error(m.Role)
	}
}

func TestRenameTakesChildrenAndSubscriptions(t *testing.T) {
	w := newWorld(t)
	w.update(t, func(tx *Tx) error {
		for _, n := range []string{"a/b/c", "ab"} {
			if _, err := tx.CreateMailbox(n, ""); err != nil {
				return err
			}
			if err := tx.Subscribe(n, true); err != nil {
				return err
			}
		}
		return nil
	})
	before := w.box(t, "a/b/c")
	w.update(t, func(tx *Tx) error { return tx.RenameMailbox("a", "x/y") })
	if got := w.names(t); got != "INBOX Archive Drafts Junk Sent Trash ab x x/y x/y/b x/y/b/c" {
		t.Error(got)
	}
	after := w.box(t, "x/y/b/c")
	if after.ID != before.ID || after.UIDValidity != before.UIDValidity {
		t.Errorf("%+v %+v", before, after)
	}
	w.a.View(ctx, func(s *Snapshot) error {
		subs, _ := s.Subscriptions()
		if !slices.Contains(subs, "x/y/b/c") || slices.Contains(subs, "a/b/c") || !slices.Contains(subs, "ab") {
			t.Error(subs)
		}
		return nil
	})
	for _, c := range []struct {
		from, to string
		want     fault.Kind
	}{
		{"nope", "z", fault.NotFound}, {"ab", "Sent", fault.Exists}, {"x", "x/z", fault.Invalid}, {"INBOX", "z", fault.Invalid},
		{"ab", "ab", fault.Exists}, {"x", strings.Repeat("n", MaxMailboxName-3), fault.Invalid},
	} {
		err := w.a.Update(ctx, func(tx *Tx) error { return tx.RenameMailbox(c.from, c.to) })
		if !fault.Is(err, c.want) {
			t.Errorf("%s to %.20s: %v, want %v", c.from, c.to, err, c.want)
		}
	}
	w.verify(t)
}

func TestRenameInboxMovesItsMail(t *testing.T) {
	w := newWorld(t)
	w.deliver(t, "INBOX", hello)
	w.update(t, func(tx *Tx) error { _, err := tx.CreateMailbox("INBOX/sub", ""); return err })
	if err := w.a.RenameInbox(ctx, "old"); err != nil {
		t.Fatal(err)
	}
	if w.box(t, "INBOX").Messages != 0 || w.box(t, "old").Messages != 1 || w.box(t, "INBOX/sub").Messages != 0 {
		t.Error("mail is in the wrong place")
	}
	w.verify(t)
}

func TestDeleteMailboxKeepsChildrenAndFreesQuota(t *testing.T) {
	w := newWorld(t)
	w.update(t, func(tx *Tx) error { _, err := tx.CreateMailbox("a/b", ""); return err })
	first := w.box(t, "a")
	w.deliver(t, "a", hello)
	w.deliver(t, "a/b", hello)
	w.update(t, func(tx *Tx) error { return tx.DeleteMailbox("a") })
	if got := w.names(t); got != "INBOX Archive Drafts Junk Sent Trash a/b" {
		t.Error(got)
	}
	if _, err := w.a.Picture(ctx, first.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("picture of a deleted mailbox: %v", err)
	}
	w.a.View(ctx, func(s *Snapshot) error {
		if _, u := s.Quota(); u.Messages != 1 || u.Bytes != int64(len(hello)) {
			t.Errorf("%+v", u)
		}
		return nil
	})
	w.verify(t)
	if err := w.a.Reap(ctx); err != nil {
		t.Fatal(err)
	}
	w.verify(t)
	w.update(t, func(tx *Tx) error { _, err := tx.CreateMailbox("a", ""); return err })
	if again := w.box(t, "a"); again.UIDValidity <= first.UIDValidity || again.ID == first.ID {
		t.Errorf("%+v after %+v", again, first)
	}
	if err := w.a.Update(ctx, func(tx *Tx) error { return tx.DeleteMailbox("inbox") }); !fault.Is(err, fault.Unsupported) {
		t.Error(err)
	}
}

// A large mailbox is released in portions, between which the account is free, and nothing
// of it stays.
func TestReapInPortions(t *testing.T) {
	w := newWorld(t)
	w.update(t, func(tx *Tx) error { _, err := tx.CreateMailbox("large", ""); return err })
	box := w.box(t, "large").ID
	p := w.receive(t, hello)
	w.update(t, func(tx *Tx) error {
		for range 2*reapMessages + 10 {
			if _, err := tx.Append(box, NewMessage{Parcel: p}); err != nil {
				return err
			}
		}
		return nil
	})
	w.deliver(t, "INBOX", hello)
	w.update(t, func(tx *Tx) error { return tx.DeleteMailbox("large") })
	var commits mail.ModSeq
	count := func() (left int) {
		err := w.a.View(ctx, func(s *Snapshot) error {
			commits = s.ModSeq() - commits
			return s.r.Scan([]byte{famFacts}, []byte{famFacts + 1}, false, func(_, _ []byte) bool {
				left++
				return true
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	if n := count(); n != 2*reapMessages+11 {
		t.Fatalf("%d messages", n)
	}
	if err := w.a.Reap(ctx); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 1 || commits < 3 {
		t.Errorf("%d messages are left after %d commits", n, commits)
	}
	w.verify(t)
}

func TestKeywordLimits(t *testing.T) {
	w := newWorld(t)
	uid := w.deliver(t, "INBOX", hello)
	inbox := w.box(t, "INBOX").ID
	set := func(names ...string) error {
		_, err := w.a.SetFlags(ctx, inbox, mail.SetOf(uid), FlagChange{Keywords: names})
		return err
	}
	for _, bad := range []string{"", "a b", "a(", "\\Foo", "é", "a\r\n", strings.Repeat("k", MaxKeyword+1)} {
		if err := set(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if err := set("$Forwarded", "$forwarded", "Work"); err != nil {
		t.Fatal(err)
	}
	p := w.picture(t, inbox)
	m, _ := p.Message(uid)
	if got := string(p.AppendFlags([]byte("("), m)); got != "($Forwarded Work" {
		t.Error(got)
	}
	if !p.HasKeyword("WORK")(m) || p.HasKeyword("other")(m) {
		t.Error("HasKeyword")
	}
	var many []string
	for i := range MaxKeywords {
		many = append(many, "k"+strings.Repeat("x", i%50)+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676)))
	}
	if err := set(many...); !fault.Is(err, fault.Limited) {
		t.Errorf("too many keywords: %v", err)
	}
}
