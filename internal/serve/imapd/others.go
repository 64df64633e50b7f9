package imapd

import (
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// otherUsers is the namespace in which mailboxes of other users lie (RFC 2342): with the
// owner's address as the next level, which is the owner's INBOX, and what other
// mailboxes the owner has below it.
const otherUsers = "Other Users"

// owner is whose mailboxes a name or a view is about.
type owner struct {
	acct   *store.Account // as the session's user meets it
	prefix string         // what stands before the names; "" for the user's own
}

// shown returns a mailbox name of the owner as the client sees it.
func (o *owner) shown(name string) string {
	switch {
	case o.prefix == "":
		return name
	case name == "INBOX":
		return o.prefix
	}
	return o.prefix + store.Separator + name
}

// use returns the special use of a mailbox as LIST shows it: what use somebody else
// makes of a mailbox is nothing to the user.
func (o *owner) use(box *store.Mailbox) string {
	if o.prefix != "" {
		return ""
	}
	return useAttribute(box)
}

func (s *session) self() owner { return owner{acct: s.acct} }

// place is where a name of the client's leads.
type place struct {
	owner
	name string // there
}

func noMailbox() error { return fault.New(fault.NotFound, "no such mailbox") }

// place finds out whose mailbox a name is; whether it is there is not asked. For the
// user's own names that takes no more than a look at the name. Faults: NotFound.
func (s *session) place(name string) (place, error) { return s.finder().placeOf(s.acct, name) }

// placeOf is place for any user.
func (s *finder) placeOf(user *store.Account, name string) (place, error) {
	if !inOtherUsers(name) {
		return place{owner{acct: user}, name}, nil
	}
	rest, below := strings.CutPrefix(name, otherUsers+store.Separator)
	if !below {
		return place{}, noMailbox()
	}
	level, rest, _ := strings.Cut(rest, store.Separator)
	if rest == "" {
		rest = "INBOX"
	}
	addr, err := mail.ParseAddress(levelToAddress.Replace(level))
	if err != nil {
		return place{}, noMailbox()
	}
	account, err := s.srv.opt.Directory.Lookup(s.ctx, addr)
	switch {
	case fault.Is(err, fault.NotFound), err == nil && account.ID == user.ID():
		return place{}, noMailbox()
	case err != nil:
		return place{}, err
	}
	return place{s.ownerOf(user, account.ID, account.Address), rest}, nil
}

func inOtherUsers(name string) bool {
	rest, ok := strings.CutPrefix(name, otherUsers)
	return ok && (rest == "" || strings.HasPrefix(rest, store.Separator))
}

// ownerOf returns another account as a user meets it.
func (s *finder) ownerOf(user *store.Account, id mail.AccountID, addr mail.Address) owner {
	level := addressToLevel.Replace(addr.String())
	return owner{s.srv.opt.Store.Account(id).As(user.ID()), otherUsers + store.Separator + level}
}

// An address may have characters that a level of a name cannot.
var (
	addressToLevel = strings.NewReplacer("=", "=3D", "/", "=2F", "*", "=2A", "%", "=25")
	levelToAddress = strings.NewReplacer("=3D", "=", "=2F", "/", "=2A", "*", "=25", "%")
)

// lacks is the fault for one who has not got the rights that are needed: NOPERM, or as
// if there were no mailbox for one who cannot even list it (RFC 4314, 6).
func lacks(have, need mail.Rights) error {
	switch {
	case have.Has(need):
		return nil
	case !have.Has(mail.RightLookup):
		return noMailbox()
	}
	return store.Refusal(have)
}

// lookup returns a mailbox in a snapshot of its owner's account, if the user has rights
// on it.
func (p *place) lookup(snap *store.Snapshot, need mail.Rights) (store.Mailbox, error) {
	box, err := snap.Mailbox(p.name)
	if err == nil {
		err = lacks(p.acct.Rights(&box), need)
	}
	return box, err
}

// mailbox returns the mailbox of a name, if the user has rights on it. Faults: NotFound,
// Denied, Invalid.
func (s *session) mailbox(name string, need mail.Rights) (p place, box store.Mailbox, err error) {
	if p, err = s.place(name); err != nil {
		return p, box, err
	}
	if box, known := p.acct.Known(p.name); known {
		return p, box, lacks(p.acct.Rights(&box), need)
	}
	err = p.acct.View(s.ctx, func(snap *store.Snapshot) (err error) {
		box, err = p.lookup(snap, need)
		return err
	})
	return p, box, err
}

// visible is a mailbox that the user can see.
type visible struct {
	of  owner
	box store.Mailbox
}

func (b *visible) name() string { return b.of.shown(b.box.Name) }

// visible returns all mailboxes that the user has one of the rights on, the user's own
// first, each owner's in order of name, and the user's subscriptions. others says whether
// mailboxes of others are wanted.
func (s *session) visible(rights mail.Rights, others bool) (list []visible, subscribed []string, err error) {
	var own []store.Mailbox
	err = s.acct.View(s.ctx, func(snap *store.Snapshot) (err error) {
		if own, err = snap.Mailboxes(); err == nil {
			subscribed, err = snap.Subscriptions()
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	list = make([]visible, 0, len(own))
	add := func(of owner, boxes []store.Mailbox) {
		for i := range boxes {
			if of.acct.Rights(&boxes[i])&rights != 0 {
				list = append(list, visible{of, boxes[i]})
			}
		}
	}
	add(s.self(), own)
	if !others {
		return list, subscribed, nil
	}
	sharers, err := s.acct.Sharers(s.ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range sharers {
		boxes, err := s.srv.opt.Store.Account(id).As(s.acct.ID()).Shared(s.ctx, rights)
		if err == nil && len(boxes) > 0 {
			account, e := s.srv.opt.Directory.AccountByID(s.ctx, id)
			if err = e; err == nil {
				add(s.finder().ownerOf(s.acct, id, account.Address), boxes)
			}
		}
		if err != nil && !fault.Is(err, fault.NotFound) { // the account has been removed
			return nil, nil, err
		}
	}
	return list, subscribed, nil
}

// mayStay looks what the user may do with the selected mailbox now. It fails if reading is
// not among it, or if the user is no more. As long as neither account has changed it
// costs nothing to know, where no other process may have changed them.
func (s *session) mayStay() error {
	v := s.view
	if v == nil || v.prefix == "" && v.rights == mail.AllRights {
		return nil
	}
	generation := v.acct.Generation() + s.acct.Generation()
	if v.checked == generation && !s.srv.opt.Store.IsShared() {
		return nil
	}
	err := s.acct.View(s.ctx, func(*store.Snapshot) error { return nil })
	var pic *store.Picture
	if err == nil {
		pic, err = v.acct.Picture(s.ctx, v.box)
	}
	if err == nil {
		box := pic.Mailbox()
		rights := v.acct.Rights(&box)
		v.regained = v.regained || rights != v.rights
		v.rights = rights
		err = stillRead(rights)
	}
	switch {
	case fault.Is(err, fault.NotFound):
		return fatal{fault.New(fault.NotFound, "the selected mailbox has been deleted")}
	case fault.Is(err, fault.Unavailable): // he is held: what is kept of the mailbox he is told once it is known
		return err
	case err != nil:
		return fatal{err}
	}
	v.checked = generation
	return nil
}

// may fails if the user lacks rights on the mailbox. A change looks at them itself, if
// there is anything to change.
func (v *view) may(need mail.Rights) error {
	if !v.rights.Has(need) {
		return store.Refusal(v.rights)
	}
	return nil
}

func stillRead(have mail.Rights) error {
	if !have.Has(mail.RightRead) {
		return fault.New(fault.Denied, "the selected mailbox is not shared with you any more")
	}
	return nil
}
