package imapd

import (
	"cmp"
	"errors"
	"slices"
	"sort"
	"strconv"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// view is the selected mailbox as the client has been told of it: a shared picture
// and what the client still counts although the picture has it no more.
//
// The client's sequence numbers run over the messages of the picture and the gone
// ones together, in order of UID. Arrivals always come after all of them.
type view struct {
	owner
	rights   mail.Rights // that the user has on it
	regained bool        // they have changed, and the client is to be told what flags it may set
	checked  uint64      // generations at which they were looked at

	left func() // ends the view's attendance, if it has one

	box      mail.MailboxID
	readOnly bool
	pic      *store.Picture
	gone     []mail.UID  // expunged, and the client may not be told yet; rising
	unsaid   mail.UIDSet // their flags changed, and the client does not want to be told yet
	unnamed  bool        // likewise the keywords of the mailbox
	hidden   bool        // likewise there are more messages
	held     mail.ModSeq // while there is any of these: all up to here has been told
	shrunk   bool        // expunges were told since the last tagged answer
	recent   mail.UIDSet // \Recent for this session (RFC 3501, 2.3.2)
	recentN  int         // how many of them, when that was told last
	batches  batchUse    // of UIDBATCHES
	updates  []*updating // searches that are kept up to date

	annotate bool                  // tell of annotations that others change (RFC 5257, 4.2)
	noted    mail.ModSeq           // such changes were told up to here
	news     map[mail.UID][]string // those to tell now
}

// show makes a picture the one that the client has been told of, and acts upon.
func (v *view) show(p *store.Picture) { v.pic, v.acct = p, v.acct.Upon(p) }

// close ends the view, if there is one.
func (v *view) close() {
	if v != nil && v.left != nil {
		v.left()
	}
}

// is tells whether the view is of a mailbox; no view is of none.
func (v *view) is(of *owner, box mail.MailboxID) bool {
	return v != nil && v.box == box && v.acct.ID() == of.acct.ID()
}

// count returns how many messages the client counts.
func (v *view) count() int { return v.pic.Len() + len(v.gone) }

// goneBelow returns how many gone messages have a lower UID.
func (v *view) goneBelow(uid mail.UID) int {
	if len(v.gone) == 0 {
		return 0
	}
	i, _ := slices.BinarySearch(v.gone, uid)
	return i
}

// seq returns the client's number for a message it counts.
func (v *view) seq(uid mail.UID) int {
	n, _ := v.pic.Seq(uid)
	return n + v.goneBelow(uid)
}

// uid returns the UID of the client's number from 1 to count.
func (v *view) uid(seq int) mail.UID {
	// The i-th gone message has the number of its place in the picture plus i.
	i := sort.Search(len(v.gone), func(i int) bool { return v.seq(v.gone[i]) >= seq })
	if i < len(v.gone) && v.seq(v.gone[i]) == seq {
		return v.gone[i]
	}
	return v.pic.UID(seq - i)
}

// toldUpTo returns the modseq up to which the client has been told of all changes, as
// HIGHESTMODSEQ wants it.
func (v *view) toldUpTo() string { return strconv.FormatUint(uint64(v.toldModSeq()), 10) }

func (v *view) toldModSeq() mail.ModSeq {
	if v.behind() {
		return max(v.held, 1)
	}
	return max(v.pic.ModSeq(), 1)
}

// since returns up to which modseq the client knows the mailbox, as it says. If that came from
// another server with its UIDs, one that nothing here has had yet is of there, so that the
// client knows none of the changes here: 0.
func (v *view) since(told uint64) mail.ModSeq {
	mod := mail.ModSeq(told)
	if box := v.pic.Mailbox(); mod > box.HighestModSeq && box.FromElsewhere() {
		return 0
	}
	return mod
}

// behind tells whether there is anything of the picture that the client is still to be
// told.
func (v *view) behind() bool { return len(v.gone) > 0 || v.owesFlags() || v.hidden }

func (v *view) owesFlags() bool { return !v.unsaid.IsEmpty() || v.unnamed }

// lastUID returns the highest UID that the client counts, 0 if there is none.
func (v *view) lastUID() mail.UID {
	last := v.pic.UID(v.pic.Len())
	if n := len(v.gone); n > 0 {
		last = max(last, v.gone[n-1])
	}
	return last
}

// resolve returns the UIDs that a client's set means: never one it has not been told
// of, though a range may span UIDs without a message. missing says that a message
// it counts is gone. A sequence number that is too large is misuse.
func (s *session) resolve(set imap.SeqSet, uid bool) (uids mail.UIDSet, missing bool, err error) {
	return s.resolveIn(s.view, set, uid)
}

// resolveIn is resolve for any view.
func (s *session) resolveIn(v *view, set imap.SeqSet, uid bool) (uids mail.UIDSet, missing bool, err error) {
	switch {
	case set.Saved:
		return s.saved, false, nil
	case uid:
		last := v.lastUID()
		for _, r := range set.Resolve(uint32(last)) {
			if r.From <= last {
				uids = append(uids, mail.Range{From: r.From, To: min(r.To, last)})
			}
		}
		return uids, false, nil
	}
	n := int64(v.count())
	for _, r := range set.Ranges {
		// "1:*" of an empty mailbox and "5:*" of four messages are what clients send
		// blindly to ask for whatever is new: they get the last message, or none.
		if r.From != 0 && r.To != 0 && int64(max(r.From, r.To)) > n {
			return nil, false, misuse(fault.Newf(fault.Invalid, "there are %d messages, not %d", n, max(r.From, r.To)))
		}
	}
	uids = v.numbered(set)
	for _, r := range uids {
		missing = missing || v.goneBelow(r.To+1) > v.goneBelow(r.From)
	}
	return uids, missing, nil
}

// numbered returns the UIDs of a set of sequence numbers; those beyond the last
// message mean nothing.
func (v *view) numbered(set imap.SeqSet) (uids mail.UIDSet) {
	n := v.count()
	for _, r := range set.Resolve(uint32(n)) {
		if int64(r.From) <= int64(n) {
			uids.AddRange(v.uid(int(r.From)), v.uid(min(int(r.To), n)))
		}
	}
	return uids
}

// seqSet returns the client's numbers of UIDs, in the form of a set.
func (v *view) seqSet(uids mail.UIDSet) mail.UIDSet {
	var out mail.UIDSet
	for uid := range uids.All() {
		out.Add(mail.UID(v.seq(uid)))
	}
	return out
}

// errRenumbered ends a session: UIDs are not to change during it, and there is nothing by
// which a client could be told that they have.
var errRenumbered = fault.New(fault.Unavailable, "the UIDVALIDITY of the selected mailbox has changed")

// sync brings the view up to the account's log and tells the client what moved.
//
// While the client counts by old sequence numbers, in FETCH, STORE and SEARCH, an
// expunge must wait (RFC 9051, 7.5.1): with may == keepSeqs the message stays in the
// view as a hole until a later command allows the truth to be told.
func (s *session) sync(cmd *command, may untagged) error {
	v := s.view
	now, err := s.latest(cmd)
	if now == nil || err != nil {
		return err
	}
	old, tell := v.pic, s.telling(cmd, may)
	if tell == (telling{}) && cmd.own == nil {
		return nil // the client looks at the mailbox as it was
	}
	hidden := false
	if whole := now; !tell.arrivals {
		now = whole.Before(v.lastUID() + 1)
		hidden = now != whole
	}
	if now == old && cmd.own == nil && !(tell.expunges && len(v.gone) > 0) && !(tell.flags && v.owesFlags()) {
		return nil
	}
	regained, err := s.checkRights(now)
	if err != nil {
		return err
	}
	diff := store.Diff(old, now)
	gone, err := s.tellGone(diff.Expunged, tell.expunges)
	if err != nil {
		return err
	}
	if !v.behind() {
		v.held = old.ModSeq()
	}
	v.show(now)
	v.gone, v.hidden = gone, hidden
	v.unnamed = v.unnamed || diff.Keywords || regained
	s.tellMailbox(!diff.Arrived.IsEmpty(), tell.flags || cmd.own != nil)
	if err := s.tellChanged(cmd, old, &diff, tell); err != nil {
		return err
	}
	return s.tellNew(&diff)
}

// latest returns the selected mailbox as of the beginning of the command; nil if it cannot be
// looked at now.
func (s *session) latest(cmd *command) (*store.Picture, error) {
	v := s.view
	now, err := v.acct.PictureSince(s.ctx, v.box, cmd.begun)
	switch {
	case fault.Is(err, fault.NotFound): // RFC 2180, 3.3: the one honest way out
		return nil, fault.New(fault.NotFound, "the selected mailbox has been deleted")
	case errors.Is(err, store.ErrSetBack): // what the client knows is not the past of what there is
		return nil, err
	case err != nil: // the disk, perhaps: the command was done; the news can wait
		s.c.Log().Error("view not brought forward", "err", err)
		return nil, nil
	case now.Mailbox().UIDValidity != v.pic.Mailbox().UIDValidity: // RFC 9051, 2.3.1.1
		return nil, errRenumbered
	}
	return now, nil
}

// tellGone tells of messages that are gone, and returns those that are to stay as holes: all
// of them, if no expunge may be told.
func (s *session) tellGone(expunged mail.UIDSet, may bool) (holes []mail.UID, err error) {
	if err := s.tellRemoved(expunged); err != nil {
		return nil, err
	}
	gone := merge(s.view.gone, expunged)
	if !may || len(gone) == 0 {
		return gone, nil
	}
	if err := s.tellExpunged(gone); err != nil {
		return nil, err
	}
	s.view.shrunk = true
	return nil, nil
}

// tellMailbox tells how many messages there are, if some arrived or went, and which flags, if
// these have changed and may be told.
func (s *session) tellMailbox(arrived, flags bool) {
	v := s.view
	if arrived {
		s.tellArrived()
	} else if v.shrunk && !s.old { // which is told anew anyhow
		s.tellRecent(false)
	}
	if v.unnamed && flags {
		v.unnamed = false
		s.tellFlags()
	}
}

// prove has news of other mailboxes of the account complete as of the beginning of the
// command: that others have changed something may not be known here yet.
func (s *session) prove(cmd *command) {
	if s.meta == nil && s.feed == nil {
		return
	}
	if err := s.acct.Prove(s.ctx, cmd.begun); err != nil { // the news can wait
		s.c.Log().Error("news of mailboxes are told later", "err", err)
	}
}

// tellExpunged tells of messages that are gone, with the numbers they have in the
// view as it still is; each one told moves those behind it up.
func (s *session) tellExpunged(gone []mail.UID) error {
	if s.qresync || s.uidOnly {
		return s.tellVanished("", mail.SetOf(gone...))
	}
	for i, uid := range gone {
		s.enc.Raw("* ").Number(uint64(s.view.seq(uid) - i)).Raw(" EXPUNGE").CRLF()
		if err := s.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) tellArrived() {
	v := s.view
	s.enc.Raw("* ").Number(uint64(v.count())).Raw(" EXISTS").CRLF()
	if s.rev2 {
		return
	}
	v.findRecent()
	s.tellRecent(true)
}

// checkRights looks whether the user's rights have changed with a new picture, and fails
// if the mailbox may not be read any more.
func (s *session) checkRights(now *store.Picture) (changed bool, err error) {
	v := s.view
	if now == v.pic {
		return false, nil
	}
	box := now.Mailbox()
	rights := v.acct.Rights(&box)
	changed = v.regained || rights != v.rights
	v.rights, v.regained = rights, false
	return changed, stillRead(rights)
}

// merge adds a set to a rising list.
func merge(list []mail.UID, set mail.UIDSet) []mail.UID {
	if set.IsEmpty() {
		return list
	}
	out := slices.Grow(slices.Clone(list), set.Len())
	for uid := range set.All() {
		out = append(out, uid)
	}
	slices.Sort(out)
	return out
}

// union returns the UIDs of both sets, in time linear in their ranges.
func union(a, b mail.UIDSet) mail.UIDSet {
	if a.IsEmpty() {
		return b
	}
	ranges := slices.Concat(a, b)
	slices.SortFunc(ranges, func(x, y mail.Range) int { return cmp.Compare(x.From, y.From) })
	var out mail.UIDSet
	for _, r := range ranges {
		out.AddRange(r.From, r.To)
	}
	return out
}
