// Package remote reaches an account of a server as a move.Target over its admin calls: what
// they say, and the side that calls. The other side is in internal/serve/admin.
//
// The calls, below /v1/accounts/ADDRESS/move: "" tells of the account (Account), "mailboxes"
// lists them, "open" opens one, "ties" tells of ties by their keys or (GET) of all,
// "former" of those of another UIDVALIDITY, "put" takes messages in, "change" changes some, "state" keeps a state, "sources" lists or (DELETE)
// forgets what was brought. Names of a source and of a mailbox there are in the query, for
// they may be any bytes. All is JSON, a line for each answer, but what put is given: frames,
// each a line (Item) followed by as many bytes as it says.
//
// A call that could not be made, or of which no answer came, is made again for some minutes:
// so a server may be started anew meanwhile. No call does anything twice.
package remote

import (
	"encoding/json"
	"net/url"
	"strconv"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// Limits of a request.
const (
	MaxKeys   = 1000      // of which ties are asked for
	MaxLine   = 256 << 10 // bytes of the line before a message
	MaxFrames = 5000      // messages in one call of put
)

// Account is what a server says of an account to those who bring mail.
type Account struct {
	MaxMessage int64 `json:"max_message"` // bytes
}

// Item is the line before a message.
type Item struct {
	Key      []byte     `json:"key"`
	Size     int64      `json:"size"` // bytes that follow
	UID      mail.UID   `json:"uid,omitempty"`
	Flags    mail.Flags `json:"flags,omitempty"`
	Keywords []string   `json:"keywords,omitempty"`
	Date     *time.Time `json:"date,omitempty"`
	Places   []string   `json:"places,omitempty"`
}

// ItemOf returns the line for a message.
func ItemOf(in *move.Incoming) Item {
	i := Item{Key: []byte(in.Item.Key), Size: in.Size, UID: in.Item.UID, Flags: in.Item.Flags, Keywords: in.Item.Keywords, Places: in.Item.Places}
	if date := mail.BoundDate(in.Item.Date); !date.IsZero() { // of others there is no JSON
		i.Date = &date
	}
	return i
}

// Incoming returns what the line says, without the bytes.
func (i *Item) Incoming() move.Incoming {
	in := move.Incoming{Size: i.Size, Item: move.Item{Key: string(i.Key), Size: i.Size, UID: i.UID, Flags: i.Flags, Keywords: i.Keywords, Places: i.Places}}
	if i.Date != nil {
		in.Item.Date = *i.Date
	}
	return in
}

// Outcome is what became of a message.
type Outcome struct {
	UID     mail.UID `json:"uid"`
	Before  bool     `json:"before,omitempty"`
	Content []byte   `json:"content,omitempty"`
	Refused string   `json:"refused,omitempty"`
	Later   bool     `json:"later,omitempty"`
	Changed string   `json:"changed,omitempty"`
}

// OutcomeOf returns the line that tells of an outcome.
func OutcomeOf(o *move.Outcome) Outcome {
	return Outcome{o.UID, o.Before, o.Content[:], o.Refused, o.Later, o.Changed}
}

func (o *Outcome) move() move.Outcome {
	return move.Outcome{UID: o.UID, Before: o.Before, Content: content(o.Content), Refused: o.Refused, Later: o.Later, Changed: o.Changed}
}

func content(b []byte) (c move.Content) {
	copy(c[:], b)
	return c
}

// Opened is a mailbox that was opened.
type Opened struct {
	At   move.Place `json:"at"`
	Kept bool       `json:"kept"`
}

// Keys asks for ties.
type Keys struct {
	Keys [][]byte `json:"keys"`
	Look bool     `json:"look,omitempty"` // how the messages are now, too
}

// Looked is a tie, and how its message is now.
type Looked struct {
	Tie *Tie `json:"tie"`
	Now *Now `json:"now,omitempty"`
}

// Tie is a tie.
type Tie struct {
	Key      []byte         `json:"key"`
	Message  mail.MessageID `json:"message"`
	Mailbox  mail.MailboxID `json:"mailbox"`
	UID      mail.UID       `json:"uid"`
	Flags    mail.Flags     `json:"flags,omitempty"`
	Keywords []string       `json:"keywords,omitempty"`
	Size     int64          `json:"size"`
	Date     time.Time      `json:"date,omitzero"`
	Content  []byte         `json:"content"`
	Stored   []byte         `json:"stored,omitempty"` // unless it is the same
	Changed  string         `json:"changed,omitempty"`
}

// Former is a tie of another UIDVALIDITY.
type Former struct {
	Key     []byte `json:"key"`
	Content []byte `json:"content"`
}

// Now is how a message is now.
type Now struct {
	Mailbox  string     `json:"mailbox"`
	UID      mail.UID   `json:"uid"`
	Flags    mail.Flags `json:"flags,omitempty"`
	Keywords []string   `json:"keywords,omitempty"`
	Date     time.Time  `json:"date"`
	Size     int64      `json:"size"`
	Content  []byte     `json:"content,omitempty"`
}

// LookedOf returns the line that tells of a tie.
func LookedOf(t *move.Tie, now *move.Now) (l Looked) {
	if t != nil {
		l.Tie = &Tie{
			Key: []byte(t.Key), Message: t.Message, Mailbox: t.Mailbox, UID: t.UID, Flags: t.Flags, Keywords: t.Keywords,
			Size: t.Size, Date: t.Date, Content: t.Content[:], Changed: t.Changed,
		}
		if t.Stored != t.Content {
			l.Tie.Stored = t.Stored[:]
		}
	}
	if now != nil {
		l.Now = &Now{Mailbox: now.Mailbox, UID: now.UID, Flags: now.Flags, Keywords: now.Keywords, Date: now.Date, Size: now.Size}
		if now.Content != (move.Content{}) {
			l.Now.Content = now.Content[:]
		}
	}
	return l
}

func (l *Looked) move() (m move.Looked) {
	if t := l.Tie; t != nil {
		m.Tie = &move.Tie{
			Key: string(t.Key), Message: t.Message, Mailbox: t.Mailbox, UID: t.UID, Flags: t.Flags, Keywords: t.Keywords,
			Size: t.Size, Date: t.Date, Content: content(t.Content), Changed: t.Changed,
		}
		if m.Tie.Stored = m.Tie.Content; t.Stored != nil {
			m.Tie.Stored = content(t.Stored)
		}
	}
	if n := l.Now; n != nil {
		m.Now = &move.Now{Mailbox: n.Mailbox, UID: n.UID, Flags: n.Flags, Keywords: n.Keywords, Date: n.Date, Size: n.Size, Content: content(n.Content)}
	}
	return m
}

// Change is a change of a message.
type Change struct {
	Key      []byte     `json:"key"`
	Flags    mail.Flags `json:"flags,omitempty"`
	Keywords []string   `json:"keywords,omitempty"`
	Gone     bool       `json:"gone,omitempty"`
	MoveTo   string     `json:"move_to,omitempty"`
	NewKey   []byte     `json:"new_key,omitempty"`
}

// Move returns the change.
func (c *Change) Move() move.Change {
	return move.Change{Key: string(c.Key), Flags: c.Flags, Keywords: c.Keywords, Gone: c.Gone, MoveTo: c.MoveTo, NewKey: string(c.NewKey)}
}

// State is a state.
type State struct {
	State []byte `json:"state"`
}

// Brought is a mailbox of a source from which mail came.
type Brought struct {
	Source  []byte `json:"source_bytes"`
	Mailbox []byte `json:"mailbox_bytes"`
	From    string `json:"source"` // the same as people read them
	Of      string `json:"from"`
	At      string `json:"mailbox"`
}

// Query names a mailbox of a source.
func Query(box move.Box) url.Values {
	return url.Values{"source": {box.Source}, "mailbox": {box.Mailbox}}
}

// BoxOf reads what Query wrote.
func BoxOf(q url.Values) move.Box {
	return move.Box{Source: q.Get("source"), Mailbox: q.Get("mailbox")}
}

// PutQuery names a mailbox of a source, and the one here that messages of it go into.
func PutQuery(box move.Box, at mail.MailboxID) url.Values {
	q := Query(box)
	q.Set("at", strconv.FormatUint(uint64(at), 10))
	return q
}

// frameLine returns the line before a message.
func frameLine(in *move.Incoming) ([]byte, error) {
	b, err := json.Marshal(ItemOf(in))
	return append(b, '\n'), err
}
