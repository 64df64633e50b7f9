package backup

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

func (w *world) makeBox(t testing.TB, name, box string) {
	t.Helper()
	w.must(t, w.account(t, name).Update(ctx, func(tx *store.Tx) error { _, err := tx.CreateMailbox(box, ""); return err }))
}

// Names that are too long, or have too many levels, to lie below another are shortened, each
// to a name of its own; what comes after them comes back, too.
func TestLongNamesComeBack(t *testing.T) {
	w := populated(t, "a")
	rng := rand.New(rand.NewPCG(1, 2))
	boxes := []string{
		"AA" + strings.Repeat("x", 788), "AA" + strings.Repeat("x", 787) + "y", "AA" + strings.Repeat("é", 390),
		strings.Repeat("a/", store.MaxMailboxDepth-1) + "b", "Sent",
	}
	uids := map[string]mail.UID{}
	for i, box := range boxes {
		if box != "Sent" {
			w.makeBox(t, "a", box)
		}
		uids[box] = w.append(t, "a", box, letter(rng, fmt.Sprint("in", i), 500), 0)
	}
	want := texts(content(t, w.account(t, "a")))
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	for box, uid := range uids {
		w.expunge(t, "a", box, uid)
	}
	done, err := w.RestoreAccount(ctx, dir, time.Time{}, addr("a"), AccountOptions{RestoreOptions: RestoreOptions{Problem: func(p Problem) { t.Error(p) }}})
	if err != nil || done.Messages != int64(len(boxes)) || done.Failed != 0 || done.Mailboxes != len(boxes) {
		t.Errorf("%+v, %v", done, err)
	}
	for text, n := range texts(content(t, w.account(t, "a"))) {
		if want[text] != n {
			t.Errorf("%d of %.80q", n, text)
		}
	}
	if again := w.restore(t, dir, "a", time.Time{}, AccountOptions{}); again.Messages != 0 {
		t.Errorf("a second time: %+v", again)
	}
	w.verify(t)
}

func (w *world) appendWith(t testing.TB, name, box, text string, keywords ...string) (uid mail.UID) {
	t.Helper()
	p, err := w.Store.Receive(ctx, strings.NewReader(text))
	w.must(t, err)
	w.must(t, w.account(t, name).Update(ctx, func(tx *store.Tx) error {
		m, err := tx.Mailbox(box)
		if err != nil {
			return err
		}
		uid, err = tx.Append(m.ID, store.NewMessage{Parcel: p, Keywords: keywords})
		return err
	}))
	return uid
}

// A mailbox that knows as many keywords as it may gets messages without those that it does
// not know, and it is told.
func TestKeywordsTooMany(t *testing.T) {
	w := populated(t, "a")
	rng := rand.New(rand.NewPCG(1, 2))
	u := w.appendWith(t, "a", "INBOX", letter(rng, "k", 500), "mine", "K7")
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	w.expunge(t, "a", "INBOX", u)
	for i := 0; i < store.MaxKeywords; i += 64 {
		var some []string
		for k := range 64 {
			some = append(some, fmt.Sprint("k", i+k))
		}
		w.appendWith(t, "a", "Archive", letter(rng, fmt.Sprint(i), 300), some...)
	}
	var problems told
	done, err := w.RestoreAccount(ctx, dir, time.Time{}, addr("a"), AccountOptions{Mailbox: "INBOX", To: "Archive", RestoreOptions: RestoreOptions{Problem: problems.add}})
	if err != nil || done.Messages != 1 || done.Failed != 0 || len(problems) != 1 || !strings.Contains(problems[0], "left out (1)") {
		t.Fatalf("%+v, %q, %v", done, problems, err)
	}
	list := content(t, w.account(t, "a"))["Archive"]
	if got := list[len(list)-1].keywords; got != "k7" {
		t.Errorf("keywords %q", got)
	}
}

// A message that lay in two mailboxes comes back into the second even if somebody has thrown
// away the first copy meanwhile.
func TestCopyThatVanished(t *testing.T) {
	w := populated(t, "a")
	rng := rand.New(rand.NewPCG(1, 2))
	a := w.account(t, "a")
	u := w.append(t, "a", "INBOX", letter(rng, "one", 900), 0)
	_, err := a.Copy(ctx, w.boxOf(t, "a", "INBOX"), mail.SetOf(u), w.boxOf(t, "a", "Archive"))
	w.must(t, err)
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	w.expunge(t, "a", "INBOX", 1)
	w.expunge(t, "a", "Archive", 1)
	thrown := 0
	done := w.restore(t, dir, "a", time.Time{}, AccountOptions{Merge: true, Each: func(_, to string, missing, _ int64) {
		if missing > 0 && thrown == 0 {
			thrown++
			w.expunge(t, "a", to, 2)
		}
	}})
	if got := texts(content(t, a)); thrown != 1 || len(got) != 1 || done.Messages != 2 {
		t.Errorf("%+v, %d messages are there", done, len(got))
	}
}

// What is damaged of an account in the backup keeps nothing else of it from coming back.
func TestDamagedPartOfAnAccountThatIsThere(t *testing.T) {
	for at := range 4 {
		w := populated(t, "a")
		rng := rand.New(rand.NewPCG(uint64(at), 3))
		for i := range 200 {
			w.append(t, "a", []string{"INBOX", "Archive"}[i%2], letter(rng, fmt.Sprint(i), 2000), 0)
		}
		dir := t.TempDir()
		w.save(t, dir, SaveOptions{})
		for box, list := range content(t, w.account(t, "a")) {
			for _, m := range list[1:] {
				w.expunge(t, "a", box, m.uid)
			}
		}
		spoil(t, dir, w.shardOf(t, "a"), func(tr *tree) object {
			return object{kindChunk, tr.chunks[1+at].name} // of bodies
		})
		var problems told
		done, err := w.RestoreAccount(ctx, dir, time.Time{}, addr("a"), AccountOptions{Merge: true, RestoreOptions: RestoreOptions{Problem: problems.add}})
		if err != nil || done.Messages+done.Failed != 200 || done.Failed == 0 || done.Messages == 0 || len(problems) == 0 {
			t.Errorf("%+v, %q, %v", done, problems, err)
		}
		n := 0
		for _, k := range texts(content(t, w.account(t, "a"))) {
			n += k
		}
		if n != int(done.Messages) {
			t.Errorf("%d messages are there, %+v", n, done)
		}
		w.verify(t)
	}
}
