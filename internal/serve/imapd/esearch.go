package imapd

import (
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// findFor searches a mailbox with the arguments of SEARCH or SORT.
func (s *session) findFor(v *view, args *imap.Search) (finding, error) {
	if args.Return&imap.ReturnRelevancy != 0 && !usesFuzzy(&args.Key) {
		return finding{}, misuse(fault.New(fault.Invalid, "RELEVANCY needs a FUZZY search key"))
	}
	if args.Return&imap.ReturnPartial != 0 && s.overLimit(args.Partial) {
		return finding{}, tooMany(s.srv.opt.MessageLimit)
	}
	if err := s.fillFilters(args); err != nil {
		return finding{}, err
	}
	return s.find(v, &args.Key)
}

// first and last return the ends of what was found, which must not be empty.
func (f *finding) first() mail.UID {
	if f.order != nil {
		return f.order[0]
	}
	return f.set[0].From
}

func (f *finding) last() mail.UID {
	if f.order != nil {
		return f.order[len(f.order)-1]
	}
	return f.set[len(f.set)-1].To
}

// page returns a part of the results.
func (f *finding) page(p imap.PartialRange) finding {
	if f.order == nil {
		return finding{set: page(f.set, p), scores: f.scores}
	}
	from, to := p.Of(len(f.order))
	part := f.order[from:to]
	return finding{set: mail.SetOf(part...), order: part, scores: f.scores}
}

// about returns the messages that are saved and counted for MODSEQ: all that was
// found, but if only ends or a page of it are returned, these (RFC 9051, 6.4.4.2; RFC
// 9394, 3.2; RFC 7162, 3.1.10).
func (f *finding) about(ret imap.SearchReturn, part *finding) mail.UIDSet {
	const some = imap.ReturnMin | imap.ReturnMax | imap.ReturnPartial
	if ret&some == 0 || ret&(imap.ReturnAll|imap.ReturnCount) != 0 || f.set.IsEmpty() {
		return f.set
	}
	var ends mail.UIDSet
	if ret&imap.ReturnMin != 0 {
		ends = mail.SetOf(f.first())
	}
	if ret&imap.ReturnMax != 0 {
		ends = union(ends, mail.SetOf(f.last()))
	}
	if ret&imap.ReturnPartial != 0 {
		ends = union(ends, part.set)
	}
	return ends
}

// tellESearch writes the ESEARCH response of a SEARCH or SORT in the selected mailbox
// (RFC 9051, 7.3.4) and saves the result if that was asked for.
func (s *session) tellESearch(cmd *command, args *imap.Search, found *finding) error {
	return s.tellFound(cmd, s.view, args, found, nil)
}

// tellFound is tellESearch for any mailbox; where, if not nil, writes which one it is
// behind the tag (RFC 7377, 2.1).
func (s *session) tellFound(cmd *command, v *view, args *imap.Search, found *finding, where func()) error {
	ret := args.Return
	if ret == 0 {
		ret = imap.ReturnAll
	}
	var part finding
	if ret&imap.ReturnPartial != 0 {
		part = found.page(args.Partial)
	}
	about := found.about(ret, &part)
	if ret&imap.ReturnSave != 0 {
		if s.saved = about; ret&^(imap.ReturnUpdate|imap.ReturnContext) == imap.ReturnSave {
			return nil
		}
	}
	s.enc.Raw("* ESEARCH (TAG ").String(cmd.tag)
	if where != nil {
		where()
	}
	s.enc.Raw(")")
	if cmd.uid {
		s.enc.Raw(" UID")
	}
	w := esearchWriter{s: s, v: v, uid: cmd.uid, ret: ret}
	if err := w.items(args, found, &part); err != nil {
		return err
	}
	if usesModSeq(&args.Key) && !found.set.IsEmpty() {
		s.enc.Raw(" MODSEQ ").Number(highest(v, about))
	}
	s.enc.CRLF()
	return nil
}

// esearchWriter writes the items of one ESEARCH response.
type esearchWriter struct {
	s   *session
	v   *view
	uid bool
	ret imap.SearchReturn
}

func (w *esearchWriter) number(uid mail.UID) uint64 {
	if w.uid {
		return uint64(uid)
	}
	return uint64(w.v.seq(uid))
}

func (w *esearchWriter) items(args *imap.Search, found, part *finding) error {
	e := w.s.enc
	shown := found // what a list of scores belongs to
	if !found.set.IsEmpty() {
		if w.ret&imap.ReturnMin != 0 {
			e.Raw(" MIN ").Number(w.number(found.first()))
		}
		if w.ret&imap.ReturnMax != 0 {
			e.Raw(" MAX ").Number(w.number(found.last()))
		}
		if w.ret&imap.ReturnAll != 0 {
			e.Raw(" ALL ")
			if err := w.list(found); err != nil {
				return err
			}
		}
	}
	if w.ret&imap.ReturnPartial != 0 {
		shown = part
		e.Raw(" PARTIAL (").Raw(args.Partial.String()).SP()
		if part.set.IsEmpty() {
			e.Raw("NIL")
		} else if err := w.list(part); err != nil {
			return err
		}
		e.Raw(")")
	}
	if w.ret&imap.ReturnCount != 0 {
		e.Raw(" COUNT ").Number(uint64(found.set.Len()))
	}
	if w.ret&imap.ReturnRelevancy != 0 {
		return w.relevancy(shown)
	}
	return nil
}

// list writes messages as a sequence set. In a sorted one only what rises by one is
// written as a range, for a range means rising order (RFC 5267, 3.2).
func (w *esearchWriter) list(f *finding) error {
	e := w.s.enc
	if f.order == nil {
		set := f.set
		if !w.uid {
			set = w.v.seqSet(set)
		}
		e.UIDs(set)
		return nil
	}
	for i := 0; i < len(f.order); {
		if i > 0 {
			e.Raw(",")
		}
		from := w.number(f.order[i])
		to := from
		for i++; i < len(f.order) && w.number(f.order[i]) == to+1; i++ {
			to++
		}
		if e.Number(from); to > from {
			e.Raw(":").Number(to)
		}
		if err := w.s.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

// relevancy writes the scores of messages in the order of their list (RFC 6203, 4).
func (w *esearchWriter) relevancy(f *finding) error {
	e := w.s.enc
	e.Raw(" RELEVANCY (")
	first := true
	score := func(uid mail.UID) error {
		if !first {
			e.SP()
		}
		first = false
		e.Number(uint64(f.scores[uid]))
		return w.s.flushFull()
	}
	if f.order != nil {
		for _, uid := range f.order {
			if err := score(uid); err != nil {
				return err
			}
		}
	} else {
		for uid := range f.set.All() {
			if err := score(uid); err != nil {
				return err
			}
		}
	}
	e.Raw(")")
	return nil
}
