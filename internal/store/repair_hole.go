package store

import (
	"bytes"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// AccountOf returns the account that a shard belongs to.
func AccountOf(shard engine.Shard) (mail.AccountID, bool) {
	return mail.AccountID(shard - accountBase), shard > accountBase
}

// lossy are the families of an account's records that do not follow from others, as a
// person calls them.
var lossy = [...]struct {
	family byte
	what   string
}{
	{famAccount, "quota"}, {famBody, "messages"}, {famDoomed, "deleted mailboxes"}, {famMeta, "annotations"}, {famFacts, "messages"},
	{famHeader, "messages"}, {famOnce, "which deliveries were made already"}, {famURLKey, "keys of URLs"}, {famMailbox, "mailboxes"}, {famName, "mailboxes"},
	{famPage, "messages"}, {famMarks, "flags"}, {famOrigin, "where deleted messages lay"}, {famSub, "subscriptions"},
	{famLost, "deleted mailboxes"}, {famGuest, "what guests have seen"}, {famSeen, "what guests have seen"}, {famNote, "annotations"}, {famPiece, "messages"},
	{famTie, "which messages were imported"}, {famTiedBox, "which messages were imported"},
}

// Held says what records between two keys of an account's shard tell that nothing else
// does, nothing if all of it follows from others. A nil key is the end on its side.
func Held(from, to []byte) (what []string) {
	said := map[string]bool{}
	for _, l := range lossy {
		if (to == nil || bytes.Compare([]byte{l.family}, to) < 0) && (len(from) == 0 || from[0] <= l.family) && !said[l.what] {
			said[l.what] = true
			what = append(what, l.what)
		}
	}
	return what
}
