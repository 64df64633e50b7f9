package imapd

import (
	"slices"
	"sort"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// QRESYNC (RFC 7162, 3.2): a client that knows the mailbox from before is told what
// has gone and what has changed since, from the change log; if the log does not reach
// back so far, from a comparison of what the client may know with what is there. So is one
// that knows it from another server, whence it came with its UIDs.

// vanishedRanges is how many ranges one VANISHED line has at most.
const vanishedRanges = 2000

// tellVanished writes VANISHED responses (RFC 7162, 3.2.10). kind is " (EARLIER)" for
// what was not in the view.
func (s *session) tellVanished(kind string, gone mail.UIDSet) error {
	for part := range slices.Chunk(gone, vanishedRanges) {
		s.enc.Raw("* VANISHED").Raw(kind).SP().UIDs(part).CRLF()
		if err := s.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

// vanished returns which UIDs of a set belonged to messages that were expunged after
// since, and the log from there. If the log is not complete, or since is 0, all that are not
// there count. What the client is still to be told of, or was never told of, does not.
func (s *session) vanished(set mail.UIDSet, since mail.ModSeq) (gone mail.UIDSet, log store.Changes, err error) {
	v := s.view
	next := v.pic.Mailbox().UIDNext
	if since >= v.pic.ModSeq() || next == 1 {
		return nil, store.Changes{Complete: true}, nil
	}
	if since > 0 {
		err = v.acct.View(s.ctx, func(snap *store.Snapshot) error {
			log, err = snap.Changes(v.box, since)
			return err
		})
	}
	if err != nil {
		return nil, log, err
	}
	set = intersect(set, mail.UIDSet{{From: 1, To: next - 1}})
	if log.Complete {
		set = intersect(set, log.Expunged)
	}
	return without(without(set, v.pic.Existing(set)), mail.SetOf(v.gone...)), log, nil
}

// tellEarlier answers the VANISHED modifier of UID FETCH (RFC 7162, 3.2.6). Here '*'
// is the highest UID there can have been, so that "1:*" is everything.
func (s *session) tellEarlier(args *imap.Fetch) error {
	set := s.saved
	if !args.Set.Saved {
		set = args.Set.Resolve(uint32(s.view.pic.Mailbox().UIDNext - 1))
	}
	gone, _, err := s.vanished(set, s.view.since(args.ChangedSince))
	if err != nil {
		return err
	}
	return s.tellVanished(" (EARLIER)", gone)
}

// resync answers the QRESYNC parameter of SELECT (RFC 7162, 3.2.5), after all that
// SELECT tells anyway.
func (s *session) resync(r *imap.Resync) error {
	v := s.view
	since := v.since(r.ModSeq)
	if r.UIDValidity != v.pic.Mailbox().UIDValidity || since >= v.pic.ModSeq() {
		return nil
	}
	set := r.Known
	if set.IsEmpty() {
		set = store.All()
	}
	gone, log, err := s.vanished(set, since)
	if err != nil {
		return err
	}
	if upTo := matched(v.pic, r.Seqs, r.UIDs); upTo > 0 && len(gone) > 0 {
		gone = without(gone, mail.UIDSet{{From: 1, To: upTo}})
	}
	if err := s.tellVanished(" (EARLIER)", gone); err != nil {
		return err
	}
	if log.Complete {
		set = intersect(set, union(log.Arrived, log.Changed))
	}
	return s.tellMessages(true, v.pic.ChangedSince(set, since), known{})
}

// matched returns the highest UID up to which the client is known to be right about
// what has gone: the last of its pairs that is true (RFC 7162, 3.2.5.2). As soon as
// one is wrong all after it are, so that there is no need to look at each.
func matched(pic *store.Picture, seqs, uids mail.UIDSet) mail.UID {
	pairs := min(seqs.Len(), uids.Len())
	wrong := sort.Search(pairs, func(i int) bool {
		return pic.UID(int(nth(seqs, i))) != nth(uids, i)
	})
	if wrong == 0 {
		return 0
	}
	return nth(uids, wrong-1)
}

// nth returns the i-th member of a set, counting from 0.
func nth(set mail.UIDSet, i int) mail.UID {
	for _, r := range set {
		if n := int(r.To-r.From) + 1; i >= n {
			i -= n
			continue
		}
		return r.From + mail.UID(i)
	}
	return 0
}

// noteModSeq adds to a reply how far a client of QRESYNC may count itself up to date:
// after expunges were told, and while some may not be told yet although changes made
// after them have been (RFC 7162, 3.2 and 3.2.7; 6 for the example).
func (s *session) noteModSeq(rep *reply) {
	v := s.view
	shrunk := v.shrunk
	v.shrunk = false
	if !s.qresync || !shrunk && len(v.gone) == 0 {
		return
	}
	code := "HIGHESTMODSEQ " + v.toldUpTo()
	if rep.status == "OK" && rep.code == "" {
		rep.code = code
		return
	}
	s.note("OK", code, "highest modseq")
}

// intersect returns the UIDs in both sets, in time linear in their ranges.
func intersect(a, b mail.UIDSet) (out mail.UIDSet) {
	for len(a) > 0 && len(b) > 0 {
		if from, to := max(a[0].From, b[0].From), min(a[0].To, b[0].To); from <= to {
			out = append(out, mail.Range{From: from, To: to})
		}
		if a[0].To < b[0].To {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// without returns the UIDs of a that are not in b, in time linear in their ranges.
func without(a, b mail.UIDSet) (out mail.UIDSet) {
	for _, r := range a {
		from := uint64(r.From)
		for len(b) > 0 && b[0].To < r.From {
			b = b[1:]
		}
		for i := 0; i < len(b) && b[i].From <= r.To; i++ {
			if uint64(b[i].From) > from {
				out = append(out, mail.Range{From: mail.UID(from), To: b[i].From - 1})
			}
			from = uint64(b[i].To) + 1
		}
		if from <= uint64(r.To) {
			out = append(out, mail.Range{From: mail.UID(from), To: r.To})
		}
	}
	return out
}
