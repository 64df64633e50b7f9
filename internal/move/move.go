// Package move brings mail in from elsewhere, keeps it in step, and takes it out again.
//
// A Source is where mail lies: an account at another provider, a file, a folder. A Target is
// an account here. Import reads the one into the other: it plans first, may be stopped at any
// moment and goes on where it was, makes no message twice, deletes nothing at the source, and
// ends with a report that compares what is here with what the source gave.
//
// What was brought is remembered message by message in ties: records of the account, written
// in the commit that appends the message. There is no other state.
//
// The package opens no socket and no file of its own: sources are in packages below it, and
// the account is reached through Target, which is the store itself (Local) or a server's
// admin socket. It does not find out settings (internal/discover) and signs nobody in.
//
// RFC 9051 (UIDs, flags, internal date), RFC 6154 (roles).
package move

import (
	"context"
	"crypto/sha256"
	"io"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Source is a place where mail lies. It is used by one goroutine at a time.
type Source interface {
	// ID names the source for ever: what ties messages to it. The same mail under another
	// ID is imported anew. For example "imap:carol@imap.example.net:993". At most 400 bytes.
	ID() string
	// Mailboxes lists what there is to bring, in the order of import: INBOX first.
	Mailboxes(ctx context.Context) ([]Mailbox, error)
	// Read goes once through a mailbox that Mailboxes has listed before, of this Source, and
	// tells v of every message in it. What it asks of
	// memory does not grow with the mailbox.
	Read(ctx context.Context, m Mailbox, how Reading, v Visitor) error
	io.Closer
}

// Mailbox is a mailbox of a source.
type Mailbox struct {
	Name        string    `json:"mailbox"` // as it is to be called here: levels by "/", no forbidden bytes
	Source      string    `json:"source"`  // as the source calls it, for people and for the ties; at most 400 bytes
	Role        mail.Role `json:"role,omitempty"`
	Subscribed  bool      `json:"subscribed"`
	UIDValidity uint32    `json:"uidvalidity,omitempty"` // with the UIDs of its items to be kept, so that clients need not download again; 0: new ones are given
	Messages    int64     `json:"messages"`              // -1: not known without reading it
	Bytes       int64     `json:"bytes"`                 // -1: not known
	Skip        string    `json:"skip,omitempty"`        // why it is left out unless asked for by name
	// Unreadable: why it cannot be read. It is not left out: that it is not here is told.
	Unreadable string `json:"unreadable,omitempty"`
	// Scattered: it is a way of reading, and no mailbox here is made of it. A message of it is
	// put into the first of its Places and copied into the others; one with no place goes into
	// Name. So an archive that can be read only from its beginning to its end is read once.
	Scattered bool `json:"scattered,omitempty"`
	// Exact: it is one of an account that is to be as it was. The mailbox here that it goes into
	// gets its name, role and subscription, if that has never had a message.
	Exact bool `json:"exact,omitempty"`
	// Subscriptions are names that are subscribed in that account and have no mailbox.
	Subscriptions []string `json:"subscriptions,omitempty"`
}

// Order is the order in which a mailbox is read.
type Order uint8

const (
	SourceOrder Order = iota // oldest first, as the source has it
	NewestFirst              // in blocks, the newest block first; within a block as the source has it
)

// Reading is how Read is to go.
type Reading struct {
	Order Order
	// Plan: nothing will be wanted. The items should have what a plan tells of: size, date,
	// Message-ID, what is wrong.
	Plan bool
	// Identify: the items should have their Message-ID, even if that takes longer.
	Identify bool
	// Since is what an earlier reading of this mailbox returned as its state; a source that
	// is able to tells only of what has changed since, and of what is gone (Gone). nil: all.
	Since []byte
}

// Visitor is told of the messages of a mailbox.
type Visitor interface {
	// Want is told of some messages, at most MaxItems, and says which are to be Put. The
	// items are valid until the next call.
	Want(ctx context.Context, items []Item) ([]bool, error)
	// Put hands over a message that was wanted: all of it, lines ending in CRLF. r is read
	// to its end or not at all before Put returns. The order is the one of Want.
	Put(ctx context.Context, item Item, r io.Reader) error
	// Skip says of a wanted message that the source could not give it, and why.
	Skip(ctx context.Context, item Item, why error) error
	// Gone says that messages of these keys are no more in the mailbox. Only of a Reading
	// with Since.
	Gone(ctx context.Context, keys []string) error
	// State hands over what Since may be next time, when all before it has been told.
	State(ctx context.Context, state []byte) error
}

// Doubter is a Visitor that is told, before State, that the source may have more messages than
// the reading has told of: what it has not told of is not gone for that.
type Doubter interface{ Doubt() }

// Sifter is a Visitor that can look itself which of the messages it knows are gone: a source that
// remembers roughly what there was asks that, instead of naming millions that never were.
type Sifter interface {
	// GoneOf is Gone of those for which gone is true.
	GoneOf(ctx context.Context, gone func(key string) bool) error
}

// MaxItems is how many messages Want is told of at once.
const MaxItems = 1000

// Item is what is known of a message without its body.
type Item struct {
	// Key is what the source calls the message within its mailbox, for ever: at most 64
	// bytes. IMAP: UIDVALIDITY "." UID; POP3: the UIDL; files: a hash of the content and the
	// how-manieth of that content it is.
	Key       string
	UID       mail.UID // to be kept, ascending; 0: a new one
	Size      int64    // bytes; -1: not known, and roughly if the source only guesses
	Flags     mail.Flags
	Keywords  []string
	Date      time.Time // internal date; zero: that of the message's Date field, else now
	MessageID string    // if known, without brackets
	Places    []string  // further mailboxes here in which it lies: labels
	Content   Content   // of the bytes that Put will hand over, if the source knows it; else zero
	Broken    string    // what is wrong with it, if the source sees that; it may be wanted all the same
}

// Content is what two messages that are the same bytes share: SHA-256 of the header with
// its empty line, followed by the SHA-256 of the body. store.Snapshot.Fingerprint gives it of
// a stored message.
type Content [sha256.Size]byte

// Tie is what is remembered of a message that was brought.
type Tie struct {
	Key      string // Item.Key
	Message  mail.MessageID
	Mailbox  mail.MailboxID // where it was put; it may have been moved since
	UID      mail.UID
	Flags    mail.Flags // as the source had them when they were last made equal
	Keywords []string
	Size     int64     // bytes that were read from the source
	Date     time.Time // internal date there, to the second; zero: there was none
	Content  Content   // of what was read from the source
	Stored   Content   // of what was put into the account: the same, unless Changed says why not
	Changed  string
}

// Place is a mailbox of the account.
type Place struct {
	ID          mail.MailboxID `json:"id"`
	Name        string         `json:"name"`
	Role        mail.Role      `json:"role,omitempty"`
	UIDValidity uint32         `json:"uidvalidity"`
	UIDNext     mail.UID       `json:"uidnext"`
	Messages    uint32         `json:"messages"`
	Bytes       int64          `json:"bytes"`
}

// Box names a mailbox of a source: the ties of one are apart from those of another.
type Box struct {
	Source  string `json:"source"`  // Source.ID
	Mailbox string `json:"mailbox"` // Mailbox.Source
}

// Target is an account that takes mail in. Its methods may be called at the same time.
// What a method has returned without an error is durable.
type Target interface {
	// Mailboxes lists the account's mailboxes.
	Mailboxes(ctx context.Context) ([]Place, error)
	// Open returns the mailbox that a source's one goes into: the one with its role, else
	// the one with its name, else a new one. UIDs are kept (kept) if m asks for it and the
	// mailbox is new, or never had a message, or kept those of the same source before.
	Open(ctx context.Context, source string, m Mailbox) (at Place, kept bool, err error)
	// Ties returns the ties of keys: an entry for each, nil where there is none.
	Ties(ctx context.Context, box Box, keys []string) ([]*Tie, error)
	// EachTie goes through the ties of a mailbox in the order of their keys, with how the
	// message is now; state is nil if the account has it no more.
	EachTie(ctx context.Context, box Box, fn func(t Tie, now *Now) error) error
	// Former returns the next few hundred ties behind a key whose keys are of another
	// UIDVALIDITY than now, in the order of their keys; none at the end.
	Former(ctx context.Context, box Box, now, behind string) ([]TiedContent, error)
	// Put appends messages to a mailbox and ties them, each once: one whose key is tied
	// already is not appended again. The outcomes are in the order of list. An error means
	// that nothing is known of any; to call it again makes nothing twice.
	Put(ctx context.Context, box Box, at mail.MailboxID, list []Incoming) ([]Outcome, error)
	// Change makes the account follow changes at the source. Ties that do not exist are
	// passed over.
	Change(ctx context.Context, box Box, list []Change) error
	// State returns what SetState kept of a mailbox of a source, nil if nothing.
	State(ctx context.Context, box Box) ([]byte, error)
	SetState(ctx context.Context, box Box, state []byte) error // at most 4 KB
}

// Now is how a message that was brought is in the account now.
type Now struct {
	Mailbox  string // where it lies; of several, the one it was put into if it is still there
	UID      mail.UID
	Flags    mail.Flags
	Keywords []string
	Date     time.Time
	Size     int64
	Content  Content // read from the store, only if the target was asked to (Proving)
}

// Proving marks a context under which EachTie reads every message and gives its Content.
func Proving(ctx context.Context) context.Context {
	return context.WithValue(ctx, proving{}, true)
}

// IsProving tells whether EachTie is to read every message.
func IsProving(ctx context.Context) bool {
	on, _ := ctx.Value(proving{}).(bool)
	return on
}

type proving struct{}

// Incoming is a message on its way in. Open may be called more than once.
type Incoming struct {
	Item Item
	Size int64 // exact
	Open func() (io.ReadCloser, error)
}

// Outcome is what became of one.
type Outcome struct {
	UID     mail.UID // where it is; 0 if Refused
	Before  bool     // it had been tied already
	Content Content  // of what was read
	Refused string   // why it was not taken: too large, over quota, ...
	Later   bool     // it was refused, and may be taken another time
	Changed string   // what was changed of it: keywords that cannot be, NUL bytes, ...
}

// Change is a change at a source that the account is to follow.
type Change struct {
	Key string
	// Flags and Keywords are those at the source now. What differs from the tie is done
	// here; what was changed here only, stays.
	Flags    mail.Flags
	Keywords []string
	Gone     bool   // the message goes into Trash here from where it was put, or is expunged if that is Trash
	MoveTo   string // a mailbox here; "" where it is
	// NewKey is what the source calls the message from now on, "" as before. The rest of the
	// change is not looked at then.
	NewKey string
}

// Advised is a Source that knows how it wants to be read.
type Advised interface{ Advice() Advice }

// Advice is about a source.
type Advice struct {
	Files     bool    // it is not read over a network: its order is kept whatever its size
	Throttles bool    // its provider limits what is read: what is newest comes first
	Bytes     int64   // a second, at most; 0: no limit
	Messages  float64 // a second, at most; 0: no limit
	// Expected is how many bytes a second are read as a rule, for the plan; 0: not known.
	Expected int64
}

// Prover is a Target that can tell how single messages are now, as EachTie does of all. The
// entries are those of keys; one without a tie has none.
type Prover interface {
	Look(ctx context.Context, box Box, keys []string) ([]Looked, error)
}

// Looked is a tie and how its message is now: nil if there is none, or not any more.
type Looked struct {
	Tie *Tie
	Now *Now
}
