package store

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// A message may lie in several mailboxes at once; to clients that know labels each of
// them is one. The methods here ask and change which mailboxes hold messages.

// placesGap is how many message ids may lie between two messages for one scan to
// read the places of both. Places are short, and most messages have no record of them.
const placesGap = 64

// EachPlaces calls fn for each id in the order given with the mailboxes that hold the
// message, each once, or none if it never left the mailbox it was delivered to: whoever
// found the message there knows. A mailbox may have been deleted. ids in rising order
// are read as few scans. boxes is valid during the call only.
func (s *Snapshot) EachPlaces(ids []mail.MessageID, fn func(i int, boxes []mail.MailboxID) error) error {
	var boxes []mail.MailboxID
	for start := 0; start < len(ids); {
		end := start + 1
		for end < len(ids) && ids[end] > ids[end-1] && ids[end]-ids[end-1] <= placesGap {
			end++
		}
		err := s.run(famPlaces, ids[start:end], func(i int, v []byte) error {
			boxes = boxes[:0]
			if v == nil {
				return fn(start+i, nil)
			}
			list, err := decodePlaces(v)
			if err != nil {
				return err
			}
			for _, p := range list { // in order of mailbox
				if len(boxes) == 0 || boxes[len(boxes)-1] != p.box {
					boxes = append(boxes, p.box)
				}
			}
			return fn(start+i, boxes)
		})
		if err != nil {
			return err
		}
		start = end
	}
	return nil
}

// Labelling is a change of the mailboxes that hold messages.
type Labelling struct {
	Add    []mail.MailboxID // these shall hold them
	Remove []mail.MailboxID // these shall not
	Only   bool             // of all others that the user sees none shall but that in which they are named, and Spare
	Spare  []mail.MailboxID
	// Alone are those of Add that a message leaves all other mailboxes for, that in which
	// it is named too, if it was not there before: the trash.
	Alone []mail.MailboxID
	// Rest takes what would be in no mailbox any more; 0 makes it stay where it is.
	Rest mail.MailboxID

	Flags          []FlagChange // of the messages in the mailbox in which they are named
	UnchangedSince *mail.ModSeq // as in FlagChange
}

// Label changes which mailboxes hold the messages of a set of one mailbox. A message
// that comes into a mailbox keeps its flags and dates. It returns those left alone
// because they changed after UnchangedSince. Faults: NotFound, Denied, OverQuota.
func (tx *Tx) Label(from mail.MailboxID, set mail.UIDSet, c Labelling) (failed mail.UIDSet, err error) {
	src, err := tx.open(from)
	if err != nil {
		return nil, err
	}
	rows, err := tx.rows(src, set)
	if err != nil {
		return nil, err
	}
	var todo mail.UIDSet
	for _, m := range rows {
		if c.UnchangedSince != nil && m.ModSeq > *c.UnchangedSince {
			failed.Add(m.UID)
		} else {
			todo.Add(m.UID)
		}
	}
	for _, f := range c.Flags {
		if _, err := tx.SetFlags(from, todo, f); err != nil {
			return nil, err
		}
	}
	if len(c.Add) == 0 && len(c.Remove) == 0 && !c.Only {
		return failed, nil
	}
	if rows, err = tx.rows(src, todo); err != nil { // with their new flags
		return nil, err
	}
	if err := tx.readPlaces(rows); err != nil {
		return nil, err
	}
	leave := map[mail.MailboxID][]mail.UID{}
	for _, m := range rows {
		if err := tx.labelOne(src, m, &c, leave); err != nil {
			return nil, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(leave)) {
		if _, err := tx.Expunge(id, mail.SetOf(leave[id]...), false); err != nil {
			return nil, err
		}
	}
	return failed, nil
}

// labelOne puts one message where it shall be, and notes in leave what it shall leave.
func (tx *Tx) labelOne(src *txBox, m Message, c *Labelling, leave map[mail.MailboxID][]mail.UID) error {
	list, err := tx.livePlaces(src.ID, m)
	if err != nil {
		return err
	}
	in := func(box mail.MailboxID) bool {
		return slices.ContainsFunc(list, func(p place) bool { return p.box == box })
	}
	alone := false
	for _, box := range c.Add {
		if in(box) {
			continue
		}
		alone = alone || slices.Contains(c.Alone, box)
		if err := tx.copyTo(src, m, box); err != nil {
			return err
		}
	}
	var gone []place
	stays := len(c.Add) > 0
	for _, p := range list {
		leaves := slices.Contains(c.Remove, p.box)
		if alone || c.Only && p.box != src.ID && !slices.Contains(c.Spare, p.box) {
			leaves = leaves || tx.mayLookUp(p.box)
		}
		if leaves && !slices.Contains(c.Add, p.box) {
			gone = append(gone, p)
		} else {
			stays = true
		}
	}
	switch {
	case stays:
	case c.Rest == 0:
		return nil
	case in(c.Rest):
		gone = slices.DeleteFunc(gone, func(p place) bool { return p.box == c.Rest })
	default:
		if err := tx.copyTo(src, m, c.Rest); err != nil {
			return err
		}
	}
	for _, p := range gone {
		leave[p.box] = append(leave[p.box], p.uid)
	}
	return nil
}

// mayLookUp tells whether the user sees a mailbox, which is open.
func (tx *Tx) mayLookUp(box mail.MailboxID) bool {
	return tx.account.Rights(&tx.boxes[box].Mailbox).Has(mail.RightLookup)
}

func (tx *Tx) copyTo(src *txBox, m Message, box mail.MailboxID) error {
	dst, err := tx.open(box)
	if err == nil {
		err = cmp.Or(tx.need(dst, mail.RightInsert), tx.Accepts(box))
	}
	if err == nil {
		_, err = tx.transferOne(src, dst, m, false)
	}
	return err
}

// livePlaces returns where a message of a mailbox lies, deleted mailboxes apart.
func (tx *Tx) livePlaces(box mail.MailboxID, m Message) ([]place, error) {
	list, err := tx.placesFrom(box, m)
	if err != nil {
		return nil, err
	}
	var bad error
	list = slices.DeleteFunc(list, func(p place) bool {
		_, err := tx.open(p.box)
		if err != nil && !fault.Is(err, fault.NotFound) {
			bad = err
		}
		return err != nil
	})
	return list, bad
}

// Label is Tx.Label for a set of any size. plan says what to change, in the Update that
// changes it; it may name so many mailboxes. A very large set takes several Updates.
func (a *Account) Label(ctx context.Context, from mail.MailboxID, set mail.UIDSet, mailboxes int, plan func(*Tx) (Labelling, error)) (failed mail.UIDSet, err error) {
	parts, err := a.copyPortions(ctx, from, set, bulkMessages/max(mailboxes, 1))
	if err != nil {
		return nil, err
	}
	for _, part := range parts {
		var f mail.UIDSet
		err := a.Update(ctx, func(tx *Tx) error {
			c, err := plan(tx)
			if err == nil {
				f, err = tx.Label(from, part, c)
			}
			return err
		})
		if err != nil {
			return merged(failed), err
		}
		failed = append(failed, f...)
	}
	return merged(failed), nil
}
