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
	for _, id := range boxes {
		err := s.searchMailbox(cmd, id, &args.Search)
		if err != nil && !fault.Is(err, fault.NotFound) { // deleted meanwhile
			s.unsave(&args.Search, err)
			return reply{}, err
		}
		if err := s.flushFull(); err != nil {
			return reply{}, err
		}
	}
	return ok("ESEARCH done"), nil
}

func usesSaved(k *imap.SearchKey) bool {
	return k.Set.Saved || slices.ContainsFunc(k.Keys, func(k imap.SearchKey) bool { return usesSaved(&k) })
}

// chosen returns the mailboxes that filters mean, each once, in order of name. Names
// without a mailbox are passed over.
func (s *session) chosen(filters []imap.MailboxFilter) ([]mail.MailboxID, error) {
	var all []store.Mailbox
	var subscribed []string
	err := s.acct.View(s.ctx, func(snap *store.Snapshot) (err error) {
		if all, err = snap.Mailboxes(); err == nil {
			subscribed, err = snap.Subscriptions()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var ids []mail.MailboxID
	for i := range all {
		if slices.ContainsFunc(filters, func(f imap.MailboxFilter) bool { return s.means(f, &all[i], subscribed) }) {
			ids = append(ids, all[i].ID)
		}
	}
	return ids, nil
}

// means tells whether a filter means a mailbox (RFC 5465, 6; RFC 7377, 2.2).
func (s *session) means(f imap.MailboxFilter, box *store.Mailbox, subscribed []string) bool {
	switch f.Source {
	case imap.SourceSelected:
		return s.view != nil && s.view.box == box.ID
	case imap.SourceInboxes:
		return box.Role == mail.RoleInbox
	case imap.SourcePersonal:
		return true
	case imap.SourceSubscribed:
		return slices.Contains(subscribed, box.Name)
	}
	return slices.ContainsFunc(f.Names, func(name string) bool {
		below, isBelow := strings.CutPrefix(box.Name, name+store.Separator)
		switch {
		case box.Name == name:
			return true
		case f.Source == imap.SourceSubtreeOne:
			return isBelow && !strings.Contains(below, store.Separator)
		}
		return isBelow && f.Source == imap.SourceSubtree
	})
}

// searchMailbox searches one mailbox and tells what it found, if anything.
func (s *session) searchMailbox(cmd *command, id mail.MailboxID, args *imap.Search) error {
	v := s.view
	if v == nil || v.box != id {
		pic, err := s.acct.Picture(s.ctx, id)
		if err != nil {
			return err
		}
		v = &view{box: id, readOnly: true, pic: pic}
		if from, next := s.acct.RecentFrom(pic), pic.Mailbox().UIDNext; from < next {
			v.recent.AddRange(from, next-1)
		}
	}
	found, err := s.findFor(v, args)
	if err != nil || found.set.IsEmpty() {
		if err == nil && args.Return&imap.ReturnSave != 0 {
			s.saved = nil
		}
		return err
	}
	box := v.pic.Mailbox()
	where := func() {
		s.enc.Raw(" MAILBOX ").Mailbox(box.Name).Raw(" UIDVALIDITY ").Number(uint64(box.UIDValidity))
	}
	return s.tellFound(cmd, v, args, &found, where)
}
