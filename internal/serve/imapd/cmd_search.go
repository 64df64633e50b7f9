package imapd

import (
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// searchCommand is SEARCH and UID SEARCH (RFC 9051, 6.4.4; RFC 3501, 6.4.4; RFC 4731
// for ESEARCH, RFC 5182 for what SAVE keeps).
func (s *session) searchCommand(cmd *command) (reply, error) {
	var args imap.Search
	if !s.dec.ExpectSP() || !s.dec.ExpectSearch(&args) || !s.dec.ExpectCRLF() {
		s.unsave(&args, s.dec.Err())
		return reply{}, s.dec.Err()
	}
	if s.utf8 && args.Charset != "" { // RFC 6855, 3
		return bad("after ENABLE UTF8=ACCEPT a SEARCH names no charset"), nil
	}
	cmd.finds, cmd.numbers = true, cmd.uid && usesNumbers(&args.Key)
	if s.tagInUse(cmd, &args) {
		return bad("updates are told under this tag already"), nil
	}
	if usesModSeq(&args.Key) {
		s.enableCondstore()
	}
	found, err := s.findFor(s.view, &args)
	cmd.missed = found.missed
	if err != nil {
		s.unsave(&args, err)
		return reply{}, err
	}
	cmd.lowest = found.lowest
	update := s.beginUpdate(cmd, s.view, &args, nil, &found)
	if !args.Extended && !s.rev2 {
		err = s.tellSearch(cmd, &args, found.set)
	} else {
		err = s.tellESearch(cmd, &args, &found)
	}
	s.keepUpdated(cmd, &args, update)
	return ok(cmd.row.name + " done"), err
}

// unsave forgets the saved result if a SEARCH that was to save one is answered NO; a
// BAD one leaves it (RFC 9051, 6.4.4.1).
func (s *session) unsave(args *imap.Search, err error) {
	if args.Return&imap.ReturnSave != 0 && !isMisuse(err) && !fault.Is(err, fault.Invalid) {
		s.saved = nil
	}
}

func usesModSeq(k *imap.SearchKey) bool {
	for i := range k.Keys {
		if usesModSeq(&k.Keys[i]) {
			return true
		}
	}
	return k.Op == imap.SearchModSeq
}

// usesNumbers tells whether a program has message sequence numbers in it.
func usesNumbers(k *imap.SearchKey) bool {
	return k.Op == imap.SearchSeq && !k.Set.Saved || slices.ContainsFunc(k.Keys, func(k imap.SearchKey) bool { return usesNumbers(&k) })
}

// number is how the client is told of a message.
func (s *session) number(cmd *command, uid mail.UID) uint64 {
	if cmd.uid {
		return uint64(uid)
	}
	return uint64(s.view.seq(uid))
}

// tellSearch writes the SEARCH response of IMAP4rev1 (RFC 3501, 7.2.5; RFC 7162,
// 3.1.5 for its MODSEQ).
func (s *session) tellSearch(cmd *command, args *imap.Search, found mail.UIDSet) error {
	s.enc.Raw("* SEARCH")
	uids := found.All()
	if cmd.lowest > 0 { // RFC 9738, 3.1
		uids = fromTheEnd(found)
	}
	for uid := range uids {
		s.enc.SpaceNumber(s.number(cmd, uid))
		if err := s.flushFull(); err != nil {
			return err
		}
	}
	if usesModSeq(&args.Key) && !found.IsEmpty() {
		s.enc.Raw(" (MODSEQ ").Number(highest(s.view, found)).Raw(")")
	}
	s.enc.CRLF()
	return nil
}

// highest returns the highest modseq of messages.
func highest(v *view, set mail.UIDSet) uint64 {
	var most mail.ModSeq
	for _, m := range v.pic.Messages(set) {
		most = max(most, m.ModSeq)
	}
	return uint64(most)
}
