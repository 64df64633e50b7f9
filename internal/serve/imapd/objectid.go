package imapd

import (
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Kinds of object ids (RFC 8474): the letter they begin with.
const (
	mailboxID = "b"
	emailID   = "m"
	threadID  = "t"
)

// objectID returns an id as clients see it: kind, account and number in the account,
// both in base 36. With the account in it no other mailbox or message of the server has
// the same one.
func objectID(kind string, acct *store.Account, n uint64) string {
	return kind + strconv.FormatUint(uint64(acct.ID()), 36) + "-" + strconv.FormatUint(n, 36)
}

// parseObjectID returns the number in the account; ok is false if no object of the
// account can have the id.
func parseObjectID(kind string, acct *store.Account, id string) (n uint64, ok bool) {
	_, number, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(number, 36, 64)
	return n, err == nil && id == objectID(kind, acct, n)
}

func (o *owner) mailboxID(id mail.MailboxID) string {
	return objectID(mailboxID, o.acct, uint64(id))
}
