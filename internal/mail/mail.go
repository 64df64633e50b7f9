// Package mail holds the nouns every other package speaks in: addresses, UIDs,
// modification sequences, flags, roles, rights, envelopes, blob names.
//
// It does no I/O, parses no protocol and imports nothing of ours.
//
// RFC 5321 (address, envelope), RFC 9051 (UID, flags), RFC 7162 (modseq),
// RFC 6154 (roles), RFC 4314 (rights).
package mail

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// UID is a message's number in its mailbox; 0 is no UID (RFC 9051, 2.3.1.1).
type UID uint32

// ModSeq is an account-wide modification sequence: each committed change of an
// account has the next one. 0 is before every change (RFC 7162, 3.1.1).
type ModSeq uint64

// AccountID names an account for ever; 0 is no account.
type AccountID uint64

// MailboxID names a mailbox of one account for ever, across renames; 0 stands for
// the account itself in the change log.
type MailboxID uint64

// MessageID names the content of one message in an account: copies share it. It is
// what RFC 8474 calls EMAILID; 0 is none. It is not the Message-ID header field.
type MessageID uint64

// ThreadID names a conversation of one account (RFC 8474, THREADID).
type ThreadID uint64

// BlobRef names bytes by their SHA-256.
type BlobRef [32]byte

// String returns the name in hexadecimal.
func (b BlobRef) String() string { return hex.EncodeToString(b[:]) }

// IsZero tells whether b names nothing (a message without a body has no blob).
func (b BlobRef) IsZero() bool { return b == BlobRef{} }

// Flags is a set of system flags (RFC 9051, 2.3.2). Keywords are kept apart.
type Flags uint8

const (
	Seen Flags = 1 << iota
	Answered
	Flagged
	Deleted
	Draft
)

// Has tells whether f contains all of g.
func (f Flags) Has(g Flags) bool { return f&g == g }

var flagNames = [...]string{`\Seen`, `\Answered`, `\Flagged`, `\Deleted`, `\Draft`}

// SystemFlag returns the system flag of an IMAP name such as `\Seen`, in any case,
// or 0.
func SystemFlag(name string) Flags {
	for i, n := range flagNames {
		if strings.EqualFold(n, name) {
			return 1 << i
		}
	}
	return 0
}

// Append appends the IMAP names of f, separated by a space, to b.
func (f Flags) Append(b []byte) []byte {
	for i, n := range flagNames {
		if f&(1<<i) == 0 {
			continue
		}
		if len(b) > 0 && b[len(b)-1] != '(' && b[len(b)-1] != ' ' {
			b = append(b, ' ')
		}
		b = append(b, n...)
	}
	return b
}

// String returns the IMAP names separated by a space.
func (f Flags) String() string { return string(f.Append(nil)) }

// Role is the special use of a mailbox, in the IMAP spelling without the
// backslash; "" is none. INBOX has RoleInbox, which IMAP does not announce.
type Role string

const (
	RoleInbox     Role = "Inbox"
	RoleAll       Role = "All"
	RoleArchive   Role = "Archive"
	RoleDrafts    Role = "Drafts"
	RoleFlagged   Role = "Flagged"
	RoleImportant Role = "Important"
	RoleJunk      Role = "Junk"
	RoleSent      Role = "Sent"
	RoleTrash     Role = "Trash"

	RoleMemos     Role = "Memos" // of RFC 9979, 8, as the next two
	RoleScheduled Role = "Scheduled"
	RoleSnoozed   Role = "Snoozed"
)

var roles = [...]Role{RoleAll, RoleArchive, RoleDrafts, RoleFlagged, RoleImportant, RoleJunk, RoleSent, RoleTrash,
	RoleMemos, RoleScheduled, RoleSnoozed}

// SpecialUse returns the role of an IMAP use attribute such as `\Sent`, in any
// case, or "" (RFC 6154, 2; RFC 8457; RFC 9979, 8). Those of RFC 9979 are registered
// without a backslash, and are known in either form.
func SpecialUse(attr string) Role {
	name, slash := strings.CutPrefix(attr, `\`)
	for _, r := range roles {
		if strings.EqualFold(name, string(r)) && (slash || r == RoleMemos || r == RoleScheduled || r == RoleSnoozed) {
			return r
		}
	}
	return ""
}

// Envelope is what travels beside a message over SMTP (RFC 5321, 2.3.1).
type Envelope struct {
	From     Address // the reverse-path; zero is the null sender <>
	To       []Recipient
	EnvID    string // DSN envelope identifier, xtext decoded (RFC 3461, 4.4)
	Ret      Ret    // what a DSN returns (RFC 3461, 4.3)
	UTF8     bool   // SMTPUTF8 was requested (RFC 6531)
	Body8Bit bool   // BODY=8BITMIME or BINARYMIME
	Binary   bool   // BODY=BINARYMIME (RFC 3030)
	Login    string // the authenticated account's address, or ""
	Helo     string // name the client gave
	Peer     string // client's IP address, or "" for a message born here
	// RequireTLS: the message must not travel in the clear or to a host that does not
	// prove its name (RFC 8689, 2).
	RequireTLS bool
	// TLSOptional: policies of the next host's domain that ask for TLS do not count for
	// it, by the wish of its author ("TLS-Required: No", RFC 8689, 3).
	TLSOptional bool
	Protocol    string // SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, UTF8SMTPS..., LMTP (RFC 3848)
	TLS         string // what protected the client's connection, in words; not kept in the queue
	ID          string // name of this reception in replies, logs and traces; not kept in the queue
	// Sent names the bytes as the client sent them, where one that comes again may have come
	// to be before; zero elsewhere. Not kept in the queue.
	Sent [32]byte

	Priority  int       // -9 to 9, higher first; 0 is ordinary (RFC 6710)
	By        DeliverBy // when it is to be delivered (RFC 2852)
	ReleaseAt time.Time // not to be sent or delivered before (RFC 4865); zero: at once
	Release   string    // how that was asked for: "for;3600" or "until;" and a time
	VERP      bool      // each recipient gets it from a sender of his own, which names him
	Junk      bool      // it goes into Junk, not into INBOX: a check of it failed
	Stays     bool      // no alias sends it on to other hosts: nobody stands behind its author
}

// DeliverBy is a time by which a message is to be delivered (RFC 2852, 4).
type DeliverBy struct {
	Mode  ByMode
	At    time.Time // the deadline; it may be past with ByNotify
	Trace bool      // a report is wanted where the message leaves for a host without DELIVERBY
}

// ByMode says what becomes of a message that misses its time.
type ByMode uint8

const (
	ByNone   ByMode = iota // no time was asked for
	ByNotify               // the sender is told, and it is tried on: "N"
	ByReturn               // it goes back: "R"
)

// Ret says how much of the message a DSN returns.
type Ret uint8

const (
	RetDefault Ret = iota
	RetFull
	RetHeaders
)

// Notify says when a recipient's DSN is wanted (RFC 3461, 4.1).
type Notify uint8

const (
	NotifyDefault Notify = 0
	NotifyNever   Notify = 1 << (iota - 1)
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// Recipient is one forward-path with its DSN wishes.
type Recipient struct {
	Address Address
	Notify  Notify
	ORcpt   string // "addr-type;address", xtext decoded, or "" (RFC 3461, 4.2)
}

// Received is how and when a message came in: what a Received field says.
type Received struct {
	At time.Time
	ID string
}

// Address is a mailbox address: the local part as its owner wrote it, the domain in
// lower case, as U-label or A-label just as it was given. The zero value is the
// null address.
type Address struct {
	Local, Domain string
}

// IsZero tells whether a is the null address.
func (a Address) IsZero() bool { return a == Address{} }

// String returns local@domain, quoting the local part where RFC 5321 needs it. An
// address without a domain (postmaster) is the local part alone; null is "".
func (a Address) String() string {
	local := a.Local
	if needsQuotes(local) && !a.IsZero() {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	if a.Domain == "" {
		return local
	}
	return local + "@" + a.Domain
}

// IsASCII tells whether a can be written without SMTPUTF8.
func (a Address) IsASCII() bool {
	for _, s := range [2]string{a.Local, a.Domain} {
		for i := 0; i < len(s); i++ {
			if s[i] >= 0x80 {
				return false
			}
		}
	}
	return true
}

// Folded returns a as lookups compare it: local part in lower case too. (RFC 5321,
// 2.4 lets only the receiving host read the local part; we are that host.)
func (a Address) Folded() Address {
	return Address{Local: strings.ToLower(a.Local), Domain: strings.ToLower(a.Domain)}
}

// SplitDetail cuts the local part at the first separator: "bob+lists" is "bob" and
// "lists" (RFC 5233, 4). Without one, detail is "".
func (a Address) SplitDetail(sep string) (base Address, detail string) {
	if sep == "" {
		return a, ""
	}
	local, detail, found := strings.Cut(a.Local, sep)
	if !found || local == "" {
		return a, ""
	}
	return Address{Local: local, Domain: a.Domain}, detail
}

// ParseAddress reads local@domain as a person or a file writes it: no angle
// brackets, no source route. It checks length and characters (RFC 5321, 4.1.2 and
// 4.5.3.1; RFC 6531, 3.3), not existence.
func ParseAddress(s string) (Address, error) {
	at := strings.LastIndexByte(s, '@')
	if at <= 0 || at == len(s)-1 {
		return Address{}, fmt.Errorf("%q is not of the form name@domain", clip(s))
	}
	local, err := parseLocal(s[:at])
	if err != nil {
		return Address{}, err
	}
	domain, err := ParseDomain(s[at+1:])
	if err != nil {
		return Address{}, err
	}
	return Address{Local: local, Domain: domain}, nil
}

func parseLocal(s string) (string, error) {
	if len(s) > 64 {
		return "", fmt.Errorf("local part is longer than 64 bytes")
	}
	if s[0] == '"' {
		return unquote(s)
	}
	for _, word := range strings.Split(s, ".") {
		if word == "" {
			return "", fmt.Errorf("local part %q has an empty word", clip(s))
		}
		for i := 0; i < len(word); i++ {
			if !isAtext(word[i]) {
				return "", fmt.Errorf("local part has the character %q, which needs quotes", word[i])
			}
		}
	}
	if !validUTF8(s) {
		return "", fmt.Errorf("local part is not valid UTF-8")
	}
	return s, nil
}

func unquote(s string) (string, error) {
	if len(s) < 2 || s[len(s)-1] != '"' {
		return "", fmt.Errorf("quoted local part is not closed")
	}
	var b strings.Builder
	in := s[1 : len(s)-1]
	for i := 0; i < len(in); i++ {
		c := in[i]
		if c == '\\' {
			if i++; i == len(in) {
				return "", fmt.Errorf("quoted local part ends in a backslash")
			}
			c = in[i]
		} else if c == '"' {
			return "", fmt.Errorf("quoted local part has a bare quote")
		}
		if c < ' ' || c == 0x7f {
			return "", fmt.Errorf("local part has a control character")
		}
		b.WriteByte(c)
	}
	if b.Len() == 0 || !validUTF8(b.String()) {
		return "", fmt.Errorf("local part is empty or not valid UTF-8")
	}
	return b.String(), nil
}

// ParseDomain checks a domain name or an address literal such as [192.0.2.1] and
// returns it in lower case without a final dot (RFC 5321, 4.1.2 and 4.1.3).
func ParseDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		if len(s) < 3 || s[len(s)-1] != ']' || strings.ContainsFunc(s[1:len(s)-1], notInLiteral) {
			return "", fmt.Errorf("address literal %q is not closed or has a stray character", clip(s))
		}
		return strings.ToLower(s), nil
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if s == "" || len(s) > 253 || !validUTF8(s) {
		return "", fmt.Errorf("domain is empty, longer than 253 bytes or not valid UTF-8")
	}
	for _, label := range strings.Split(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", fmt.Errorf("domain %q has a bad label", clip(s))
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if c < 0x80 && c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return "", fmt.Errorf("domain has the character %q", c)
			}
		}
	}
	return s, nil
}

// notInLiteral tells what cannot stand in an address literal (RFC 5321, 4.1.3: dcontent).
func notInLiteral(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune("[]@\\", c) }

func needsQuotes(local string) bool {
	if local == "" || local[0] == '.' || local[len(local)-1] == '.' || strings.Contains(local, "..") {
		return true
	}
	for i := 0; i < len(local); i++ {
		if local[i] != '.' && !isAtext(local[i]) {
			return true
		}
	}
	return false
}

func isAtext(c byte) bool {
	switch {
	case c >= 0x80, c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func validUTF8(s string) bool { return strings.ToValidUTF8(s, "") == s }

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
