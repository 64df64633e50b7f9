package store

import (
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

// A log record has one line per kind of change that a commit made in a mailbox.
// Mailbox 0 stands for the account: mailboxes made, renamed, deleted, subscribed.

func (c *Changes) encode() []byte {
	e := enc(c.Arrived.AppendBinary(nil))
	e = c.Changed.AppendBinary(e)
	e = c.Expunged.AppendBinary(e)
	return seal(recLog, e)
}

// merge adds the lines of a log record.
func (c *Changes) merge(b []byte) error {
	p, err := unseal(recLog, b)
	if err != nil {
		return err
	}
	for _, set := range [...]*mail.UIDSet{&c.Arrived, &c.Changed, &c.Expunged} {
		var s mail.UIDSet
		if s, p, err = mail.ParseBinaryUIDSet(p); err != nil {
			return fault.Wrap(fault.Corrupt, "a stored log record is broken", err)
		}
		for _, r := range s {
			set.AddRange(r.From, r.To)
		}
	}
	return nil
}

// changes reads the log of a mailbox after since.
func changes(r engine.Reader, box *Mailbox, since mail.ModSeq) (Changes, error) {
	c := Changes{Complete: since >= box.LogFloor}
	if since >= box.HighestModSeq {
		return c, nil
	}
	from := engine.Key(famLog, uint64(box.ID), uint64(since)+1)
	var bad error
	err := r.Scan(from, engine.Key(famLog, uint64(box.ID)+1), false, func(_, v []byte) bool {
		bad = c.merge(v)
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	return c, err
}
