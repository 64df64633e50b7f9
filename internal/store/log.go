package store

import (
	"cmp"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Changes is what the log says of one mailbox since a modseq, merged.
type Changes struct {
	Arrived  mail.UIDSet // came in, and may be gone again by now
	Changed  mail.UIDSet // flags or keywords
	Expunged mail.UIDSet
	// Complete is false if the log was trimmed later than the modseq asked for:
	// then compare in full.
	Complete bool
}

func (c *Changes) isEmpty() bool {
	return c.Arrived.IsEmpty() && c.Changed.IsEmpty() && c.Expunged.IsEmpty()
}

// A log record has one line per kind of change that a commit made in a mailbox. One that
// changed no message, but the mailbox's name or its like, has none: it is there for its stamp.
// Mailbox 0 stands for the account: mailboxes made, renamed, deleted, subscribed.

func (c *Changes) encode(stamp uint32) []byte {
	var e enc
	kind := recLog
	if stamp != 0 {
		kind = recStampedLog
		e.U(uint64(stamp))
	}
	e = enc(c.Arrived.AppendBinary(e))
	e = c.Changed.AppendBinary(e)
	e = c.Expunged.AppendBinary(e)
	return seal(kind, e)
}

// openLog returns the stamp of a log record, 0 if it has none, and the sets that follow.
func openLog(b []byte) (stamp uint32, sets []byte, err error) {
	if len(b) > 0 && b[0] == recLog {
		sets, err = unseal(recLog, b)
		return 0, sets, err
	}
	p, err := unseal(recStampedLog, b)
	if err != nil {
		return 0, nil, err
	}
	d := dec{Rest: p}
	stamp = uint32(d.U())
	return stamp, d.Rest, d.Err("log")
}

// gathering is Changes under way: ranges are put in order from time to time and not
// one by one, so that a long log costs O(n log n) in what it names and no more memory
// than twice what comes of it.
type gathering struct {
	sets [3]mail.UIDSet // arrived, changed, expunged
	full [3]int         // length at which a set is put in order
}

const gatherAtOnce = 4096 // ranges

// add adds the lines of a log record.
func (g *gathering) add(b []byte) error {
	_, p, err := openLog(b)
	if err != nil {
		return err
	}
	for i := range g.sets {
		var s mail.UIDSet
		if s, p, err = mail.ParseBinaryUIDSet(p); err != nil {
			return fault.Wrap(fault.Corrupt, "a stored log record is broken", err)
		}
		if g.sets[i] = append(g.sets[i], s...); len(g.sets[i]) > g.full[i]+gatherAtOnce {
			g.sets[i] = ordered(g.sets[i])
			g.full[i] = 2 * len(g.sets[i])
		}
	}
	return nil
}

// ordered makes a set of ranges in any order.
func ordered(ranges []mail.Range) mail.UIDSet {
	slices.SortFunc(ranges, func(a, b mail.Range) int { return cmp.Compare(a.From, b.From) })
	return merged(ranges)
}

// changes reads the log of a mailbox after since.
func changes(r engine.Reader, box *Mailbox, since mail.ModSeq) (Changes, error) {
	c := Changes{Complete: since >= box.LogFloor}
	if since >= box.HighestModSeq {
		return c, nil
	}
	from := engine.Key(famLog, uint64(box.ID), uint64(since)+1)
	var bad error
	var g gathering
	err := r.Scan(from, engine.Key(famLog, uint64(box.ID)+1), false, func(_, v []byte) bool {
		bad = g.add(v)
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	c.Arrived, c.Changed, c.Expunged = ordered(g.sets[0]), ordered(g.sets[1]), ordered(g.sets[2])
	return c, err
}
