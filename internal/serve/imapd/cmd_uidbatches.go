package imapd

import (
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// UIDBATCHES (RFC 10022): UID ranges with so many messages each, the newest first.

const (
	minBatch      = 500     // messages of a batch (RFC 10022, 3.1.3.2)
	maxBatchRange = 100_000 // messages that a range of batches may span (RFC 10022, 3.1.5)

	// batchRounds is how often a client may ask for the batches of all messages before
	// the mailbox has changed by half a batch. The text allows once, and a client that
	// asks in ranges needs more; it is cheap here.
	batchRounds = 50
)

// batchUse is what a client has asked of the batches of the selected mailbox.
type batchUse struct {
	spanned  int64    // messages in the batches it asked for, since the mailbox was
	messages int      // of so many messages
	next     mail.UID // with this UIDNEXT
}

// uidBatches is UIDBATCHES (RFC 10022, 3.1). Ranges lie close together and the last
// one ends at 1, so that a UID without a message is in one, too (RFC 10022, 3.1.4).
func (s *session) uidBatches(cmd *command, args imap.Batches) (reply, error) {
	size, from, to := int64(args.Size), int64(args.From), int64(args.To)
	switch {
	case args.Ranged && from > to:
		return reply{status: "BAD", code: "CLIENTBUG", text: "a range of batches begins with its lower end"}, nil
	case size < minBatch:
		return no("TOOFEW", "a batch has %d messages at least", minBatch), nil
	case args.Ranged && to-from+1 > maxBatchRange/size:
		return no("TOOMANY", "a range of batches may span %d messages", maxBatchRange), nil
	}
	pic := s.view.pic
	if !args.Ranged {
		from, to = 1, int64(pic.Len())/size+1
	}
	if !s.view.batches.allows(pic, size, (to-from+1)*size) {
		return no("LIMIT", "the batches of this mailbox are known and have not changed"), nil
	}
	s.enc.Raw("* UIDBATCHES (TAG ").String(cmd.tag).Raw(")")
	sep := " "
	for high, low := range batches(pic, size, from, to) {
		s.enc.Raw(sep).Number(uint64(high)).Raw(":").Number(uint64(low))
		sep = ","
		if err := s.flushFull(); err != nil {
			return reply{}, err
		}
	}
	s.enc.CRLF()
	return ok("UIDBATCHES done"), nil
}

// batches yields the highest and the lowest UID of the batches from to to, counted
// from 1. Each costs one look-up.
func batches(pic *store.Picture, size, from, to int64) func(yield func(high, low mail.UID) bool) {
	return func(yield func(high, low mail.UID) bool) {
		n := int64(pic.Len())
		lowest := func(i int64) mail.UID { // of the i-th batch
			if first := n - i*size + 1; first > 1 {
				return pic.UID(int(first))
			}
			return 1
		}
		high := pic.Mailbox().UIDNext - 1
		if from > 1 && (from-1)*size < n {
			high = lowest(from-1) - 1
		}
		for i := from; i <= to && (i-1)*size < n; i++ {
			low := lowest(i)
			if !yield(high, low) {
				return
			}
			high = low - 1
		}
	}
}

// allows counts a request and tells whether it may be answered: not if the client has
// asked for the same again and again while the mailbox stayed as it was (RFC 10022,
// 3.1.1 and 6).
func (u *batchUse) allows(pic *store.Picture, size, span int64) bool {
	n, next := pic.Len(), pic.Mailbox().UIDNext
	arrived := int64(next) - int64(u.next)
	gone := int64(u.messages) + arrived - int64(n)
	if arrived > size/2 || gone > size/2 {
		*u = batchUse{messages: n, next: next}
	}
	u.spanned += min(span, int64(n)+size)
	return u.spanned <= batchRounds*(int64(u.messages)+size)
}
