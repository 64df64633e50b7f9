package imapd

import (
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// esearchCommand is ESEARCH: a search of several mailboxes, answered in UIDs for each
// that has a match (RFC 7377).
func (s *session) esearchCommand(cmd *command) (reply, error) {
	var args imap.MultiSearch
	if !s.dec.ExpectSP() || !s.dec.ExpectMultiSearch(&args) || !s.dec.ExpectCRLF() {
		s.unsave(&args.Search, s.dec.Err())
		return reply{}, s.dec.Err()
	}
	if len(args.Sources) == 0 {
		args.Sources = []imap.MailboxFilter{{Source: imap.SourceSelected}}
	}
	isSelected := func(f imap.MailboxFilter) bool { return f.Source == imap.SourceSelected }
	onlySelected := !slices.ContainsFunc(args.Sources, func(f imap.MailboxFilter) bool { return !isSelected(f) })
	switch {
	case s.view == nil && slices.ContainsFunc(args.Sources, isSelected):
		return bad("no mailbox is selected"), nil
	case args.Return&imap.ReturnSave != 0 && !onlySelected: // RFC 7377, 2.2
		return bad("SAVE is possible for the selected mailbox alone"), nil
	case usesSaved(&args.Key) && !onlySelected:
		return bad("$ is about the selected mailbox alone"), nil
	case args.Return&imap.ReturnUpdate != 0 && s.view == nil: // RFC 7377, 2.2
		return bad("no mailbox is selected, which is the only one that updates are possible for"), nil
	case s.tagInUse(cmd, &args.Search):
		return bad("updates are told under this tag already"), nil
	}
	cmd.uid, cmd.numbers = true, usesNumbers(&args.Key)
	if usesModSeq(&args.Key) {
		s.enableCondstore()
	}
	if args.Return == 0 {
		args.Return = imap.ReturnAll
	}
	boxes, err := s.chosen(args.Sources)
	if err != nil {
		return reply{}, err
	}
	s.progress.open = len(boxes) > 1
	for i := range boxes {
		err := s.searchMailbox(cmd, &boxes[i].of, boxes[i].box.ID, &args.Search, len(boxes) == 1)
		if err != nil && !fault.Is(err, fault.NotFound) { // deleted meanwhile
			s.unsave(&args.Search, err)
			return reply{}, err
		}
		if err := s.flushFull(); err != nil {
			return reply{}, err
		}
	}
	if args.Return&imap.ReturnUpdate != 0 && !slices.ContainsFunc(boxes, func(b visible) bool { return s.view.is(&b.of, b.box.ID) }) {
		s.noUpdate(cmd.tag, "updates are possible for the selected mailbox only")
	}
	return ok("ESEARCH done"), nil
}

func usesSaved(k *imap.SearchKey) bool {
	return k.Set.Saved || slices.ContainsFunc(k.Keys, func(k imap.SearchKey) bool { return usesSaved(&k) })
}

// chosen returns the mailboxes that filters mean, each once, the user's own first, in
// order of name. Names without a mailbox are passed over, and what the user may not read.
func (s *session) chosen(filters []imap.MailboxFilter) ([]visible, error) {
	beyond := func(f imap.MailboxFilter) bool {
		return f.Source != imap.SourceInboxes && f.Source != imap.SourcePersonal
	}
	all, subscribed, err := s.visible(mail.RightRead, slices.ContainsFunc(filters, beyond))
	if err != nil {
		return nil, err
	}
	var list []visible
	for i := range all {
		means := func(f imap.MailboxFilter) bool {
			return s.means(f, &all[i], func(name string) bool { return slices.Contains(subscribed, name) })
		}
		if slices.ContainsFunc(filters, means) {
			list = append(list, all[i])
		}
	}
	return list, nil
}

// means tells whether a filter means a mailbox (RFC 5465, 6; RFC 7377, 2.2).
func (s *session) means(f imap.MailboxFilter, b *visible, subscribed func(name string) bool) bool {
	switch f.Source {
	case imap.SourceSelected:
		return s.view.is(&b.of, b.box.ID)
	case imap.SourceInboxes:
		return b.of.prefix == "" && b.box.Role == mail.RoleInbox
	case imap.SourcePersonal:
		return b.of.prefix == ""
	case imap.SourceSubscribed:
		return subscribed(b.name())
	}
	return slices.ContainsFunc(f.Names, func(name string) bool {
		below, isBelow := strings.CutPrefix(b.name(), name+store.Separator)
		switch {
		case b.name() == name:
			return true
		case f.Source == imap.SourceSubtreeOne:
			return isBelow && !strings.Contains(below, store.Separator)
		}
		return isBelow && f.Source == imap.SourceSubtree
	})
}

// searchMailbox searches one mailbox, perhaps the only one, and tells what it found, if
// anything.
func (s *session) searchMailbox(cmd *command, of *owner, id mail.MailboxID, args *imap.Search, only bool) error {
	v := s.view
	if !v.is(of, id) {
		pic, err := of.acct.Picture(s.ctx, id)
		if err != nil {
			return err
		}
		v = &view{owner: *of, box: id, readOnly: true, pic: pic}
		if from, next := of.acct.RecentFrom(pic), pic.Mailbox().UIDNext; from < next {
			v.recent.AddRange(from, next-1)
		}
	}
	found, err := s.findFor(v, args)
	if cmd.lowest = found.lowest; cmd.lowest > 0 && !only { // a UID would not say of which
		return tooMany(s.srv.opt.MessageLimit)
	}
	if err != nil {
		return err
	}
	update := s.beginUpdate(cmd, v, args, nil, &found)
	if update != nil {
		update.where = true
	}
	switch {
	case !found.set.IsEmpty():
		err = s.tellFound(cmd, v, args, &found, func() { s.tellWhere(v) })
	case args.Return&imap.ReturnSave != 0:
		s.saved = nil
	}
	if v == s.view {
		s.keepUpdated(cmd, args, update)
	}
	return err
}

// tellWhere writes which mailbox an ESEARCH response is about (RFC 7377, 2.1).
func (s *session) tellWhere(v *view) {
	box := v.pic.Mailbox()
	s.enc.Raw(" MAILBOX ").Mailbox(v.shown(box.Name)).Raw(" UIDVALIDITY ").Number(uint64(box.UIDValidity))
}
