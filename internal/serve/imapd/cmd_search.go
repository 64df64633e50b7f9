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
	cmd.numbers = cmd.uid && usesNumbers(&args.Key)
	if usesModSeq(&args.Key) {
		s.enableCondstore()
	}
	found, err := s.search(&args.Key)
	if err != nil {
		s.unsave(&args, err)
		return reply{}, err
	}
	if !args.Extended && !s.rev2 {
		err = s.tellSearch(cmd, &args, found)
	} else {
		err = s.tellESearch(cmd, &args, found)
	}
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
	for uid := range found.All() {
		s.enc.SP().Number(s.number(cmd, uid))
		if err := s.flushFull(); err != nil {
			return err
		}
	}
	if usesModSeq(&args.Key) && !found.IsEmpty() {
		s.enc.Raw(" (MODSEQ ").Number(s.highest(found)).Raw(")")
	}
	s.enc.CRLF()
	return nil
}

// highest returns the highest modseq of messages.
func (s *session) highest(set mail.UIDSet) uint64 {
	var most mail.ModSeq
	for _, m := range s.view.pic.Messages(set) {
		most = max(most, m.ModSeq)
	}
	return uint64(most)
}

// tellESearch writes the ESEARCH response (RFC 9051, 7.3.4) and saves the result if
// that was asked for.
func (s *session) tellESearch(cmd *command, args *imap.Search, found mail.UIDSet) error {
	ret := args.Return
	if ret == 0 {
		ret = imap.ReturnAll
	}
	// Of MIN and MAX alone only these are returned, saved and counted for MODSEQ
	// (RFC 9051, 6.4.4.2; RFC 7162, 3.1.10).
	about := found
	if ends := ret & (imap.ReturnMin | imap.ReturnMax); ends != 0 && ret&(imap.ReturnAll|imap.ReturnCount) == 0 && !found.IsEmpty() {
		about = nil
		if ends&imap.ReturnMin != 0 {
			about.Add(lowest(found))
		}
		if ends&imap.ReturnMax != 0 {
			about.Add(topmost(found))
		}
	}
	if ret&imap.ReturnSave != 0 {
		if s.saved = about; ret == imap.ReturnSave {
			return nil
		}
	}
	e := s.enc
	e.Raw("* ESEARCH (TAG ").String(cmd.tag).Raw(")")
	if cmd.uid {
		e.Raw(" UID")
	}
	if !found.IsEmpty() {
		if ret&imap.ReturnMin != 0 {
			e.Raw(" MIN ").Number(s.number(cmd, lowest(found)))
		}
		if ret&imap.ReturnMax != 0 {
			e.Raw(" MAX ").Number(s.number(cmd, topmost(found)))
		}
		if ret&imap.ReturnAll != 0 {
			all := found
			if !cmd.uid {
				all = s.view.seqSet(found)
			}
			e.Raw(" ALL ").UIDs(all)
		}
	}
	if ret&imap.ReturnCount != 0 {
		e.Raw(" COUNT ").Number(uint64(found.Len()))
	}
	if usesModSeq(&args.Key) && !found.IsEmpty() {
		e.Raw(" MODSEQ ").Number(s.highest(about))
	}
	e.CRLF()
	return nil
}

func lowest(set mail.UIDSet) mail.UID  { return set[0].From }
func topmost(set mail.UIDSet) mail.UID { return set[len(set)-1].To }
