package backup

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// What is known of mail that came from elsewhere comes back with an account, so that an import
// goes on after a restore and brings nothing twice.
func TestTiesComeBack(t *testing.T) {
	w := populated(t, "carol")
	box := store.TiedBox{Source: "imap:carol@far.example", Mailbox: "Sent Items", Validity: 7, State: []byte("x")}
	bring := func(key string) store.Tie {
		t.Helper()
		p, err := w.Store.Receive(ctx, strings.NewReader("Subject: "+key+"\r\n\r\nx"))
		w.must(t, err)
		var tie store.Tie
		at := w.mailbox(t, "carol", "Sent").ID
		w.must(t, w.account(t, "carol").Update(ctx, func(tx *store.Tx) (err error) {
			box.At = at
			if err = tx.PutTiedBox(box); err == nil {
				tie, err = tx.AppendTied(at, store.NewMessage{Parcel: p, Flags: mail.Seen}, 0, box, store.Tie{Key: key, Content: p.Fingerprint(), Stored: p.Fingerprint()})
			}
			return err
		}))
		return tie
	}
	ties := func(w *world) (list []store.Tie, of []store.TiedBox) {
		t.Helper()
		w.must(t, w.account(t, "carol").View(ctx, func(s *store.Snapshot) (err error) {
			list = nil
			if err = s.EachTie(box, "", func(tie store.Tie) bool { list = append(list, tie); return true }); err == nil {
				of, err = s.TiedBoxes()
			}
			return err
		}))
		return list, of
	}
	want := []store.Tie{bring("1"), bring("2")}
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	clean(t, dir)
	bring("3") // and lost: it is to come again
	check := func(what string, w *world) {
		t.Helper()
		got, of := ties(w)
		if !reflect.DeepEqual(got, want) || len(of) != 1 || !reflect.DeepEqual(of[0], box) {
			t.Errorf("%s: %+v, %+v", what, got, of)
		}
		w.verify(t)
	}
	e := elsewhere(t, dir, time.Time{})
	check("a whole restore", e)
	depart(t, e)
	check("set apart", e)
	w.must(t, w.Directory.RemoveAccount(ctx, addr("carol")))
	w.restore(t, dir, "carol", time.Time{}, AccountOptions{})
	check("an account", w)
	// A change of ties alone is saved, too.
	w.must(t, w.account(t, "carol").Update(ctx, func(tx *store.Tx) error { return tx.PutTie(box, store.Tie{Key: "0", Message: 1}) }))
	w.save(t, dir, SaveOptions{})
	if got, _ := ties(elsewhere(t, dir, time.Time{})); len(got) != 3 {
		t.Errorf("of three ties %d were saved", len(got))
	}
}
