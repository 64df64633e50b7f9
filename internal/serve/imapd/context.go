package imapd

import (
	"slices"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// Contexts (RFC 5267): the result of a search that the client keeps and is told of
// changes. A change costs a look at the messages that changed, not a search of the
// mailbox; to place a message in a sorted result, a logarithm of others is read.

const (
	maxUpdates = 16      // searches of a session that are kept up to date
	maxOrdered = 1 << 20 // messages of all sorted ones together, 4 bytes each; one is always kept
)

// updating is a search that is kept up to date.
type updating struct {
	tag        string
	uid        bool
	where      bool // its answers name the mailbox: it was ESEARCH (RFC 7377, 2.1)
	key        imap.SearchKey
	comparator imap.Comparator
	fetch      []imap.FetchItem // of new messages that match (RFC 5465, 7)
	live       bool             // what it looks at may change of a message
	whole      bool             // what it says of a message may change without the message

	members mail.UIDSet
	by      []imap.SortBy // of SORT
	order   []mail.UID    // members in this order

	// Still to be told:
	added   mail.UIDSet
	out, in []run // what comes out of the result, and then what comes into it
}

// beginUpdate prepares the updates a search asks for, nil if it does not or cannot have
// them. Sequence numbers and $ mean what they mean now (RFC 5267, 4.3). It stands
// between the search, which fills in filters, and its answer, which may change $.
func (s *session) beginUpdate(cmd *command, v *view, args *imap.Search, by []imap.SortBy, found *finding) *updating {
	if args.Return&imap.ReturnUpdate == 0 || v != s.view || found.lowest > 0 || !canUpdate(&args.Key) {
		return nil
	}
	ordered := 0
	for _, u := range v.updates {
		ordered += len(u.order)
	}
	if len(v.updates) >= maxUpdates || by != nil && ordered > 0 && ordered+len(found.order) > maxOrdered {
		return nil
	}
	if slices.ContainsFunc(by, func(b imap.SortBy) bool { return b.Key == imap.SortRelevancy || b.Key == imap.SortAnnotation }) {
		return nil // what a message is sorted by must not change
	}
	u := &updating{
		tag: cmd.tag, uid: cmd.uid, key: s.frozen(&args.Key), comparator: s.comparator, fetch: args.Update,
		members: slices.Clone(found.set), by: by, order: slices.Clone(found.order),
	}
	u.live, u.whole = looksAt(&u.key)
	return u
}

// keepUpdated begins to tell of changes, or tells that it does not (RFC 5267, 4.3.1).
func (s *session) keepUpdated(cmd *command, args *imap.Search, u *updating) {
	switch {
	case args.Return&imap.ReturnUpdate == 0:
	case u == nil:
		s.noUpdate(cmd.tag, "this search cannot be kept up to date, or there are too many")
	default:
		if len(u.fetch) > 0 {
			s.follow() // to know which new messages are the client's own
		}
		s.view.updates = append(s.view.updates, u)
	}
}

func (s *session) noUpdate(tag, text string) { s.note("NO", `NOUPDATE "`+tag+`"`, text) }

// tagInUse tells whether a search asks for updates under the tag of another.
func (s *session) tagInUse(cmd *command, args *imap.Search) bool {
	return args.Return&imap.ReturnUpdate != 0 && s.view != nil &&
		slices.ContainsFunc(s.view.updates, func(u *updating) bool { return u.tag == cmd.tag })
}

// cancelUpdate is CANCELUPDATE (RFC 5267, 4.3.5).
func (s *session) cancelUpdate(_ *command, tags []string) (reply, error) {
	v := s.view
	unknown := false
	for _, tag := range tags {
		i := slices.IndexFunc(v.updates, func(u *updating) bool { return u.tag == tag })
		if i < 0 {
			unknown = true
			continue
		}
		v.updates = slices.Delete(v.updates, i, i+1)
	}
	if unknown {
		return no("", "there are no updates under one of these tags"), nil
	}
	return ok("no further updates"), nil
}

// frozen returns a copy of a search program in which sequence numbers and $ are UIDs.
func (s *session) frozen(k *imap.SearchKey) imap.SearchKey {
	out := *k
	if k.Op == imap.SearchSeq || k.Op == imap.SearchUID {
		var uids mail.UIDSet
		switch {
		case k.Set.Saved:
			uids = s.saved
		case k.Op == imap.SearchSeq:
			uids = s.view.numbered(k.Set)
		default:
			return out
		}
		out.Op, out.Set = imap.SearchUID, imap.SeqSet{}
		for _, r := range uids {
			out.Set.Ranges = append(out.Set.Ranges, imap.SeqRange{From: uint32(r.From), To: uint32(r.To)})
		}
		return out
	}
	out.Keys = make([]imap.SearchKey, len(k.Keys))
	for i := range k.Keys {
		out.Keys[i] = s.frozen(&k.Keys[i])
	}
	return out
}

// canUpdate tells whether all that a program asks for changes with the mailbox: labels
// are other mailboxes.
func canUpdate(k *imap.SearchKey) bool {
	return k.Op != imap.SearchLabel && k.Op != imap.SearchLabelLike &&
		!slices.ContainsFunc(k.Keys, func(k imap.SearchKey) bool { return !canUpdate(&k) })
}

// looksAt tells whether a program looks at what may change of a message, and whether at
// what may change without it: which message is the last, what time it is.
func looksAt(k *imap.SearchKey) (live, whole bool) {
	switch k.Op {
	case imap.SearchFlag, imap.SearchKeyword, imap.SearchRecent, imap.SearchModSeq, imap.SearchAnnotation:
		live = true
	case imap.SearchOlder, imap.SearchYounger:
		whole = true
	case imap.SearchUID:
		whole = k.Set.HasStar()
	}
	for i := range k.Keys {
		l, w := looksAt(&k.Keys[i])
		live, whole = live || l, whole || w
	}
	return live, whole
}

// tellRemoved tells which results are expunged, with the numbers they have in the view
// as it still is: before their EXPUNGE (RFC 5267, 4.3.4), and when that must wait, too.
func (s *session) tellRemoved(expunged mail.UIDSet) error {
	for _, u := range s.view.updates {
		if removed := intersect(u.members, expunged); !removed.IsEmpty() {
			u.remove(removed)
			if err := s.tellUpdate(u); err != nil {
				return err
			}
		}
	}
	return nil
}

// reviewUpdates asks all kept searches about the messages that came or changed. One that
// cannot be asked is given up.
func (s *session) reviewUpdates(diff *store.Difference) {
	v := s.view
	v.updates = slices.DeleteFunc(v.updates, func(u *updating) bool {
		err := s.review(u, diff)
		if err != nil {
			s.c.Log().Error("a search is not kept up to date", "err", err)
			s.noUpdate(u.tag, "this search cannot be kept up to date any longer")
		}
		return err != nil
	})
}

func (s *session) review(u *updating, diff *store.Difference) error {
	about := diff.Arrived
	switch {
	case u.whole:
		about = store.All()
	case u.live:
		about = union(about, diff.Changed)
	}
	if about.IsEmpty() {
		return nil
	}
	was := s.comparator
	s.comparator = u.comparator
	defer func() { s.comparator = was }()
	found, err := s.findAmong(s.view, &u.key, about)
	if err != nil {
		return err
	}
	added := without(found.set, u.members)
	if removed := without(intersect(u.members, about), found.set); !removed.IsEmpty() {
		u.remove(removed)
	}
	if added.IsEmpty() {
		return nil
	}
	u.in = []run{{uids: added}}
	if u.by != nil {
		if u.in, err = s.insertAdded(u, added); err != nil {
			return err
		}
	}
	u.added, u.members = added, union(u.members, added)
	return nil
}

// remove takes messages out of a result.
func (u *updating) remove(removed mail.UIDSet) {
	if u.members = without(u.members, removed); u.by == nil {
		u.out = []run{{uids: removed}}
		return
	}
	u.out = u.cut(removed)
}

// tellUpdates tells what reviewing has found.
func (s *session) tellUpdates() error {
	for _, u := range s.view.updates {
		if len(u.out) == 0 && len(u.in) == 0 {
			continue
		}
		if err := s.tellUpdate(u); err != nil {
			return err
		}
	}
	return nil
}

// run is results next to each other.
type run struct {
	at   int // the place of the first, counting from 1; 0 is the order of the mailbox
	uids mail.UIDSet
	list []mail.UID // the same in SORT's order; nil of a SEARCH
}

// tellUpdate writes an ESEARCH response with what comes out of a result and into it (RFC
// 5267, 4.3.2 to 4.3.4).
func (s *session) tellUpdate(u *updating) error {
	s.enc.Raw("* ESEARCH (TAG ").String(u.tag)
	if u.where {
		s.tellWhere(s.view)
	}
	s.enc.Raw(")")
	if u.uid {
		s.enc.Raw(" UID")
	}
	if err := s.tellRuns(u, " REMOVEFROM (", u.out); err != nil {
		return err
	}
	if err := s.tellRuns(u, " ADDTO (", u.in); err != nil {
		return err
	}
	u.added, u.out, u.in = nil, nil, nil
	s.enc.CRLF()
	return s.flushFull()
}

func (s *session) tellRuns(u *updating, item string, runs []run) error {
	w := esearchWriter{s: s, v: s.view, uid: u.uid}
	for i, r := range runs {
		if i == 0 {
			s.enc.Raw(item)
		} else {
			s.enc.SP()
		}
		s.enc.Number(uint64(r.at)).SP()
		if err := w.list(&finding{set: r.uids, order: r.list}); err != nil {
			return err
		}
	}
	if len(runs) > 0 {
		s.enc.Raw(")")
	}
	return nil
}

// cut takes what is removed out of a sorted result. Of each run, the place is that after
// those before it have been taken out.
func (u *updating) cut(removed mail.UIDSet) (runs []run) {
	kept := u.order[:0]
	together := false
	for _, uid := range u.order {
		if !removed.Contains(uid) {
			kept, together = append(kept, uid), false
			continue
		}
		if !together {
			runs = append(runs, run{at: len(kept) + 1})
		}
		last := &runs[len(runs)-1]
		last.list, together = append(last.list, uid), true
	}
	u.order = kept
	return runs
}

// tellNew tells of messages that have come and of results that have changed with what the
// client wants to have fetched of new ones: by NOTIFY, for all that others brought (RFC
// 5465, 5.2), or by a search, for those that match (7). The former follows the changes of
// results, the latter goes before them.
func (s *session) tellNew(diff *store.Difference) error {
	v := s.view
	var all []imap.FetchItem
	if s.notify != nil {
		all = s.notify.selected.Fetch
	}
	if len(v.updates) == 0 && len(all) == 0 {
		return nil
	}
	command := s.progress
	s.progress = progress{} // of a command, which this is not
	defer func() { s.progress = command }()
	s.reviewUpdates(diff)
	wants := slices.ContainsFunc(v.updates, func(u *updating) bool { return len(u.fetch) > 0 })
	if wants {
		if err := s.fetchNew(diff.Arrived, all); err != nil {
			return err
		}
	}
	if err := s.tellUpdates(); err != nil || wants {
		return err
	}
	return s.fetchNew(diff.Arrived, all)
}

// fetchNew writes one FETCH response for each new message of which something is wanted:
// all of every one, and what the searches that it has come to match ask for.
func (s *session) fetchNew(arrived mail.UIDSet, all []imap.FetchItem) error {
	arrived = without(arrived, s.brought())
	for len(arrived) > 0 {
		// Those of which the same is wanted go together.
		set, items := arrived, all
		for _, u := range s.view.updates {
			if len(u.fetch) == 0 {
				continue
			}
			if u.added.Contains(arrived[0].From) {
				set, items = intersect(set, u.added), joined(items, u.fetch)
			} else {
				set = without(set, u.added)
			}
		}
		if len(items) > 0 {
			plan := newFetchPlan(imap.Fetch{Items: items}, false)
			if _, err := s.fetchAll(&command{}, plan, set); err != nil {
				return err
			}
		}
		arrived = without(arrived, set)
	}
	return nil
}

// joined returns the items of both lists, each once.
func joined(a, b []imap.FetchItem) []imap.FetchItem {
	out := slices.Clone(a)
	for i := range b {
		name := string(b[i].AppendName(nil))
		same := func(it imap.FetchItem) bool { return string(it.AppendName(nil)) == name }
		if !slices.ContainsFunc(out, same) {
			out = append(out, b[i])
		}
	}
	return out
}
