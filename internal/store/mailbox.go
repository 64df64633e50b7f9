package store

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// Limits on mailboxes.
const (
	MaxMailboxName  = 800   // bytes of a whole name in UTF-8
	MaxMailboxDepth = 64    // levels of a name
	MaxMailboxes    = 20000 // mailboxes of an account
	MaxKeywords     = 1024  // different keywords ever used in a mailbox
	MaxKeyword      = 128   // bytes of one keyword
	Separator       = "/"   // between levels of a name
)

// Mailbox is what an account knows of one mailbox without reading its messages:
// SELECT and STATUS need no more.
type Mailbox struct {
	ID            mail.MailboxID
	Name          string // UTF-8 in NFC, levels separated by "/"
	Role          mail.Role
	UIDValidity   uint32
	UIDNext       mail.UID
	HighestModSeq mail.ModSeq // of the last change in it
	Created       mail.ModSeq
	LogFloor      mail.ModSeq // changes up to here may be missing from the log
	Messages      uint32
	Unseen        uint32
	Deleted       uint32
	Bytes         int64
	Keywords      []string // a KeywordSet counts by place in here
	Grants        []Grant  // who else may do what; none: the owner everything, others nothing
	stamp         uint32   // of the last change in it (stamp.go)
	guests        uint32   // users besides the owner who have seen messages
	notes         uint32   // records of annotations of messages
	noteBytes     int64    // their names and values
}

func (m *Mailbox) isShared() bool { return len(m.Grants) > 0 || m.guests > 0 }

func (m *Mailbox) encode() []byte {
	var e enc
	e.U(uint64(m.ID))
	e.Str(m.Name)
	e.Str(string(m.Role))
	e.U(uint64(m.UIDValidity))
	e.U(uint64(m.UIDNext))
	e.U(uint64(m.HighestModSeq))
	e.U(uint64(m.Created))
	e.U(uint64(m.LogFloor))
	e.U(uint64(m.Messages))
	e.U(uint64(m.Unseen))
	e.U(uint64(m.Deleted))
	e.I(m.Bytes)
	e.U(uint64(len(m.Keywords)))
	for _, k := range m.Keywords {
		e.Str(k)
	}
	kind := recStampedMailbox
	switch {
	case m.stamp != 0:
		e.U(uint64(m.stamp))
	case m.notes != 0:
		kind = recNotedMailbox
	case m.isShared():
		kind = recSharedMailbox
	default:
		return seal(recMailbox, e)
	}
	e.U(uint64(m.guests))
	encodeGrants(&e, m.Grants)
	if kind != recSharedMailbox {
		e.U(uint64(m.notes))
		e.I(m.noteBytes)
	}
	return seal(kind, e)
}

func decodeMailbox(b []byte) (Mailbox, error) {
	kind := recMailbox
	if len(b) > 0 && (b[0] == recSharedMailbox || b[0] == recNotedMailbox || b[0] == recStampedMailbox) {
		kind = b[0]
	}
	p, err := unseal(kind, b)
	if err != nil {
		return Mailbox{}, err
	}
	d := dec{Rest: p}
	m := Mailbox{
		ID: mail.MailboxID(d.U()), Name: d.Str(), Role: mail.Role(d.Str()), UIDValidity: uint32(d.U()),
		UIDNext: mail.UID(d.U()), HighestModSeq: mail.ModSeq(d.U()), Created: mail.ModSeq(d.U()),
		LogFloor: mail.ModSeq(d.U()), Messages: uint32(d.U()), Unseen: uint32(d.U()), Deleted: uint32(d.U()), Bytes: d.I(),
	}
	m.Keywords = make([]string, d.Count())
	for i := range m.Keywords {
		m.Keywords[i] = d.Str()
	}
	if kind == recStampedMailbox {
		m.stamp = uint32(d.U())
	}
	if kind != recMailbox {
		m.guests = uint32(d.U())
		m.Grants = decodeGrants(&d)
	}
	if kind == recNotedMailbox || kind == recStampedMailbox {
		m.notes, m.noteBytes = uint32(d.U()), d.I()
	}
	return m, d.Err("mailbox")
}

// CleanName checks a mailbox name and returns its one canonical form: NFC, "INBOX"
// in capitals as first level, no trailing separator. Faults: Invalid with the
// reason.
func CleanName(name string) (string, error) {
	name = strings.TrimSuffix(name, Separator)
	if !utf8.ValidString(name) {
		return "", fault.New(fault.Invalid, "mailbox name is not valid UTF-8")
	}
	name = norm.NFC.String(name)
	if name == "" || len(name) > MaxMailboxName {
		return "", fault.Newf(fault.Invalid, "mailbox name is empty or longer than %d bytes", MaxMailboxName)
	}
	levels := strings.Split(name, Separator)
	if len(levels) > MaxMailboxDepth {
		return "", fault.Newf(fault.Invalid, "mailbox name has more than %d levels", MaxMailboxDepth)
	}
	for _, level := range levels {
		if level == "" || level == "." || level == ".." {
			return "", fault.Newf(fault.Invalid, "mailbox name has the level %q", level)
		}
	}
	for _, r := range name {
		if unicode.IsControl(r) || r == 0x2028 || r == 0x2029 || r == utf8.RuneError {
			return "", fault.New(fault.Invalid, "mailbox name has a control character")
		}
		if r == '*' || r == '%' {
			return "", fault.New(fault.Invalid, "mailbox name has a wildcard, which no client could list")
		}
	}
	if strings.EqualFold(levels[0], "INBOX") {
		levels[0] = "INBOX"
	}
	return strings.Join(levels, Separator), nil
}

// Parent returns the name one level up, or "".
func Parent(name string) string {
	i := strings.LastIndex(name, Separator)
	return name[:max(i, 0)]
}

// Quota is an account's allowance; 0 is no limit.
type Quota struct {
	Bytes    int64
	Messages int64
}

// Usage is what an account takes of it. Each copy counts, as clients expect
// (RFC 9208, 5).
type Usage struct {
	Bytes    int64
	Messages int64
}

// accountRecord is the one record that every commit of an account rewrites.
type accountRecord struct {
	modSeq      mail.ModSeq
	nextMailbox uint64
	nextMessage uint64
	validity    uint32 // the last UIDVALIDITY given out
	mailboxes   uint32
	quota       Quota
	usage       Usage          // without deleted mail that is kept
	kept        mail.MailboxID // where that lies; 0: nowhere
}

func (a *accountRecord) encode() []byte {
	var e enc
	e.U(uint64(a.modSeq))
	e.U(a.nextMailbox)
	e.U(a.nextMessage)
	e.U(uint64(a.validity))
	e.U(uint64(a.mailboxes))
	e.I(a.quota.Bytes)
	e.I(a.quota.Messages)
	e.I(a.usage.Bytes)
	e.I(a.usage.Messages)
	if a.kept == 0 {
		return seal(recAccount, e)
	}
	e.U(uint64(a.kept))
	return seal(recKeepingAccount, e)
}

func decodeAccount(b []byte) (accountRecord, error) {
	kind, p, err := record.Open(b)
	if err == nil {
		err = newer(kind)
	}
	if err == nil && kind != recAccount && kind != recKeepingAccount {
		err = fault.Newf(fault.Corrupt, "a stored record has kind %d, not %d", kind, recAccount)
	}
	if err != nil {
		return accountRecord{}, err
	}
	d := dec{Rest: p}
	a := accountRecord{
		modSeq: mail.ModSeq(d.U()), nextMailbox: d.U(), nextMessage: d.U(), validity: uint32(d.U()), mailboxes: uint32(d.U()),
		quota: Quota{d.I(), d.I()}, usage: Usage{d.I(), d.I()},
	}
	if kind == recKeepingAccount {
		a.kept = mail.MailboxID(d.U())
	}
	return a, d.Err("account")
}
