package imapd

import (
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// storeLabels is STORE and UID STORE of X-GM-LABELS. To add a label is to copy the
// message into its mailbox, which is made if it is not there; to remove one is to take
// it out. A message that would be in no mailbox any more goes to the archive, as it
// stays among all mail with Gmail; one that gets \Trash or \Spam leaves all others.
func (s *session) storeLabels(cmd *command, args imap.Store) (reply, error) {
	uids, missing, err := s.resolve(args.Set, cmd.uid)
	if err != nil {
		return reply{}, err
	}
	c := labelChange{s: s, args: &args}
	if args.Conditional {
		s.enableCondstore()
		since := mail.ModSeq(args.Unchanged)
		c.since = &since
	}
	failed, err := s.view.acct.Label(s.ctx, s.view.box, uids, len(args.Labels), c.plan)
	if err != nil {
		return reply{}, err
	}
	for _, name := range c.made {
		s.c.Log().Debug("mailbox made for a label", "mailbox", name)
	}
	failed = s.view.pic.Existing(failed)
	if !args.Silent {
		if err := s.tellLabels(cmd, without(s.view.pic.Existing(uids), failed)); err != nil {
			return reply{}, err
		}
	}
	return s.stored(cmd, missing, failed), nil
}

// tellLabels answers a STORE with the labels that messages have now. Those that have
// left the mailbox by it are told by the sync after the command.
func (s *session) tellLabels(cmd *command, uids mail.UIDSet) error {
	now, err := s.view.acct.Picture(s.ctx, s.view.box)
	if err != nil {
		return err
	}
	l := labelNames{}
	chunk := make([]store.Message, 0, chunkMessages)
	do := func() error {
		if err := s.readLabels(&l, chunk); err != nil {
			return err
		}
		l.important = now.HasKeyword(keywordImportant)
		for _, m := range chunk {
			s.openFetch(m.UID)
			if cmd.uid && !s.uidOnly {
				s.enc.Raw("UID ").Number(uint64(m.UID)).SP()
			}
			if s.condstore {
				s.enc.Raw("MODSEQ (").Number(uint64(m.ModSeq)).Raw(") ")
			}
			s.writeLabels(&l, m)
			s.enc.Raw(")").CRLF()
		}
		chunk = chunk[:0]
		return s.flushFull()
	}
	for _, m := range now.Messages(uids) {
		if chunk = append(chunk, m); len(chunk) == cap(chunk) {
			if err := do(); err != nil {
				return err
			}
		}
	}
	return do()
}

// labelChange makes a change of mailboxes out of labels.
type labelChange struct {
	s     *session
	args  *imap.Store
	since *mail.ModSeq
	made  []string
}

// usualNames are the mailboxes that are made for system labels if no mailbox has the
// role.
var usualNames = map[string]struct {
	name string
	role mail.Role
}{
	imap.LabelSent: {"Sent", mail.RoleSent}, imap.LabelDraft: {"Drafts", mail.RoleDrafts},
	imap.LabelTrash: {"Trash", mail.RoleTrash}, imap.LabelSpam: {"Junk", mail.RoleJunk},
}

// plan says what the labels mean, in the Update that makes it true.
func (c *labelChange) plan(tx *store.Tx) (store.Labelling, error) {
	out := store.Labelling{UnchangedSince: c.since, Only: c.args.Op == imap.ReplaceFlags}
	c.made = nil
	boxes, err := tx.Mailboxes()
	if err != nil {
		return out, err
	}
	remove := c.args.Op == imap.RemoveFlags
	for _, label := range c.args.Labels {
		if label == imap.LabelStarred || label == imap.LabelImportant {
			continue
		}
		id, err := c.mailbox(tx, boxes, label, !remove)
		switch {
		case err != nil:
			return out, err
		case id == 0:
		case remove:
			out.Remove = append(out.Remove, id)
		default:
			out.Add = append(out.Add, id)
			if label == imap.LabelTrash || label == imap.LabelSpam {
				out.Alone = append(out.Alone, id)
			}
		}
	}
	for i := range boxes {
		if boxes[i].Role == mail.RoleAll {
			out.Spare = append(out.Spare, boxes[i].ID)
		}
	}
	if out.Rest, err = c.archive(tx, boxes, &out); err != nil {
		return out, err
	}
	out.Flags = c.flags()
	return out, nil
}

// mailbox returns the mailbox of a label; 0 if there is none and none is to be made.
func (c *labelChange) mailbox(tx *store.Tx, boxes []store.Mailbox, label string, make bool) (mail.MailboxID, error) {
	system := imap.IsSystemLabel(label)
	for i := range boxes {
		isIt := system && roleLabels[boxes[i].Role] == label || !system && boxes[i].Name == label
		switch {
		case !isIt:
		case c.s.view.acct.Rights(&boxes[i]).Has(mail.RightLookup):
			return boxes[i].ID, nil
		case make:
			return 0, noMailbox()
		default:
			return 0, nil
		}
	}
	if !make || label == imap.LabelAll { // all mail is where it is
		return 0, nil
	}
	name, role := label, mail.Role("")
	if system {
		name, role = usualNames[label].name, usualNames[label].role
	}
	return c.make(tx, name, role)
}

// make returns the mailbox of a name, which is made if it is not there.
func (c *labelChange) make(tx *store.Tx, name string, role mail.Role) (mail.MailboxID, error) {
	m, err := tx.Mailbox(name)
	if err == nil {
		return m.ID, nil
	}
	if !fault.Is(err, fault.NotFound) {
		return 0, err
	}
	if m, err = tx.CreateMailbox(name, role); err != nil {
		return 0, err
	}
	if c.made = append(c.made, m.Name); c.s.view.prefix != "" {
		return m.ID, nil // what somebody else subscribes is no affair of the user's
	}
	return m.ID, tx.Subscribe(m.Name, true)
}

// archive returns where messages go that lose their last label, if any can.
func (c *labelChange) archive(tx *store.Tx, boxes []store.Mailbox, out *store.Labelling) (mail.MailboxID, error) {
	if !slices.Contains(out.Remove, c.s.view.box) {
		return 0, nil // they stay where they are
	}
	for _, role := range [...]mail.Role{mail.RoleAll, mail.RoleArchive} {
		if i := slices.IndexFunc(boxes, func(m store.Mailbox) bool { return m.Role == role }); i >= 0 {
			return boxes[i].ID, nil
		}
	}
	return c.make(tx, "Archive", mail.RoleArchive)
}

// flags returns the changes that the labels are which are no mailboxes. To replace all
// labels sets both or takes them.
func (c *labelChange) flags() []store.FlagChange {
	add, remove := store.FlagChange{Op: store.AddFlags}, store.FlagChange{Op: store.RemoveFlags}
	put := func(label string, flag mail.Flags, keyword []string) {
		named := slices.Contains(c.args.Labels, label)
		to := &add
		switch {
		case !named && c.args.Op != imap.ReplaceFlags:
			return
		case !named || c.args.Op == imap.RemoveFlags:
			to = &remove
		}
		to.Flags |= flag
		to.Keywords = append(to.Keywords, keyword...)
	}
	put(imap.LabelStarred, mail.Flagged, nil)
	put(imap.LabelImportant, 0, []string{keywordImportant})
	var changes []store.FlagChange
	for _, f := range []store.FlagChange{add, remove} {
		if f.Flags != 0 || len(f.Keywords) > 0 {
			changes = append(changes, f)
		}
	}
	return changes
}
