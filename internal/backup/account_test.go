package backup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

func (w *world) restore(t testing.TB, dir, name string, at time.Time, opt AccountOptions) Restored {
	t.Helper()
	opt.Problem = func(p Problem) { t.Errorf("restoring: %v", p) }
	done, err := w.RestoreAccount(ctx, dir, at, addr(name), opt)
	w.must(t, err)
	w.verify(t)
	return done
}

// An account that was removed comes back as it was, password and all, and no UID or modseq
// of the time in between is given out again.
func TestAccountThatIsGone(t *testing.T) {
	w := populated(t, "carol", "dave")
	w.mixed(t, "carol", 20, 1)
	before, err := w.Directory.Lookup(ctx, addr("carol"))
	w.must(t, err)
	box := w.mailbox(t, "carol", "INBOX")
	w.must(t, w.account(t, "carol").Grant(ctx, box.ID, w.account(t, "dave").ID(), false, func(mail.Rights) mail.Rights { return mail.RightLookup | mail.RightRead }))
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	want := content(t, w.account(t, "carol"))
	w.mixed(t, "carol", 30, 2) // and lost
	told := w.mailbox(t, "carol", "INBOX")
	w.must(t, w.Directory.RemoveAccount(ctx, addr("carol")))
	if _, err := w.Store.Sweep(ctx); err != nil {
		t.Fatal(err)
	}

	plan := w.restore(t, dir, "carol", time.Time{}, AccountOptions{Plan: true})
	if _, err := w.Directory.Lookup(ctx, addr("carol")); !fault.Is(err, fault.NotFound) {
		t.Errorf("a plan makes an account: %v", err)
	}
	done := w.restore(t, dir, "carol", time.Time{}, AccountOptions{})
	if done.Messages != 20 || plan.Messages != 20 || done.Failed != 0 {
		t.Errorf("planned %+v, did %+v", plan, done)
	}
	sameContent(t, "carol", apart(content(t, w.account(t, "carol"))), apart(want))
	after, err := w.Directory.Lookup(ctx, addr("carol"))
	w.must(t, err)
	if after != before {
		t.Errorf("%+v, was %+v", after, before)
	}
	if _, err := w.Directory.Authenticate(ctx, "carol@example.org", "secret of carol", netip.Addr{}); err != nil {
		t.Errorf("login: %v", err)
	}
	now := w.mailbox(t, "carol", "INBOX")
	if now.UIDValidity != told.UIDValidity || now.UIDNext <= told.UIDNext || now.HighestModSeq <= told.HighestModSeq || now.LogFloor <= told.HighestModSeq {
		t.Errorf("told %+v, now %+v", told, now)
	}
	sharers, err := w.account(t, "dave").Sharers(ctx)
	w.must(t, err)
	if len(sharers) != 1 {
		t.Errorf("dave does not find what carol shares: %v", sharers)
	}
	w.append(t, "carol", "INBOX", "Subject: after\r\n\r\nx", 0)
	w.verify(t)
}

func (w *world) mailbox(t testing.TB, name, box string) (m store.Mailbox) {
	t.Helper()
	w.must(t, w.account(t, name).View(ctx, func(s *store.Snapshot) (err error) {
		m, err = s.Mailbox(box)
		return err
	}))
	return m
}

// On another server the account is a new one with the same mail and password.
func TestAccountOfAnotherServer(t *testing.T) {
	w := populated(t, "carol")
	w.mixed(t, "carol", 20, 1)
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	other := populated(t, "dave", "erin")
	done := other.restore(t, dir, "carol", time.Time{}, AccountOptions{})
	if done.Messages != 20 {
		t.Errorf("%+v", done)
	}
	sameTexts(t, texts(content(t, other.account(t, "carol"))), texts(content(t, w.account(t, "carol"))))
	if _, err := other.Directory.Authenticate(ctx, "carol@example.org", "secret of carol", netip.Addr{}); err != nil {
		t.Errorf("login: %v", err)
	}
}

func sameTexts(t testing.TB, got, want map[string]int) {
	t.Helper()
	for text, n := range want {
		if got[text] != n {
			t.Errorf("a message is there %d times, want %d: %.60q", got[text], n, text)
		}
	}
	for text := range got {
		if want[text] == 0 {
			t.Errorf("a message from nowhere: %.60q", text)
		}
	}
}

// What was deleted comes back, what is there stays as it is, and a second restore finds
// nothing to do.
func TestWhatIsMissingComesBack(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  AccountOptions
		to   func(s Saved) string // where the missing ones of INBOX come
	}{
		{"merge", AccountOptions{Merge: true}, func(Saved) string { return "INBOX" }},
		{"tree", AccountOptions{}, func(s Saved) string { return TreeOf(s.Time) + "/INBOX" }},
		{"mailbox", AccountOptions{Mailbox: "INBOX"}, func(Saved) string { return "INBOX" }},
		{"mailbox to another", AccountOptions{Mailbox: "inbox", To: "Lost/found"}, func(Saved) string { return "Lost/found" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := populated(t, "carol")
			w.mixed(t, "carol", 40, 1) // 20 in INBOX
			w.append(t, "carol", "INBOX", "Subject: twice\r\n\r\nsame", 0)
			w.append(t, "carol", "INBOX", "Subject: twice\r\n\r\nsame", 0)
			dir := t.TempDir()
			s := w.save(t, dir, SaveOptions{})
			want := texts(content(t, w.account(t, "carol")))
			w.expunge(t, "carol", "INBOX", 1, 2, 3, 4, 5, 21) // one of the two
			w.move(t, "carol", "INBOX", "Trash", 6, 7)
			w.move(t, "carol", "INBOX", "Archive", 8)
			w.append(t, "carol", "INBOX", "Subject: new\r\n\r\nnew", 0)
			left := content(t, w.account(t, "carol"))

			plan := c.opt
			plan.Plan = true
			if p := w.restore(t, dir, "carol", time.Time{}, plan); p.Messages != 8 {
				t.Errorf("planned %+v", p)
			}
			sameContent(t, "after the plan", content(t, w.account(t, "carol")), left)

			done := w.restore(t, dir, "carol", time.Time{}, c.opt)
			if done.Messages != 8 || done.Failed != 0 {
				t.Errorf("%+v", done)
			}
			got := content(t, w.account(t, "carol"))
			for box, list := range left { // nothing that was there has changed
				for i := range list {
					if got[box][i] != list[i] {
						t.Fatalf("%s: message %d is not as it was", box, i)
					}
				}
			}
			had := 0
			if c.to(s) == "INBOX" {
				had = len(left["INBOX"]) - 1
			}
			if n := len(got[c.to(s)]) - 1 - had; n != 8 {
				t.Errorf("%d came into %s", n, c.to(s))
			}
			want["Subject: new\r\n\r\nnew"]++
			for text, n := range texts(map[string][]is{"Trash": left["Trash"]}) {
				want[text] += n
			}
			sameTexts(t, texts(got), want)

			if again := w.restore(t, dir, "carol", time.Time{}, c.opt); again.Messages != 0 {
				t.Errorf("a second restore brings back %+v", again)
			}
			sameContent(t, "after the second", content(t, w.account(t, "carol")), got)
		})
	}
}

func (w *world) move(t testing.TB, name, from, to string, uids ...mail.UID) {
	t.Helper()
	a, b := w.mailbox(t, name, from), w.mailbox(t, name, to)
	_, err := w.account(t, name).Move(ctx, a.ID, mail.SetOf(uids...), b.ID)
	w.must(t, err)
}

// A message that lay in two mailboxes comes back into both, as one.
func TestCopiesComeBack(t *testing.T) {
	w := populated(t, "carol")
	w.append(t, "carol", "INBOX", letter(rand.New(rand.NewPCG(1, 1)), "x", 9000), mail.Deleted)
	a := w.account(t, "carol")
	in, out := w.mailbox(t, "carol", "INBOX"), w.mailbox(t, "carol", "Sent")
	_, err := a.Copy(ctx, in.ID, store.All(), out.ID)
	w.must(t, err)
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	w.expunge(t, "carol", "INBOX", 1)
	w.expunge(t, "carol", "Sent", 1)
	if done := w.restore(t, dir, "carol", time.Time{}, AccountOptions{Merge: true}); done.Messages != 2 {
		t.Errorf("%+v", done)
	}
	ids := map[mail.MessageID]int{}
	for _, box := range []store.Mailbox{in, out} {
		pic, err := a.Picture(ctx, box.ID)
		w.must(t, err)
		for _, m := range pic.Messages(store.All()) {
			ids[m.ID]++
			if m.Flags.Has(mail.Deleted) {
				t.Error("it comes back marked as deleted")
			}
		}
	}
	if len(ids) != 1 {
		t.Errorf("%v", ids)
	}
}

// A restore that is cut short goes on where it stopped.
func TestRestoreCutShort(t *testing.T) {
	w := populated(t, "carol")
	w.mixed(t, "carol", 600, 1)
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	want := texts(content(t, w.account(t, "carol")))
	for _, box := range []string{"INBOX", "Archive", "Sent"} {
		m := w.mailbox(t, "carol", box)
		_, err := w.account(t, "carol").Expunge(ctx, m.ID, store.All(), false)
		w.must(t, err)
	}
	for cut := int64(50); ; cut += 150 {
		done, err := w.restoreUntil(dir, cut)
		w.verify(t)
		if err == nil {
			t.Logf("finished with %+v", done)
			break
		}
		if !fault.Is(err, fault.Closed) {
			t.Fatal(err)
		}
	}
	sameTexts(t, texts(content(t, w.account(t, "carol"))), want)
}

func (w *world) restoreUntil(dir string, messages int64) (Restored, error) {
	c, cancel := context.WithCancel(ctx)
	defer cancel()
	opt := AccountOptions{Merge: true}
	opt.Progress = func(p Progress) {
		if p.Done >= messages {
			cancel()
		}
	}
	return w.RestoreAccount(c, dir, time.Time{}, addr("carol"), opt)
}

// What cannot be done is said in words.
func TestRestoreRefusals(t *testing.T) {
	w := populated(t, "carol")
	dir := t.TempDir()
	s := w.save(t, dir, SaveOptions{})
	for _, c := range []struct {
		who  string
		at   time.Time
		opt  AccountOptions
		says string
	}{
		{"nobody", time.Time{}, AccountOptions{}, "has no account nobody@example.org"},
		{"carol", time.Time{}, AccountOptions{Mailbox: "Nothing"}, `had no mailbox "Nothing"`},
		{"carol", s.Time.Add(-time.Hour), AccountOptions{}, "the oldest snapshot"},
	} {
		_, err := w.RestoreAccount(ctx, dir, c.at, addr(c.who), c.opt)
		if !fault.Is(err, fault.NotFound) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	w.must(t, w.Directory.RemoveAccount(ctx, addr("carol")))
	if _, err := w.RestoreAccount(ctx, dir, time.Time{}, addr("carol"), AccountOptions{Mailbox: "INBOX"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
}
