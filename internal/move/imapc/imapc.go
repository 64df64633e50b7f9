// Package imapc is an IMAP client for servers of every kind: it connects, signs in, reads
// mailboxes in bulk and changes them.
//
// It is made to move much mail fast and to live through what servers do: commands are
// pipelined, messages are streamed from the socket to who wants them and never held, and
// what a server says is bounded in memory and depth. Extensions are used where they are
// offered and done without where they are not. Mailboxes go by their names on the wire in
// modified UTF-7, whatever they hold, so that a name that is wrong can be named too.
//
// A Client is used by one goroutine at a time and has none of its own. It does not connect
// again by itself, keeps no mail, decides nothing about which mail is wanted, and knows no
// accounts: imapsource and those who write to other servers do.
//
// RFC 3501 and 9051 (IMAP4rev1, rev2), 8314 (TLS), 2177 (IDLE), 2342 (NAMESPACE), 2971 (ID),
// 3502 (MULTIAPPEND), 4315 (UIDPLUS), 4731 (ESEARCH), 4959 (SASL-IR), 4978 (COMPRESS), 5161
// (ENABLE), 5258, 5819, 6154 and 8438 (LIST, its STATUS, roles, SIZE), 6851 (MOVE), 6855
// (UTF8), 7162 (CONDSTORE, QRESYNC), 7628 (OAUTHBEARER), 7677 (SCRAM), 7888 (LITERAL+);
// X-GM-EXT-1 and XLIST of Gmail.
package imapc

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Security says how the line is protected.
type Security uint8

const (
	TLS        Security = iota // from the first byte (RFC 8314, 3.2)
	StartTLS                   // by STARTTLS, or nothing is done
	OfferedTLS                 // by STARTTLS if the server offers it
)

// Compression says when COMPRESS=DEFLATE is used where it is offered (RFC 4978).
type Compression uint8

const (
	CompressFar Compression = iota // unless the server is on this machine
	CompressNever
	CompressAlways
)

// Options sets up a connection. Host, Dial, Now and Random must be set.
type Options struct {
	Host     string // a name, or an address; certificates must bear it
	Port     uint16 // 0: 993 with TLS, else 143
	Security Security
	Roots    *x509.CertPool // nil: the system's
	// Insecure: any certificate will do, and a password may go over a line in the clear. Else
	// it goes in the clear to this machine only.
	Insecure bool
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	Now      func() time.Time // for certificates
	Random   io.Reader        // of what nobody may guess
	Timeout  time.Duration    // without a byte; 0: a minute
	Compress Compression
	Version  string // of Martlet, for ID; "" does not send it
	// Mark is what the server is told once somebody is signed in, in the field MarkField of ID.
	// A server that knows it as its own refuses: Denied. nil: nothing.
	Mark func() (string, error)
	// Trace is told of every line but those of a login and the bytes of messages; nil: nobody.
	Trace func(sent bool, line string)
}

// MarkField is the field of ID that has Options.Mark.
const MarkField = "x-martlet-mark"

// Credentials prove who somebody is.
type Credentials struct {
	User     string
	Password string
	Token    string // an OAuth access token, used instead of a password (RFC 7628)
	Authz    string // whose mail is meant if it is not User's own (RFC 4616, "authzid")
	// Mechanism is the one SASL mechanism to use, or "LOGIN" for the command; "": the best
	// both sides know. "XLOGIN" is the mechanism LOGIN.
	Mechanism string
}

// Mailbox is what LIST says of a mailbox.
type Mailbox struct {
	Wire       string    // its name as commands take it: modified UTF-7 with the server's separator, or whatever it is
	Name       string    // in UTF-8 with the server's separator; Wire if that is not valid
	Separator  byte      // between levels; 0: the name is flat
	Role       mail.Role // by SPECIAL-USE or XLIST
	NoSelect   bool      // it holds no messages, or does not exist
	NoChildren bool      // none may be made in it
	Subscribed bool
	Attributes []string // all of them, as sent
	Status     *Status  // if it was asked for and the server told
}

// Status is what STATUS says. What the server does not tell is 0, Size -1.
type Status struct {
	Messages    uint32
	UIDNext     uint32
	UIDValidity uint32
	Unseen      uint32
	ModSeq      uint64
	Size        int64 // bytes (RFC 8438)
}

// Namespace is a prefix of mailboxes and its separator (RFC 2342).
type Namespace struct {
	Prefix    string // modified UTF-7
	Separator byte
}

// Namespaces are those of the user, of other users, and of all.
type Namespaces struct{ Personal, Others, Shared []Namespace }

// Selected is what SELECT and EXAMINE say.
type Selected struct {
	Exists      uint32
	UIDValidity uint32
	UIDNext     uint32
	ModSeq      uint64 // HIGHESTMODSEQ; 0: none is kept for this mailbox
	ReadOnly    bool
	Keywords    bool         // new ones may be made
	Permanent   mail.Flags   // flags that may be changed for good
	Vanished    mail.UIDSet  // since Resync, before the mailbox was selected
	Changed     []ChangedUID // since Resync
	Resynced    bool         // Vanished and Changed are complete: the server knows QRESYNC
}

// ChangedUID is the flags of a message that changed.
type ChangedUID struct {
	UID      mail.UID
	Flags    mail.Flags
	Keywords []string
	ModSeq   uint64
}

// Resync asks SELECT for what has changed (RFC 7162, 3.2.5).
type Resync struct {
	UIDValidity uint32
	ModSeq      uint64
	Known       mail.UIDSet // UIDs that are known; empty: all may be
}

// Select is how a mailbox is opened.
type Select struct {
	ReadOnly bool // EXAMINE
	Since    *Resync
}

// Query says what FETCH is to ask for. UIDs are always given.
type Query struct {
	UIDs         mail.UIDSet
	Flags        bool
	Date         bool // INTERNALDATE
	Size         bool // RFC822.SIZE
	ModSeq       bool
	MessageID    bool // of the header
	Body         bool // all of the message, without setting \Seen
	Gmail        bool // X-GM-MSGID, X-GM-THRID, X-GM-LABELS
	ChangedSince uint64
	Vanished     bool // with ChangedSince: News.Vanished tells of what is gone (QRESYNC)
}

// Message is what FETCH gave of one. It is valid until the function it was given to returns.
type Message struct {
	Seq       uint32
	UID       mail.UID // 0 if the server did not say it before the body of a message that is too large to be held
	HasFlags  bool
	Flags     mail.Flags
	Keywords  []string
	Date      time.Time // zero if not known
	Size      int64     // as the server says, which may be a lie; -1: not known
	ModSeq    uint64
	MessageID string // without brackets
	GmailID   uint64
	Thread    uint64
	Labels    []string // in UTF-8; `\Inbox` and such are words of Gmail

	// Body is the message as it comes from the socket, nil if the server gave none. What is
	// not read of it is thrown away.
	Body io.Reader
	// BodySize is how many bytes the server says it sends.
	BodySize int64
}

// News is what a server tells unasked of the selected mailbox.
type News struct {
	Exists   uint32 // there are so many messages now; 0: nothing was said of it
	Expunged uint32 // this sequence number is gone
	Vanished mail.UIDSet
	Fetch    *Message // flags of this one have changed
}

// Appending is a message for Append.
type Appending struct {
	Flags    mail.Flags
	Keywords []string
	Date     time.Time // zero: now
	Size     int64     // exact
	Body     io.Reader // read once; lines must end in CRLF
}

// Copied tells where messages went: From[i] became To[i]. Empty if the server does not say
// (RFC 4315).
type Copied struct {
	UIDValidity uint32
	From, To    []mail.UID
	Done        mail.UIDSet // what is in the other mailbox, whether its UID there is known or not
	Left        mail.UIDSet // what of Done is in the first one all the same, marked \Deleted or not
}
