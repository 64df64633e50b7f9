// Package account reads an account of a Martlet out: the lines and frames in which a server
// tells of one over its admin calls, and the move.Source made of them. So what takes mail
// out of an account, to files or to another server, and what brings it into another
// Martlet, is the same code as for any other source.
//
// It opens no socket: how a call is made is handed in. It changes nothing.
//
// The calls, below /v1/accounts/ADDRESS: "export" answers a line (Mailbox) for each
// mailbox; "export/ID" one (Message) for each message of the mailbox of this id, in the
// order of UIDs, with bodies=yes followed by as many bytes as it says and by a line of its
// own (After); uids=SET asks for some, limit=N for no more than so many. The last line says
// that it is the last (End).
package account

import (
	"context"
	"encoding/hex"
	"io"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// Mailbox is a mailbox of an account. One without an id is a name that is subscribed and
// has no mailbox.
type Mailbox struct {
	ID          mail.MailboxID `json:"id"`
	Name        string         `json:"mailbox"`
	Role        mail.Role      `json:"role,omitempty"`
	Subscribed  bool           `json:"subscribed"`
	UIDValidity uint32         `json:"uidvalidity,omitempty"`
	UIDNext     mail.UID       `json:"uidnext,omitempty"`
	Messages    uint32         `json:"messages"`
	Bytes       int64          `json:"bytes"`
}

// Message is what is told of a message before its bytes.
type Message struct {
	UID      mail.UID  `json:"uid"`
	Size     int64     `json:"size"`
	Flags    []string  `json:"flags"` // IMAP's names
	Keywords []string  `json:"keywords"`
	Date     time.Time `json:"date"` // internal date, in UTC
	Content  string    `json:"content,omitempty"`
	ID       string    `json:"message_id,omitempty"` // of its Message-ID field, without brackets
	Error    string    `json:"error,omitempty"`      // why it cannot be read; no bytes follow
}

// After follows the bytes of a message. With an error they are not its bytes: what was
// missing of it was made up with zeros.
type After struct {
	Error string `json:"error,omitempty"`
}

// End is the last line about messages.
type End struct {
	Done bool `json:"done"`
	More bool `json:"more"` // the limit was reached
	// Next is the UID to go on from if there is more: the answer may have told of no message, if
	// all were expunged meanwhile.
	Next mail.UID `json:"next,omitempty"`
}

// Limits of one answer.
const (
	MaxLines = 10000 // messages in one answer, whatever the limit asked for
	MaxSet   = 64 << 10
)

// FlagNames returns the IMAP names of flags, never nil.
func FlagNames(f mail.Flags) []string {
	names := []string{}
	for bit := mail.Seen; bit <= mail.Draft; bit <<= 1 {
		if f.Has(bit) {
			names = append(names, bit.String())
		}
	}
	return names
}

// ParseFlags returns the flags of IMAP names; unknown ones are passed over.
func ParseFlags(names []string) (f mail.Flags) {
	for _, n := range names {
		f |= mail.SystemFlag(n)
	}
	return f
}

// ParseContent reads the hexadecimal form of a content.
func ParseContent(s string) (c move.Content, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(c) {
		return c, fault.Newf(fault.Corrupt, "%q is no hash of a message", s)
	}
	copy(c[:], b)
	return c, nil
}

// Call makes a GET call of the admin interface and returns the body of its answer; answers
// that say that it failed are errors. path begins with /v1/.
type Call func(ctx context.Context, path string) (io.ReadCloser, error)
