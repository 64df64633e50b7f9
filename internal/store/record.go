package store

import (
	"cmp"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// Key families of an account's shard. docs/schema.md describes each.
const (
	famAccount  = 'a' // the account record
	famBody     = 'b' // message id -> body, compressed, if it is a small one
	famPlaces   = 'c' // message id -> where it lies, once it is not just at home
	famDoomed   = 'd' // mailbox id -> deleted, its messages not all released yet
	famMeta     = 'e' // mailbox id, reader, entry name -> annotation; without id their size
	famFacts    = 'f' // message id -> facts
	famGrams    = 'g' // message id -> what a search noted; without id: there are such records
	famHeader   = 'h' // message id -> first bytes of the message, compressed
	famOnce     = 'i' // idempotency key -> when it was used
	famKeys     = 'j' // message id -> what SORT, THREAD and SEARCH SUBJECT look at
	famURLKey   = 'k' // mailbox id, user -> key that signs URLs
	famLog      = 'l' // mailbox id, modseq -> what changed
	famMailbox  = 'm' // mailbox id -> mailbox record
	famName     = 'n' // mailbox name -> mailbox id
	famSharer   = 'o' // account that has shared a mailbox with this one
	famPage     = 'p' // mailbox id, page number -> page
	famMarks    = 'q' // mailbox id, sheet number -> flags, keywords and modseqs of its messages
	famSub      = 's' // subscribed name
	famThread   = 't' // hash of a Message-ID -> thread id
	famGuest    = 'v' // mailbox id, guest -> how many messages the guest has seen
	famSeen     = 'w' // mailbox id, chunk, guest -> which of them
	famNote     = 'x' // mailbox id, UID, reader, entry name -> annotation of a message
	famPiece    = 'y' // family, id, number -> the rest of a long record
	famBrief    = 'z' // mailbox id, kind, page number -> what clients ask of all messages, page by page
	famOrigin   = 'r' // UID of a deleted message that is kept -> where it lay
	famLost     = 'u' // mailbox id -> name and role of a deleted mailbox, of which messages are kept
	famDraft    = 'D' // hash of a Message-ID -> UID, message id of the newest deleted draft that is kept
	famBirth    = 'B' // which of the accounts that were made under its id it is
	famTie      = 'I' // mailbox elsewhere, key there -> message that was brought
	famTiedBox  = 'J' // mailbox elsewhere -> what is known of it
	famRegistry = 'A' // (registry shard) account id
	famOpen     = 'O' // (registry shard) account that has shared a mailbox with anyone
	famKeepTime = 'T' // (registry shard) the time by which deleted mail is kept
	famSweeping = 'S' // (registry shard) the time by which the sweep goes
)

// The first byte of every record: what it is and in which version.
const (
	recAccount byte = iota + 1
	recMailbox
	recPage
	recFacts
	recHeader
	recLog
	recPlaces
	recName
	recSub
	recThread
	recOnce
	recDoomed
	recRegistry
	recParcel
	recMeta
	recMetaSize
	recURLKey
	recSharedMailbox
	recSharer
	recGuest
	recSeen
	recBody
	recNotedMailbox
	recNote
	recGrams
	recRows           // a page without what is in marks
	recMarks          // what changes of the messages on a sheet
	recLeanFacts      // facts without what is in keys
	recKeys           // what SORT, THREAD and SEARCH SUBJECT look at
	recBrief          // one such thing of the messages of a page
	recKeepingAccount // an account that has a mailbox of deleted mail
	recOrigin         // where a deleted message lay
	recLost           // a mailbox that was deleted
	recDraft          // a deleted draft
	recKeptDoomed     // a deleted mailbox whose messages are kept
	recKeepTime       // readings of the clock
	recSteadyTime     // the same, and for how long it has gone steadily
	recTie            // a message that was brought from elsewhere
	recTiedBox        // a mailbox elsewhere
	recStampedMailbox // a mailbox with the stamp of its last change
	recStampedLog     // what changed, and the stamp
	recBirth          // which account of its id it is
	recEnd            // not a record: one more than the last
)

// Records that are in no account and in no backup.
const (
	recOccupancy     byte = iota + 240 // who has an account to himself
	recHold                            // who keeps bodies from being swept
	recCrossing                        // messages that went from one account to another
	recHeldOccupancy                   // who has an account to himself, and who that is
	recBesideEnd                       // not a record: one more than the last
)

// The numbers and strings of a record.
type (
	enc = record.Enc
	dec = record.Dec
)

func seal(kind byte, payload []byte) []byte { return record.Seal(kind, payload) }

// unseal checks kind and checksum and returns the payload, which aliases b.
func unseal(kind byte, b []byte) ([]byte, error) {
	found, payload, err := record.Open(b)
	if err == nil {
		err = newer(found)
	}
	if err == nil && found != kind {
		err = fault.Newf(fault.Corrupt, "a stored record has kind %d, not %d", found, kind)
	}
	return payload, err
}

// newer returns a fault of kind Unsupported if only a newer program can have written a kind of
// records. One that is whole and of such a kind is not damaged.
func newer(kind byte) error {
	if kind < recEnd || kind >= recOccupancy && kind < recBesideEnd || kind == recLong {
		return nil
	}
	return fault.Newf(fault.Unsupported, "a stored record has kind %d, which this program does not know; start a newer one", kind)
}

// allKnown returns a fault of kind Unsupported if there is a record that only a newer program
// can have written: nothing is to be mended by who does not know what it says.
func allKnown(r engine.Reader) (err error) {
	scanned := r.Scan(nil, nil, false, func(k, v []byte) bool {
		if kind, _, damaged := record.Open(v); damaged == nil && k[0] != famPiece {
			err = newer(kind)
		}
		return err == nil
	})
	return cmp.Or(scanned, err)
}

// Keys that several files make.

func pageKey(box mail.MailboxID, number uint64) []byte {
	return engine.Key(famPage, uint64(box), number)
}
func doomedKey(box mail.MailboxID) []byte { return engine.Key(famDoomed, uint64(box)) }
func keyNum(key []byte, i int) uint64     { return engine.Num(key, i) }
