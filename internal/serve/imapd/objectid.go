package imapd

import (
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// Kinds of object ids (RFC 8474): the letter they begin with.
const (
	accountID = "a"
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

// OBJECTID+ (draft-ietf-mailmaint-imap-objectid-bis): ids come together under one name,
// with that of the account. It begins with the first use of it.

// enableObjectID marks the client as one that knows OBJECTID+, and says so.
func (s *session) enableObjectID() {
	if !s.objectID {
		s.objectID = true
		s.enc.Raw("* ENABLED OBJECTID+").CRLF()
	}
}

// ids returns the response code that names a mailbox by its ids.
func (s *session) ids(of *owner, id mail.MailboxID) string {
	if !s.objectID {
		return "MAILBOXID (" + of.mailboxID(id) + ")"
	}
	return "OBJECTID " + of.pair(id)
}

// pair returns the ids of a mailbox and its account.
func (o *owner) pair(id mail.MailboxID) string {
	return "(MAILBOXID " + o.mailboxID(id) + " ACCOUNTID " + o.accountID() + ")"
}

func (o *owner) accountID() string { return accountID + strconv.FormatUint(uint64(o.acct.ID()), 36) }

// named returns the mailbox that the parameters of SELECT mean: that of the ids if there
// is one that the user may read, else that of the name.
func (s *session) named(args *imap.Select) (place, store.Mailbox, error) {
	if o := args.ObjectID; o != nil && o.Mailbox != "" {
		all, _, err := s.visible(mail.RightRead, true)
		if err != nil {
			return place{}, store.Mailbox{}, err
		}
		for i := range all {
			of, box := &all[i].of, &all[i].box
			if of.mailboxID(box.ID) == o.Mailbox && (o.Account == "" || o.Account == of.accountID()) {
				return place{*of, box.Name}, *box, nil
			}
		}
	}
	return s.mailbox(args.Mailbox, mail.RightRead)
}

func (o *owner) mailboxID(id mail.MailboxID) string {
	return objectID(mailboxID, o.acct, uint64(id))
}
