package imapsource

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// Verbs that change the other side, for those who keep both in step and bring mail out.
// Mailboxes are named by move.Mailbox.Source, messages by move.Item.Key. A key whose
// UIDVALIDITY is not the mailbox's names nothing any more and is passed over.

// KeyOf returns the key of a message.
func KeyOf(uidValidity uint32, uid mail.UID) string {
	return strconv.FormatUint(uint64(uidValidity), 10) + "." + strconv.FormatUint(uint64(uid), 10)
}

// uids returns the UIDs of keys that are of this UIDVALIDITY.
func uids(validity uint32, keys []string) mail.UIDSet {
	var list []mail.UID
	for _, k := range keys {
		v, u, _ := strings.Cut(k, ".")
		vn, err1 := strconv.ParseUint(v, 10, 32)
		un, err2 := strconv.ParseUint(u, 10, 32)
		if err1 == nil && err2 == nil && uint32(vn) == validity && un > 0 {
			list = append(list, mail.UID(un))
		}
	}
	return mail.SetOf(list...)
}

// open opens a mailbox for changes and hands over the UIDs of keys.
func (s *Source) open(ctx context.Context, source string, keys []string, fn func(c *imapc.Client, sel *imapc.Selected, set mail.UIDSet) error) error {
	box, err := s.box(ctx, source)
	if err != nil {
		return err
	}
	return s.once(ctx, func(c *imapc.Client) error {
		sel, err := c.Select(ctx, box.Wire, imapc.Select{})
		if err != nil {
			return err
		}
		if sel.ReadOnly {
			return fault.Newf(fault.Denied, "the mailbox %s at %s may not be changed", box.Name, s.opt.IMAP.Host)
		}
		set := uids(sel.UIDValidity, keys)
		if set.IsEmpty() {
			return nil
		}
		return fn(c, sel, set)
	})
}

// SetFlags changes flags and keywords of messages. Keywords are left out of mailboxes that
// take none.
func (s *Source) SetFlags(ctx context.Context, source string, keys []string, how imapc.Storing, flags mail.Flags, keywords []string) error {
	return s.open(ctx, source, keys, func(c *imapc.Client, sel *imapc.Selected, set mail.UIDSet) error {
		if !sel.Keywords {
			keywords = nil
		}
		if flags == 0 && len(keywords) == 0 && how != imapc.SetFlags {
			return nil
		}
		return c.Store(ctx, set, how, flags, keywords)
	})
}

// Moved is what became of a message for Move, Trash and Remove.
type Moved struct {
	Key  string // what it is called in the other mailbox; "" if the server does not say
	Left bool   // it is in the first mailbox all the same, marked \Deleted or not
}

// Move moves messages into another mailbox and tells what became of them, by their keys: those
// without an entry are not moved, as far as it is known. There are entries with an error, too.
// If the connection breaks it is not tried again: what was under way may be done there.
func (s *Source) Move(ctx context.Context, source string, keys []string, to string) (map[string]Moved, error) {
	dst, err := s.box(ctx, to)
	if err != nil {
		return nil, err
	}
	moved := map[string]Moved{}
	err = s.open(ctx, source, keys, func(c *imapc.Client, sel *imapc.Selected, set mail.UIDSet) error {
		out, err := c.Move(ctx, set, dst.Wire)
		for _, k := range keys {
			if u := uids(sel.UIDValidity, []string{k}); !u.IsEmpty() && out.Done.Contains(u[0].From) {
				moved[k] = Moved{Left: out.Left.Contains(u[0].From)}
			}
		}
		for i := range out.From {
			k := KeyOf(sel.UIDValidity, out.From[i])
			moved[k] = Moved{Key: KeyOf(out.UIDValidity, out.To[i]), Left: out.Left.Contains(out.From[i])}
		}
		if err != nil {
			return final{err}
		}
		return nil
	})
	if p := imapc.ProblemOf(err); p == imapc.Lost || p == imapc.Timeout {
		s.finish(ctx, source, moved)
	}
	return moved, err
}

// finish removes what was copied before the connection broke, which may be done twice.
func (s *Source) finish(ctx context.Context, source string, moved map[string]Moved) {
	var keys []string
	for k, m := range moved {
		if m.Left {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return
	}
	gone, _ := s.Remove(ctx, source, keys) // what is left is told
	for k, m := range gone {
		moved[k] = Moved{Key: moved[k].Key, Left: m.Left}
	}
}

// Remove removes messages for good, and tells which are only marked \Deleted, by their keys.
func (s *Source) Remove(ctx context.Context, source string, keys []string) (map[string]Moved, error) {
	removed := map[string]Moved{}
	err := s.open(ctx, source, keys, func(c *imapc.Client, sel *imapc.Selected, set mail.UIDSet) error {
		left, err := c.Expunge(ctx, set)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if u := uids(sel.UIDValidity, []string{k}); !u.IsEmpty() {
				removed[k] = Moved{Left: left.Contains(u[0].From)}
			}
		}
		return nil
	})
	return removed, err
}

// Trash moves messages into the Trash there, which is made if there is none; those that lie in it
// are removed for good.
func (s *Source) Trash(ctx context.Context, source string, keys []string) (map[string]Moved, error) {
	if _, err := s.box(ctx, source); err != nil {
		return nil, err
	}
	trash := s.withRole(mail.RoleTrash)
	if trash == "" {
		var err error
		if trash, err = s.CreateMailbox(ctx, "Trash", mail.RoleTrash, true); err != nil {
			return nil, fault.Wrap(fault.Of(err), "there is no Trash at "+s.opt.IMAP.Host+", and none can be made: nothing is deleted there: "+fault.Say(err), err)
		}
	}
	if trash == source {
		return s.Remove(ctx, source, keys)
	}
	return s.Move(ctx, source, keys, trash)
}

// Delete puts messages into the Trash there if that is wanted, as Trash does, else it removes
// them for good.
func (s *Source) Delete(ctx context.Context, source string, keys []string, trash bool) (err error) {
	if trash {
		_, err = s.Trash(ctx, source, keys)
	} else {
		_, err = s.Remove(ctx, source, keys)
	}
	return err
}

// withRole returns the mailbox with a role, by Mailbox.Source, "" if there is none.
func (s *Source) withRole(role mail.Role) string {
	for source, m := range s.boxes {
		if m.Role == role {
			return source
		}
	}
	return ""
}

// Appended is what became of a message.
type Appended struct {
	Key string // "" if it cannot be told
	Err error
}

// Append puts messages into a mailbox. It is not tried again if the connection breaks: what
// became of those without an answer is then not known, and an error is returned. Where the
// server does not say the UID, it is looked for by ids, the Message-IDs, if given.
func (s *Source) Append(ctx context.Context, source string, list []imapc.Appending, ids []string) ([]Appended, error) {
	box, err := s.box(ctx, source)
	if err != nil {
		return nil, err
	}
	var c *imapc.Client
	if err := s.once(ctx, func(got *imapc.Client) error { c = got; return nil }); err != nil {
		return nil, err
	}
	done, err := c.Append(ctx, box.Wire, list)
	if err != nil {
		return nil, err
	}
	out := make([]Appended, len(done))
	for i, d := range done {
		out[i].Err = d.Err
		switch {
		case d.Err != nil:
		case d.UID != 0:
			out[i].Key = KeyOf(d.UIDValidity, d.UID)
		case i < len(ids) && ids[i] != "":
			out[i].Key = s.lookFor(ctx, c, box.Wire, ids[i])
		}
	}
	return out, nil
}

// lookFor returns the key of the newest message with a Message-ID, "" if there is none.
func (s *Source) lookFor(ctx context.Context, c *imapc.Client, wire, id string) string {
	sel, err := c.Select(ctx, wire, imapc.Select{})
	if err != nil {
		return ""
	}
	set, err := c.Search(ctx, "HEADER Message-ID "+string(imap.AppendString(nil, "<"+id+">", false, true)))
	if err != nil || len(set) == 0 {
		return ""
	}
	return KeyOf(sel.UIDValidity, set[len(set)-1].To)
}

// CreateMailbox makes a mailbox from a name with levels by "/", subscribes to it if that is
// wanted, and returns it as Mailboxes would. That it is there already is no error.
func (s *Source) CreateMailbox(ctx context.Context, name string, role mail.Role, subscribed bool) (source string, err error) {
	if s.boxes == nil {
		if _, err := s.Mailboxes(ctx); err != nil {
			return "", err
		}
	}
	wire := s.wire(name)
	for src, m := range s.boxes {
		if m.Wire == wire || strings.EqualFold(name, "INBOX") && m.Role == mail.RoleInbox {
			return src, nil
		}
	}
	err = s.once(ctx, func(c *imapc.Client) error {
		if err := c.Create(ctx, wire, role); err != nil && !fault.Is(err, fault.Exists) {
			// Some servers say only NO of what exists.
			if st, e := c.Status(ctx, wire); e != nil || st[0] == nil {
				return err
			}
		}
		if subscribed {
			return c.Subscribe(ctx, wire)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	source = shorten(wire)
	s.boxes[source] = imapc.Mailbox{Wire: wire, Name: imapName(wire), Separator: s.sep, Role: role, Subscribed: subscribed}
	return source, nil
}

// wire returns a name as the server has it: its separator, its prefix. What is its separator
// within a level becomes "_".
func (s *Source) wire(name string) string {
	levels := strings.Split(name, "/")
	sep := string(rune(s.sep))
	if s.sep == 0 {
		sep = "_" // a server without levels
	}
	for i, l := range levels {
		l = strings.ReplaceAll(l, "\u2215", "/")
		levels[i] = strings.ReplaceAll(l, sep, "_")
	}
	if strings.EqualFold(levels[0], "INBOX") {
		return imap.EncodeUTF7(strings.Join(levels, sep))
	}
	return s.prefix + imap.EncodeUTF7(strings.Join(levels, sep))
}

// Subscribe subscribes to a mailbox, or ends that.
func (s *Source) Subscribe(ctx context.Context, source string, on bool) error {
	box, err := s.box(ctx, source)
	if err != nil {
		return err
	}
	return s.once(ctx, func(c *imapc.Client) error {
		if on {
			return c.Subscribe(ctx, box.Wire)
		}
		return c.Unsubscribe(ctx, box.Wire)
	})
}

// CanWait tells whether the server can be waited for with Wait (IDLE), once it was reached.
func (s *Source) CanWait() bool {
	return s.c != nil && (s.c.Capable("IDLE") || s.c.Capable("IMAP4REV2"))
}

// leaving is how long a server may take to come to an end when Wait is to end.
const leaving = time.Second

// Wait returns nil when there are news of a mailbox, or ctx ends; an error if the server does not
// answer soon then.
func (s *Source) Wait(ctx context.Context, m move.Mailbox) error {
	box, err := s.box(ctx, m.Source)
	if err != nil {
		return err
	}
	for {
		news := false
		hard, kill := context.WithCancel(context.WithoutCancel(ctx))
		stop := context.AfterFunc(ctx, func() { time.AfterFunc(leaving, kill) })
		err := s.with(hard, func(c *imapc.Client) error {
			sel, err := c.Select(ctx, box.Wire, imapc.Select{ReadOnly: true})
			if err != nil || ctx.Err() != nil {
				return err
			}
			if last, ok := s.seen[m.Source]; ok && (sel.UIDNext != 0 && last.Next != sel.UIDNext || // RFC 3501, 6.3.1: it need not be told
				last.ModSeq != sel.ModSeq || last.Count != sel.Exists) {
				news = true
				return nil
			}
			was := sel.Exists
			return c.Idle(ctx, func(n imapc.News) bool {
				news = news || n.Exists == 0 || n.Exists != was
				return news
			})
		}, nil)
		stop()
		kill()
		if err != nil || news || ctx.Err() != nil {
			return err
		}
	}
}
