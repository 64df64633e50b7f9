package imapd

import (
	"slices"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// notify is what a client that has used NOTIFY wants to be told of. After NOTIFY NONE
// that is nothing, not even of the selected mailbox.
type notify struct {
	groups   []imap.NotifyGroup // of mailboxes that are not selected
	events   imap.NotifyEvents  // of all these groups
	selected imap.NotifyGroup   // without events if there is no such group
}

func newNotify(groups []imap.NotifyGroup) *notify {
	n := &notify{}
	for _, g := range groups {
		switch g.Filter.Source {
		case imap.SourceSelected, imap.SourceSelectedDelayed:
			n.selected = g
			continue
		}
		for i, name := range g.Filter.Names { // a name that cannot be is nobody's
			if clean, err := store.CleanName(name); err == nil {
				g.Filter.Names[i] = clean
			}
		}
		if g.Events != 0 {
			n.groups = append(n.groups, g)
			n.events |= g.Events
		}
	}
	return n
}

// empty tells whether there is nothing to be told of.
func (n *notify) empty() bool { return n.events == 0 && n.selected.Events == 0 }

// telling is which news of the selected mailbox may be told at a moment.
type telling struct{ arrivals, expunges, flags, notes bool }

// telling returns what a command lets be told, as far as the client wants to hear it. A
// command that expunges tells expunges whatever was asked for.
func (s *session) telling(cmd *command, may untagged) telling {
	t := telling{arrivals: true, expunges: may == tellAll, flags: true, notes: s.view.annotate}
	if n := s.notify; n != nil {
		has := func(e imap.NotifyEvents) bool { return n.selected.Events&e != 0 }
		asked := cmd.row != nil && cmd.row.writes && cmd.own == nil
		t.arrivals, t.flags = has(imap.NotifyMessageNew), has(imap.NotifyFlagChange)
		t.notes = has(imap.NotifyAnnotationChange)
		t.expunges = t.expunges && (asked || has(imap.NotifyMessageExpunge))
	}
	return t
}

// notifyCommand is NOTIFY (RFC 5465, 3.1).
func (s *session) notifyCommand(cmd *command, args imap.Notify) (reply, error) {
	if args.Unknown != "" {
		return no("BADEVENT ("+imap.NotifyEventNames()+")", "there is no event %s", args.Unknown), nil
	}
	// What has gathered is told before other rules hold.
	old := s.notify
	s.notify = &notify{selected: imap.NotifyGroup{Events: imap.NotifyMessages}}
	if s.view != nil {
		if err := s.sync(cmd, tellAll); err != nil {
			return reply{}, err
		}
	}
	s.notify = old
	if err := s.tellNews(); err != nil {
		return reply{}, err
	}
	return ok("NOTIFY done"), s.setNotify(newNotify(args.Groups), args.Status)
}

// setNotify makes n what the client wants to be told of. With status it is told at once
// how the mailboxes are. Memory: if names of mailboxes are watched, about 100 bytes for
// each that there is.
func (s *session) setNotify(n *notify, status bool) error {
	s.notify = n
	if n.empty() {
		s.unfollow()
		s.watchEntries()
		return nil
	}
	f := s.follow()
	s.watchEntries()
	for _, w := range f.watched {
		var shown []statusNews
		err := w.of.acct.View(s.ctx, func(snap *store.Snapshot) (err error) {
			if err = w.remember(snap, n.events); err == nil && status {
				shown, err = s.present(w, snap)
			}
			return err
		})
		if err != nil {
			return err
		}
		for i := range shown {
			if err := s.writeStatus(&w.of, &shown[i].box, shown[i].items); err != nil {
				return err
			}
			if err := s.flushFull(); err != nil {
				return err
			}
		}
	}
	return nil
}

// remember notes names and subscriptions as they are, as far as they are watched.
func (w *watched) remember(snap *store.Snapshot, events imap.NotifyEvents) error {
	w.names, w.subs, w.told = nil, nil, nil
	if events&imap.NotifyMailboxName != 0 {
		boxes, err := snap.Mailboxes()
		if err != nil {
			return err
		}
		w.names = make(map[mail.MailboxID]boxName, len(boxes))
		for i := range boxes {
			w.names[boxes[i].ID] = boxName{boxes[i].Name, boxes[i].Role}
		}
	}
	if events&imap.NotifySubscriptionChange != 0 {
		list, err := snap.Subscriptions()
		if err != nil {
			return err
		}
		w.subs = setOf(list)
	}
	return nil
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// present returns what NOTIFY SET STATUS tells of the mailboxes it watches.
func (s *session) present(w *watched, snap *store.Snapshot) ([]statusNews, error) {
	boxes, err := snap.Mailboxes()
	if err != nil {
		return nil, err
	}
	var shown []statusNews
	for i := range boxes {
		events, err := s.eventsOf(snap, &w.of, &boxes[i])
		if err != nil {
			return nil, err
		}
		var items imap.StatusItems
		if events&imap.NotifyMessageNew != 0 {
			items = imap.StatusMessages | imap.StatusUIDNext | imap.StatusUIDValidity
		}
		if events&(imap.NotifyFlagChange|imap.NotifyAnnotationChange) != 0 || items != 0 && s.condstore {
			items |= imap.StatusUIDValidity | imap.StatusHighestModSeq
		}
		if items != 0 && !s.view.is(&w.of, boxes[i].ID) {
			shown = append(shown, statusNews{boxes[i], items})
		}
	}
	return shown, nil
}

// eventsOf returns which events of a mailbox the client wants to be told of, those of
// messages as if it were not selected.
func (s *session) eventsOf(snap *store.Snapshot, of *owner, box *store.Mailbox) (events imap.NotifyEvents, err error) {
	subscribed := func(name string) bool {
		is, bad := snap.Subscribed(name)
		if bad != nil {
			err = bad
		}
		return is
	}
	b := visible{*of, *box}
	for i := range s.notify.groups {
		g := &s.notify.groups[i]
		if events|g.Events != events && s.means(g.Filter, &b, subscribed) {
			events |= g.Events
		}
	}
	return events, err
}

// wantsEntries tells whether changes of a mailbox's annotations (nil: the server's) are
// to be told by NOTIFY (RFC 5465, 5.6 and 5.7).
func (s *session) wantsEntries(snap *store.Snapshot, box *store.Mailbox) (bool, error) {
	switch n := s.notify; {
	case n == nil:
		return false, nil
	case box == nil:
		return n.events&imap.NotifyServerMetadata != 0, nil
	case n.events&imap.NotifyMailboxMetadata == 0:
		return false, nil
	}
	of := s.self()
	events, err := s.eventsOf(snap, &of, box)
	return events&imap.NotifyMailboxMetadata != 0, err
}

// between tells what has happened while no command was under way.
func (s *session) between() error {
	n := s.notify
	if n == nil {
		return nil
	}
	if s.view != nil {
		may := tellAll
		if n.selected.Filter.Source == imap.SourceSelectedDelayed { // RFC 5465, 6.1.2
			may = keepSeqs
		}
		if err := s.sync(&command{}, may); err != nil {
			return err
		}
	}
	if err := s.tellMetadata(); err != nil {
		return err
	}
	return s.tellNews()
}

// overflow gives up telling news, of which there are too many (RFC 5465, 5.8).
func (s *session) overflow() error {
	s.c.Log().Info("too much happens for NOTIFY")
	s.note("OK", "NOTIFICATIONOVERFLOW", "too much happens at once, nothing more is told")
	return s.setNotify(&notify{}, false)
}

// affected adds to names of mailboxes that were made or deleted those above them (RFC
// 5465, 5.4).
func affected(names []string) []string {
	all := slices.Clone(names)
	for _, name := range names {
		if up := store.Parent(name); up != "" {
			all = append(all, up)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
