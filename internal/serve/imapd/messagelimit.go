package imapd

import (
	"fmt"
	"iter"
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// MESSAGELIMIT and SAVELIMIT (RFC 9738): how many messages one command may deal with.
// Of more it deals with those that have the highest UIDs, and tells the lowest one.
// EXPUNGE, CLOSE and STATUS know no limit.

// limitCaps returns the words that announce the limits (RFC 9738, 3).
func (o *Options) limitCaps() (words []string) {
	if o.MessageLimit > 0 {
		words = append(words, fmt.Sprintf("MESSAGELIMIT=%d", o.MessageLimit))
	}
	if o.SaveLimit > 0 {
		words = append(words, fmt.Sprintf("SAVELIMIT=%d", o.SaveLimit))
	}
	return words
}

// saveLimit is how many messages COPY may copy and APPEND append; 0: no limit.
func (o *Options) saveLimit() int {
	if o.SaveLimit == 0 || o.MessageLimit > 0 && o.MessageLimit < o.SaveLimit {
		return o.MessageLimit
	}
	return o.SaveLimit
}

// withinLimit returns the messages of a set that fit into a limit, those with the highest
// UIDs. If they are not all, lowest is the lowest UID among them. A limit of 0 is none.
func withinLimit(pic *store.Picture, set mail.UIDSet, limit int) (kept mail.UIDSet, lowest mail.UID) {
	if limit == 0 {
		return set, 0
	}
	there := pic.Existing(set)
	if there.Len() <= limit {
		return set, 0
	}
	kept = page(there, imap.PartialRange{From: 1, To: uint32(limit), FromEnd: true})
	return kept, kept[0].From
}

// limit cuts a set down to what the command may deal with.
func (s *session) limit(cmd *command, set mail.UIDSet) mail.UIDSet {
	set, cmd.lowest = withinLimit(s.view.pic, set, s.srv.opt.MessageLimit)
	return set
}

// limitDeleted is limit for UID EXPUNGE, where messages with \Deleted count.
func (s *session) limitDeleted(cmd *command, set mail.UIDSet) (mail.UIDSet, error) {
	if s.srv.opt.MessageLimit == 0 {
		return set, nil
	}
	now, err := s.view.acct.Picture(s.ctx, s.view.box)
	if err != nil {
		return nil, err
	}
	var deleted mail.UIDSet
	for _, m := range now.Messages(set) {
		if m.Flags.Has(mail.Deleted) {
			deleted.Add(m.UID)
		}
	}
	set, cmd.lowest = withinLimit(now, deleted, s.srv.opt.MessageLimit)
	return set, nil
}

// overLimit tells whether a page of results is larger than one command may deal with
// (RFC 9738, 3.1: then nothing is done).
func (s *session) overLimit(p imap.PartialRange) bool {
	n := int64(s.srv.opt.MessageLimit)
	return n > 0 && int64(p.To)-int64(p.From)+1 > n
}

// tooMany is the error of a command that has to deal with all messages or none.
func tooMany(limit int) error { return tooManyFrom(limit, 0) }

// tooManyFrom is tooMany, where lowest, unless 0, is the lowest UID that would fit.
func tooManyFrom(limit int, lowest mail.UID) error {
	code := fmt.Sprintf("MESSAGELIMIT %d", limit)
	if lowest > 0 {
		code += fmt.Sprintf(" %d", lowest)
	}
	return coded(code, fault.Newf(fault.Limited, "one command may deal with %d messages", limit))
}

// noteLimit tells in a reply how far the command got. Another code keeps its place
// there (RFC 9738, 3.1).
func (s *session) noteLimit(cmd *command, rep *reply) {
	if cmd.lowest == 0 || rep.status != "OK" {
		return
	}
	n := s.srv.opt.MessageLimit
	code := fmt.Sprintf("MESSAGELIMIT %d %d", n, cmd.lowest)
	if rep.code == "" {
		rep.code, rep.text = code, fmt.Sprintf("%s done for the last %d messages", cmd.row.name, n)
		return
	}
	s.note("NO", code, "the rest was left out")
}

// inOrder yields messages of the selected mailbox: with rising UIDs, or, if the command
// has been cut short, from the highest one down (RFC 9738, 3.1).
func (s *session) inOrder(cmd *command, set mail.UIDSet) iter.Seq2[int, store.Message] {
	all := s.view.pic.Messages(set)
	if cmd.lowest == 0 {
		return all
	}
	type row struct {
		seq int
		m   store.Message
	}
	var rows []row
	for seq, m := range all {
		rows = append(rows, row{seq, m})
	}
	return func(yield func(int, store.Message) bool) {
		for _, r := range slices.Backward(rows) {
			if !yield(r.seq, r.m) {
				return
			}
		}
	}
}

// fromTheEnd yields the UIDs of a set from the highest one down.
func fromTheEnd(set mail.UIDSet) iter.Seq[mail.UID] {
	return func(yield func(mail.UID) bool) {
		for _, r := range slices.Backward(set) {
			for uid := r.To; ; uid-- {
				if !yield(uid) {
					return
				}
				if uid == r.From {
					break
				}
			}
		}
	}
}
