package imapd

import (
	"context"
	"slices"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// feed is how a session learns what happens in mailboxes that it has not selected, and
// which changes are its own. It is there once NOTIFY or a search with updates needs it.
type feed struct {
	origin   store.Origin
	unmarked context.Context // the session's, before its changes were marked as its own
	watched  []*watched
	selected *watched // the account of the selected mailbox, if it is none of these
}

// watched is one account of whose mailboxes the client may be told. Mailboxes that
// other accounts share are watched by an entry more.
type watched struct {
	of       owner
	follower *store.Follower
	pending  store.Touched // taken from the follower and not told yet

	names map[mail.MailboxID]boxName     // as last told, if names are watched
	subs  map[string]bool                // likewise, if subscriptions are
	told  map[mail.MailboxID]mail.ModSeq // up to where mailboxes were told of, of some
}

// boxName is what is known of a mailbox that may be gone.
type boxName struct {
	name string
	role mail.Role
}

// follow begins to follow the account, if the session does not yet.
func (s *session) follow() *feed {
	if s.feed != nil {
		return s.feed
	}
	f := &feed{unmarked: s.ctx}
	f.watched = []*watched{s.watch(f, s.self())}
	s.feed, s.ctx = f, f.origin.Mark(s.ctx)
	s.followSelected()
	return f
}

func (s *session) watch(f *feed, of owner) *watched {
	return &watched{of: of, follower: of.acct.Follow(&f.origin, s.c.Wake)}
}

// followSelected follows the account of the selected mailbox, if that is another one.
func (s *session) followSelected() {
	f := s.feed
	if f == nil {
		return
	}
	if f.selected != nil {
		f.selected.follower.Stop()
		f.selected = nil
	}
	if s.view != nil && f.of(&s.view.owner) == nil {
		f.selected = s.watch(f, s.view.owner)
	}
}

// of returns what is followed of an account, or nil.
func (f *feed) of(of *owner) *watched {
	for _, w := range f.all() {
		if w.of.acct.ID() == of.acct.ID() {
			return w
		}
	}
	return nil
}

func (f *feed) all() []*watched {
	if f.selected == nil {
		return f.watched
	}
	return append(slices.Clone(f.watched), f.selected)
}

// unfollow ends it.
func (s *session) unfollow() {
	if s.feed == nil {
		return
	}
	for _, w := range s.feed.all() {
		w.follower.Stop()
	}
	s.ctx, s.feed = s.feed.unmarked, nil
}

// collect takes what the followers have gathered.
func (f *feed) collect() {
	for _, w := range f.all() {
		t := w.follower.Take()
		if w.pending.IsEmpty() {
			w.pending = t
			continue
		}
		for id, touch := range t.Boxes {
			w.touch(id, touch)
		}
		if t.Lost != 0 && (w.pending.Lost == 0 || t.Lost < w.pending.Lost) {
			w.pending.Lost = t.Lost
		}
	}
}

// touch adds a touch to those that are pending.
func (w *watched) touch(id mail.MailboxID, t store.Touch) {
	if w.pending.Boxes == nil {
		w.pending.Boxes = map[mail.MailboxID]store.Touch{}
	}
	had := w.pending.Boxes[id]
	if had.First == 0 || t.First != 0 && t.First < had.First {
		had.First = t.First
	}
	had.Brought = union(had.Brought, t.Brought)
	w.pending.Boxes[id] = had
}

// brought returns which messages of the selected mailbox the session put there itself
// since it was last told news.
func (s *session) brought() mail.UIDSet {
	if s.feed == nil {
		return nil
	}
	s.feed.collect()
	if w := s.feed.of(&s.view.owner); w != nil {
		return w.pending.Boxes[s.view.box].Brought
	}
	return nil
}

// leftBehind makes the mailbox that is about to be left one to be told of like others:
// from where the client has been told of it.
func (s *session) leftBehind(v *view) {
	if s.feed == nil || s.notify == nil {
		return
	}
	if w := s.feed.of(&v.owner); w != nil {
		w.touch(v.box, store.Touch{First: v.toldModSeq() + 1})
		s.c.Wake()
	}
}
