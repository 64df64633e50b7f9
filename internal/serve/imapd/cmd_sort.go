package imapd

import (
	"cmp"
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// sortCommand is SORT and UID SORT (RFC 5256, 3; RFC 5267, 3 with RETURN; RFC 5957 for
// display names).
func (s *session) sortCommand(cmd *command) (reply, error) {
	var args imap.Sort
	if !s.dec.ExpectSP() || !s.dec.ExpectSort(&args) || !s.dec.ExpectCRLF() {
		s.unsave(&args.Search, s.dec.Err())
		return reply{}, s.dec.Err()
	}
	cmd.finds, cmd.numbers = true, cmd.uid && usesNumbers(&args.Key)
	byRelevancy := func(b imap.SortBy) bool { return b.Key == imap.SortRelevancy }
	if slices.ContainsFunc(args.By, byRelevancy) && !usesFuzzy(&args.Key) {
		return bad("RELEVANCY needs a FUZZY search key"), nil
	}
	if s.tagInUse(cmd, &args.Search) {
		return bad("updates are told under this tag already"), nil
	}
	if usesModSeq(&args.Key) {
		s.enableCondstore()
	}
	found, err := s.findFor(s.view, &args.Search)
	cmd.missed = found.missed
	if found.lowest > 0 { // RFC 9738, 3.3
		err = tooMany(s.srv.opt.MessageLimit)
	}
	if err == nil {
		found.order, err = s.sorted(&found, args.By)
	}
	if err != nil {
		s.unsave(&args.Search, err)
		return reply{}, err
	}
	update := s.beginUpdate(cmd, s.view, &args.Search, args.By, &found)
	if args.Extended {
		err = s.tellESearch(cmd, &args.Search, &found)
	} else {
		err = s.tellSort(cmd, &args.Search, &found)
	}
	s.keepUpdated(cmd, &args.Search, update)
	return ok(cmd.row.name + " done"), err
}

// tellSort writes the SORT response (RFC 5256, 4; RFC 7162, 3.1.6 for its MODSEQ).
func (s *session) tellSort(cmd *command, args *imap.Search, found *finding) error {
	s.enc.Raw("* SORT")
	for uids := range slices.Chunk(found.order, 4096) {
		for _, uid := range uids {
			s.enc.SpaceNumber(s.number(cmd, uid))
		}
		if err := s.flushFull(); err != nil {
			return err
		}
	}
	if usesModSeq(&args.Key) && !found.set.IsEmpty() {
		s.enc.Raw(" (MODSEQ ").Number(highest(s.view, found.set)).Raw(")")
	}
	s.enc.CRLF()
	return nil
}

// sorted returns what was found in the order wanted. It is not to be changed.
func (s *session) sorted(found *finding, by []imap.SortBy) ([]mail.UID, error) {
	name := orderName(by)
	key := s.arrangementKey(name)
	if name == "" || !s.arranges(found.set, key) {
		return s.sort(found.set, found.scores, by)
	}
	order, err := s.wholeOrder(key, by)
	if err != nil || s.isWhole(found.set) {
		return order, err
	}
	uids := make([]mail.UID, 0, found.set.Len())
	wanted := members(found.set, len(order))
	for _, uid := range order {
		if wanted(uid) {
			uids = append(uids, uid)
		}
	}
	return uids, nil
}

// sort sorts messages; those that compare equal stay in the order of the mailbox. Memory:
// about 40 bytes a message, and for each key 8 to 16 bytes and its text.
func (s *session) sort(set mail.UIDSet, scores map[mail.UID]uint8, by []imap.SortBy) ([]mail.UID, error) {
	there := s.view.pic.Existing(set)
	columns := newSortColumns(by, there.Len(), s.comparator)
	rows := s.listed(there, func(i int, m *store.Message) {
		for _, c := range columns {
			c.fillFromRow(i, m, scores)
		}
	})
	if err := s.fillNotes(columns, rows.uids); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(columns, (*sortColumn).needsKeys) {
		err := s.eachKeys(rows.ids, func(i int, k *store.Keys) error {
			for _, c := range columns {
				c.fill(i, k)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	uids := make([]mail.UID, len(rows.uids))
	for i, at := range sortColumns(columns, len(uids)) {
		uids[i] = rows.uids[at.row]
	}
	return uids, nil
}

// listed is messages of which more is to be read, in the order of the mailbox.
type listed struct {
	uids []mail.UID
	ids  []mail.MessageID
}

// listed lists those messages of a set that there are; fn, if not nil, sees their rows.
func (s *session) listed(set mail.UIDSet, fn func(i int, m *store.Message)) listed {
	n := min(set.Len(), s.view.pic.Len())
	l := listed{make([]mail.UID, 0, n), make([]mail.MessageID, 0, n)}
	for _, m := range s.view.pic.Messages(set) {
		if fn != nil {
			fn(len(l.ids), &m)
		}
		l.uids, l.ids = append(l.uids, m.UID), append(l.ids, m.ID)
	}
	return l
}

// keysAtOnce is how many messages' keys are read in one Snapshot.
const keysAtOnce = 4096

// eachKeys reads the keys of messages, in about the order in which they lie on disk. Those
// of messages that have gone meanwhile are passed over. fn must not keep the keys.
func (s *session) eachKeys(of []mail.MessageID, fn func(i int, k *store.Keys) error) error {
	return s.inDiskOrder(of, func(snap *store.Snapshot, ids []mail.MessageID, chunk []int32) error {
		return snap.EachKeys(ids, func(at int, k *store.Keys, ok bool) error {
			if !ok {
				return nil
			}
			return fn(int(chunk[at]), k)
		})
	})
}

// eachFacts is eachKeys for facts.
func (s *session) eachFacts(of []mail.MessageID, fn func(i int, f *store.Facts) error) error {
	return s.inDiskOrder(of, func(snap *store.Snapshot, ids []mail.MessageID, chunk []int32) error {
		return snap.EachFacts(ids, func(at int, f store.Facts, ok bool) error {
			if !ok {
				return nil
			}
			return fn(int(chunk[at]), &f)
		})
	})
}

// inDiskOrder calls read with chunks of messages, by their places in the list and their ids.
func (s *session) inDiskOrder(of []mail.MessageID, read func(snap *store.Snapshot, ids []mail.MessageID, chunk []int32) error) error {
	order := make([]int32, len(of))
	for i := range order {
		order[i] = int32(i)
	}
	if !slices.IsSorted(of) {
		slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(of[a], of[b]) })
	}
	ids := make([]mail.MessageID, 0, min(len(of), keysAtOnce))
	s.progress.base = max(0, s.progress.base-len(of)) // those found are gone through again
	done := 0
	for chunk := range slices.Chunk(order, keysAtOnce) {
		ids = ids[:0]
		for _, i := range chunk {
			ids = append(ids, of[i])
		}
		err := s.view.acct.View(s.ctx, func(snap *store.Snapshot) error { return read(snap, ids, chunk) })
		if err != nil {
			return err
		}
		if s.ctx.Err() != nil {
			return fault.Wrap(fault.Closed, "the session has ended", s.ctx.Err())
		}
		done += len(chunk)
		if err := s.reached(done); err != nil {
			return err
		}
	}
	return nil
}
