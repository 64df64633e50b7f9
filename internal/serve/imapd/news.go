package imapd

import (
	"maps"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// maxNews is how many mailboxes a client is told of at once; if there are more it has
// not listened for long, or asked for more than it can bear.
const maxNews = 2000

// news is what is to be told of one account's mailboxes.
type news struct {
	lists  []listNews
	status []statusNews

	named map[mail.MailboxID]boxName // names that are other than they were; "" is gone
	subs  map[string]bool            // all subscriptions, if they may have changed
}

type listNews struct{ attrs, name, old string }

type statusNews struct {
	box   store.Mailbox
	items imap.StatusItems
}

// tellNews tells what happened in mailboxes that are not selected (RFC 5465, 5). It
// reads those that were touched and no others, unless there were too many to remember.
func (s *session) tellNews() error {
	if s.feed == nil {
		return nil
	}
	s.feed.collect()
	if w := s.feed.selected; w != nil {
		w.pending = store.Touched{} // not told of, but while it is selected
	}
	for _, w := range s.feed.watched {
		touched := w.pending
		w.pending = store.Touched{}
		if touched.IsEmpty() || s.notify == nil {
			continue
		}
		var found *news
		err := w.of.acct.View(s.ctx, func(snap *store.Snapshot) (err error) {
			g := gathering{s: s, w: w, snap: snap, found: &news{named: map[mail.MailboxID]boxName{}}}
			found, err = g.found, g.all(touched)
			return err
		})
		if err != nil { // the disk, perhaps: the news can wait
			s.c.Log().Error("news of mailboxes are told later", "err", err)
			w.pending = touched
			return nil
		}
		w.note(found)
		if len(found.lists)+len(found.status) > maxNews {
			return s.overflow()
		}
		if err := s.tellGathered(&w.of, found); err != nil {
			return err
		}
	}
	return nil
}

// note remembers what is told now.
func (w *watched) note(found *news) {
	for id, is := range found.named {
		if is.name == "" {
			delete(w.names, id)
		} else {
			w.names[id] = is
		}
	}
	if found.subs != nil {
		w.subs = found.subs
	}
	if w.told == nil || len(w.told) > maxNews {
		w.told = map[mail.MailboxID]mail.ModSeq{}
	}
	for i := range found.status {
		box := &found.status[i].box
		w.told[box.ID] = box.HighestModSeq
	}
}

func (s *session) tellGathered(of *owner, found *news) error {
	for _, l := range found.lists {
		old := ""
		if l.old != "" {
			old = of.shown(l.old)
		}
		s.tellOldName(l.attrs, of.shown(l.name), old)
		if err := s.flushFull(); err != nil {
			return err
		}
	}
	for i := range found.status {
		if err := s.writeStatus(of, &found.status[i].box, found.status[i].items); err != nil {
			return err
		}
		if err := s.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

// gathering is news in the making.
type gathering struct {
	s     *session
	w     *watched
	snap  *store.Snapshot
	found *news

	changed []string          // names of mailboxes that others made or deleted
	renamed map[string]string // new names by old ones, of mailboxes that others renamed
	listed  []string          // names whose subscription others changed
}

func (g *gathering) all(touched store.Touched) error {
	ids := slices.Collect(maps.Keys(touched.Boxes))
	if touched.Lost != 0 {
		boxes, err := g.snap.Mailboxes()
		if err != nil {
			return err
		}
		for i := range boxes {
			ids = append(ids, boxes[i].ID)
		}
		ids = slices.AppendSeq(append(ids, 0), maps.Keys(g.w.names))
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		touch := touched.Boxes[id]
		if lost := touched.Lost; lost != 0 && (touch.First == 0 || lost < touch.First) {
			touch.First = lost
		}
		if err := g.mailbox(id, touch); err != nil {
			return err
		}
	}
	return g.lists()
}

// mailbox looks what has become of one mailbox.
func (g *gathering) mailbox(id mail.MailboxID, touch store.Touch) error {
	if id == 0 {
		return g.subscriptions(touch)
	}
	box, err := g.snap.MailboxByID(id)
	gone := fault.Is(err, fault.NotFound)
	if err != nil && !gone {
		return err
	}
	if g.w.names != nil {
		g.name(id, boxName{box.Name, box.Role}, touch.First != 0)
	}
	if gone || touch.First == 0 || g.s.view.is(&g.w.of, id) {
		return nil
	}
	return g.messages(box, touch.First)
}

// name compares the name of a mailbox, "" if it is gone, with the one last told.
func (g *gathering) name(id mail.MailboxID, is boxName, others bool) {
	was := g.w.names[id]
	if was == is {
		return
	}
	g.found.named[id] = is
	switch {
	case !others || was.name == is.name:
	case was.name != "" && is.name != "":
		if g.renamed == nil {
			g.renamed = map[string]string{}
		}
		g.renamed[was.name] = is.name
	default:
		g.changed = append(g.changed, was.name+is.name)
	}
}

// messages looks what has happened to the messages of a mailbox since a modseq.
func (g *gathering) messages(box store.Mailbox, since mail.ModSeq) error {
	// A change may have been seen before the follower has named it.
	if told := g.w.told[box.ID]; told <= box.HighestModSeq { // else the store was set back
		since = max(since, told+1)
	}
	if box.HighestModSeq < since {
		return nil
	}
	events, err := g.s.eventsOf(g.snap, &g.w.of, &box)
	if err != nil || events&imap.NotifyMessages == 0 {
		return err
	}
	c, err := g.snap.Changes(box.ID, since-1)
	if err != nil {
		return err
	}
	flags := events&imap.NotifyFlagChange != 0
	changes := flags || events&imap.NotifyAnnotationChange != 0
	// Of a mailbox that is new, the UIDVALIDITY may be for a name that is not (5.1).
	counts := !c.Complete || !c.Arrived.IsEmpty() || !c.Expunged.IsEmpty() || changes && box.Created >= since
	if !counts && (!changes || c.Changed.IsEmpty()) {
		return nil
	}
	items := imap.StatusUIDValidity
	if counts {
		items |= imap.StatusMessages | imap.StatusUIDNext
	}
	if flags {
		items |= imap.StatusUnseen
	}
	if g.s.condstore {
		items |= imap.StatusHighestModSeq
	}
	g.found.status = append(g.found.status, statusNews{box, items})
	return nil
}

// subscriptions compares what is subscribed with what was last told.
func (g *gathering) subscriptions(touch store.Touch) error {
	if g.w.subs == nil {
		return nil
	}
	list, err := g.snap.Subscriptions()
	if err != nil {
		return err
	}
	g.found.subs = setOf(list)
	if touch.First == 0 {
		return nil
	}
	for _, name := range list {
		if !g.w.subs[name] {
			g.listed = append(g.listed, name)
		}
	}
	for name := range g.w.subs {
		if !g.found.subs[name] {
			g.listed = append(g.listed, name)
		}
	}
	return nil
}

// lists makes the LIST responses of what was found, each name once.
func (g *gathering) lists() error {
	told := map[string]bool{}
	add := func(name, old string, event imap.NotifyEvents) error {
		if told[name] {
			return nil
		}
		l, ok, err := g.list(name, old, event)
		if ok {
			told[name] = true
			g.found.lists = append(g.found.lists, l)
		}
		return err
	}
	for _, old := range slices.Sorted(maps.Keys(g.renamed)) {
		now := g.renamed[old]
		if up, to := store.Parent(old), store.Parent(now); up != "" && g.renamed[up] == to && old[len(up):] == now[len(to):] {
			continue // it went with the one above it, for which there is an event
		}
		if err := add(now, old, imap.NotifyMailboxName); err != nil {
			return err
		}
	}
	for _, name := range affected(g.changed) {
		if err := add(name, "", imap.NotifyMailboxName); err != nil {
			return err
		}
	}
	slices.Sort(g.listed)
	for _, name := range g.listed {
		if err := add(name, "", imap.NotifySubscriptionChange); err != nil {
			return err
		}
	}
	return nil
}

// list returns the LIST response for a name, if the client wants to be told of the
// event of it, or of the name it had.
func (g *gathering) list(name, old string, event imap.NotifyEvents) (l listNews, ok bool, err error) {
	box, err := g.snap.Mailbox(name)
	gone := fault.Is(err, fault.NotFound)
	if err != nil && !gone {
		return l, false, err
	}
	if gone {
		box = store.Mailbox{Name: name}
	}
	events, err := g.s.eventsOf(g.snap, &g.w.of, &box)
	if err == nil && events&event == 0 && old != "" {
		events, err = g.s.eventsOf(g.snap, &g.w.of, &store.Mailbox{Name: old})
	}
	if err != nil || events&event == 0 {
		return l, false, err
	}
	var attrs []string
	children, err := g.snap.HasChildren(name)
	switch {
	case gone && children:
		attrs = []string{`\NonExistent`, `\HasChildren`}
	case gone:
		attrs = []string{`\NonExistent`}
	case children:
		attrs = []string{`\HasChildren`}
	default:
		attrs = []string{`\HasNoChildren`}
	}
	if err != nil {
		return l, false, err
	}
	subscribed, err := g.snap.Subscribed(name)
	if subscribed {
		attrs = append(attrs, `\Subscribed`)
	}
	if use := g.w.of.use(&box); use != "" {
		attrs = append(attrs, use)
	}
	return listNews{strings.Join(attrs, " "), name, old}, err == nil, err
}
