// Package trace keeps the story of each message: where it came from and how, what was
// made of it, where it went, and what every host answered. It is for the people who ask
// where a message is.
//
// A Book is a folder of segments, one line of JSON for each event, in order of time. A
// segment that is full is compressed; the oldest goes when it is too old or all of them
// are too large. Events are written within a second or so and not synced: a story may lack
// its end after a crash, mail does not depend on it. An event that cannot be written is
// lost, and the log says so.
//
// The package decides nothing, reads no message and knows no protocol.
package trace

import (
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What happened.
type What string

const (
	Received What = "received" // a message was taken in; Recipients say where it went at once
	Refused  What = "refused"  // a recipient or a whole message was not taken; Code and Text say why
	Attempt  What = "attempt"  // the queue tried; Recipients say what came of it
	GivenUp  What = "given up" // its time in the queue was over
	Report   What = "report"   // a report went to the sender
	Changed  What = "changed"  // an administrator or its owner changed it in the queue; Text says how
)

// Event is one line of a story. Its JSON is public interface.
type Event struct {
	At        time.Time   `json:"at"`
	What      What        `json:"event"`
	ID        string      `json:"id,omitempty"`         // of the reception, as its reply and its Received field have it
	Queue     string      `json:"queue_id,omitempty"`   // of the message in the queue
	MessageID string      `json:"message_id,omitempty"` // without angle brackets
	From      string      `json:"from,omitempty"`       // the envelope's sender; "<>" for nobody
	Author    string      `json:"author,omitempty"`     // the first address of the From field
	Subject   string      `json:"subject,omitempty"`
	Login     string      `json:"login,omitempty"`
	Peer      string      `json:"peer,omitempty"` // IP address
	Helo      string      `json:"helo,omitempty"`
	Protocol  string      `json:"protocol,omitempty"` // as in RFC 3848
	TLS       string      `json:"tls,omitempty"`
	Size      int64       `json:"bytes,omitempty"`
	Verdict   string      `json:"verdict,omitempty"` // what checks found, as in Authentication-Results
	Action    string      `json:"action,omitempty"`  // what the verdict led to, with the reason
	Signed    string      `json:"signed,omitempty"`  // domain and selectors of our signatures
	Attempts  int         `json:"attempts,omitempty"`
	Code      int         `json:"code,omitempty"`
	Enhanced  string      `json:"enhanced,omitempty"`
	Text      string      `json:"text,omitempty"`
	To        []Recipient `json:"recipients,omitempty"`
	More      int         `json:"more_recipients,omitempty"` // that are not listed
}

// Recipient is what became of the message for one address.
type Recipient struct {
	Address  string     `json:"address"`
	For      string     `json:"for,omitempty"` // what the sender wrote, if an alias led here
	State    State      `json:"state"`
	Mailbox  string     `json:"mailbox,omitempty"`
	Queue    string     `json:"queue_id,omitempty"`
	Code     int        `json:"code,omitempty"`
	Enhanced string     `json:"enhanced,omitempty"`
	Text     string     `json:"text,omitempty"` // the host's words if Host is set, else ours
	Host     string     `json:"host,omitempty"`
	At       string     `json:"host_address,omitempty"`
	TLS      string     `json:"tls,omitempty"`
	Next     *time.Time `json:"next_attempt,omitempty"`
}

// State says how far it is.
type State string

const (
	Delivered State = "delivered" // in a mailbox here
	Sent      State = "sent"      // the next host has it
	Queued    State = "queued"    // it waits for its first attempt
	Waiting   State = "waiting"   // it waits for another
	Failed    State = "failed"    // for good
)

// maxRecipients of one event are listed; the queue has them all.
const maxRecipients = 100

// Options of a Book. FS, Dir and Now must be given.
type Options struct {
	FS    vfs.FS
	Dir   string        // is made if it is not there; no two books may share one
	Keep  time.Duration // age at which segments go
	Bytes int64         // of all segments, compressed; the oldest go
	Now   func() time.Time
	Log   *slog.Logger // nil: discard
}

// segmentSize is how large a segment grows before the next begins, and bufferSize how
// much is held back at most, in bytes.
const (
	segmentSize = 16 << 20
	bufferSize  = 64 << 10
)

// Book keeps stories. It may be used by many goroutines. A nil Book keeps none.
type Book struct {
	opt Options

	mu      sync.Mutex
	segment vfs.File // nil: the next event opens one
	name    string
	began   time.Time
	size    int64
	buf     []byte
	broken  bool // told so already
	lost    int  // events since then

	pressing sync.Mutex // one at a time compresses and prunes
}

// Open returns the book of a folder, which it makes if need be. Every opening begins a new
// segment.
func Open(o Options) (*Book, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	return &Book{opt: o}, nil
}
