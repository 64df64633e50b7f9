package imapd

import (
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// A message that is gone before a search can read it is not found, and that is noted:
// the view has it still.
func TestSearchNotesWhatIsGone(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", message("one"), 0)
	w.deliver("INBOX", message("two"), 0)
	s := &session{srv: w.imap, ctx: w.ctx, acct: w.alice}
	v := &view{owner: owner{acct: w.alice}, pic: w.picture("INBOX")}
	w.change(func(tx *store.Tx) error {
		_, err := tx.Expunge(v.pic.Mailbox().ID, mail.SetOf(1), false)
		return err
	})
	for name, key := range map[string]imap.SearchKey{
		"header": {Op: imap.SearchHeader, Field: "subject", Text: ""},
		"text":   {Op: imap.SearchText, Text: "text of"},
	} {
		found, err := s.find(v, &key)
		if err != nil {
			t.Fatal(err)
		}
		if found.set.String() != "2" || !found.missed {
			t.Errorf("%s: found %s, missed %v", name, found.set, found.missed)
		}
	}
	if found, err := s.find(v, &imap.SearchKey{Op: imap.SearchUID, Set: imap.SeqSet{Ranges: []imap.SeqRange{{From: 2, To: 2}}}}); err != nil || found.missed {
		t.Error(found, err)
	}
}
