package link

import (
	"context"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// Mirror is a source that changes can be carried to. What it returns without an error is done
// there; messages that are no more there are passed over.
type Mirror interface {
	// SetFlags adds and takes away flags and keywords.
	SetFlags(ctx context.Context, m move.Mailbox, list []FlagChange) error
	// Move moves messages to another mailbox, and tells in order what became of them: with an
	// error, too, as what is copied must not be copied again.
	Move(ctx context.Context, from move.Mailbox, keys []string, to move.Mailbox) ([]Moved, error)
	// Trash moves messages into the trash there; those that lie in it are deleted.
	Trash(ctx context.Context, from move.Mailbox, keys []string) ([]Moved, error)
	// Remove deletes messages.
	Remove(ctx context.Context, from move.Mailbox, keys []string) ([]Moved, error)
}

// Moved is what became of a message there.
type Moved struct {
	Done bool   // it is where it was to go, as far as it is known
	Key  string // what it is called there; "" where the server does not say
	Left bool   // it is where it was, too: the server could only copy it and mark it \Deleted
}

// FlagChange is what is to be changed of a message at the source.
type FlagChange struct {
	Key         string
	Add, Remove mail.Flags
	AddWords    []string
	RemoveWords []string
}

// carriedAtOnce is how many changes are made at the source before it is noted here that they
// are: after a crash so many are made again, which changes nothing.
const carriedAtOnce = 200

// carry makes at the source what was changed here since both sides were the same.
func (r *round) carry(ctx context.Context) error {
	linked, err := r.linked(ctx)
	if err != nil {
		return err
	}
	if err := r.finish(ctx); err != nil {
		return err
	}
	if err := r.answered(ctx); err != nil {
		return err
	}
	for _, b := range r.boxes {
		began := r.now()
		c := carrier{round: r, box: b, linked: linked, moves: map[*box][]parting{}}
		err := r.target.EachTie(ctx, b.id, func(t move.Tie, now *move.Now) error {
			c.find(&t, now)
			return nil
		})
		r.look += r.now().Sub(began)
		if err == nil {
			err = c.run(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// linked returns the mailboxes by their names here.
func (r *round) linked(ctx context.Context) (map[string]*box, error) {
	places, err := r.target.Mailboxes(ctx)
	if err != nil {
		return nil, err
	}
	names := map[mail.MailboxID]string{}
	for _, p := range places {
		names[p.ID] = p.Name
	}
	linked := map[string]*box{}
	for _, b := range r.boxes {
		name := names[b.at.ID]
		if _, twice := linked[name]; twice {
			linked[name] = nil // it is not known which is meant
			continue
		}
		linked[name] = b
	}
	return linked, nil
}

// carrier carries the changes of one mailbox.
type carrier struct {
	*round
	box    *box
	linked map[string]*box

	flags   []FlagChange
	after   []move.Change // what the ties are to say then
	moves   map[*box][]parting
	deletes []parting
}

// parting is a message that was moved or deleted here.
type parting struct {
	key     string
	content move.Content
}

// find finds out what was changed here of a message.
func (c *carrier) find(t *move.Tie, now *move.Now) {
	if _, gone := c.box.gone[t.Key]; gone || t.Message == 0 {
		return
	}
	if now == nil {
		if c.rule.DeleteAtSource {
			c.deletes = append(c.deletes, parting{t.Key, t.Content})
		}
		return
	}
	if !c.rule.BothWays {
		return
	}
	change, after := difference(t, now)
	if change.Add|change.Remove != 0 || len(change.AddWords)+len(change.RemoveWords) > 0 {
		c.flags, c.after = append(c.flags, change), append(c.after, after)
		c.report.More = c.report.More || len(change.AddWords)+len(change.RemoveWords) > 0
	}
	if to := c.linked[now.Mailbox]; to != nil && to != c.box {
		c.moves[to] = append(c.moves[to], parting{t.Key, t.Content})
	}
}

// difference is what was changed here, and what the tie is to say when that is done there. It
// keeps its keywords: not every server takes them, and what it took is seen when it is read.
func difference(t *move.Tie, now *move.Now) (FlagChange, move.Change) {
	had, has := t.Flags&carried, now.Flags&carried
	out := FlagChange{Key: t.Key, Add: has &^ had, Remove: had &^ has}
	var known []string
	for _, w := range t.Keywords {
		known = append(known, move.KeywordHere(w))
	}
	known = mail.Compatible(known)
	for _, w := range now.Keywords {
		if !hasWord(known, w) {
			out.AddWords = append(out.AddWords, w)
		}
	}
	for _, w := range t.Keywords {
		if here := move.KeywordHere(w); t.Changed == "" && hasWord(known, here) && !hasWord(now.Keywords, here) { // changed: it may never have been here
			out.RemoveWords = append(out.RemoveWords, w)
		}
	}
	return out, move.Change{Key: t.Key, Flags: has, Keywords: t.Keywords}
}

// run carries what was found: flags first, as a message that moves has another key then.
func (c *carrier) run(ctx context.Context) error {
	for len(c.flags) > 0 {
		n := min(len(c.flags), carriedAtOnce)
		c.further()
		if err := c.mirror.SetFlags(ctx, c.box.Mailbox, c.flags[:n]); err != nil {
			return err
		}
		if err := c.target.Change(ctx, c.box.id, c.after[:n]); err != nil {
			return err
		}
		c.report.Carried += int64(n)
		c.flags, c.after = c.flags[n:], c.after[n:]
	}
	for _, to := range c.round.boxes {
		for part := range slices.Chunk(c.moves[to], carriedAtOnce) {
			if err := c.noted(ctx, to, part, func() error { return c.move(ctx, part, to) }); err != nil {
				return err
			}
		}
	}
	var trash *box
	if i := slices.IndexFunc(c.round.boxes, func(b *box) bool { return b.Role == mail.RoleTrash && b != c.box }); i >= 0 {
		trash = c.round.boxes[i]
	}
	for part := range slices.Chunk(c.deletes, carriedAtOnce) {
		if err := c.noted(ctx, trash, part, func() error { return c.throw(ctx, part) }); err != nil {
			return err
		}
	}
	return nil
}

// move carries moves. Those of which the server does not say what they are called now are found
// by their content at the next reading. What is done is noted even if not all could be: a
// message that the server has copied and left where it was is not carried again, and is passed
// over there.
func (c *carrier) move(ctx context.Context, list []parting, to *box) error {
	c.further()
	now, err := c.mirror.Move(ctx, c.box.Mailbox, keysOf(list), to.Mailbox)
	if err := tellsAll(now, list, err); err != nil {
		return err
	}
	var renamed []move.Renaming
	var unnamed []move.Leaving
	for i, m := range now {
		switch p := list[i]; {
		case !m.Done:
			continue
		case m.Key != "":
			renamed = append(renamed, move.Renaming{Box: c.box.id, Key: p.key, To: to.id, NewKey: strings.Clone(m.Key), Stays: m.Left})
		case m.Left:
			unnamed = append(unnamed, move.Leaving{Key: p.key, NewKey: limboKey(p.content), Stays: true})
		}
		c.report.Carried++
	}
	if c.again == nil {
		return err
	}
	if err := c.again.Rename(ctx, renamed); err != nil {
		return err
	}
	if err := c.again.Release(ctx, c.box.id, c.limbo(), unnamed, false); err != nil {
		return err
	}
	return err
}

// throw carries deletions.
func (c *carrier) throw(ctx context.Context, list []parting) error {
	now, err := c.mirror.Trash(ctx, c.box.Mailbox, keysOf(list))
	if err := tellsAll(now, list, err); err != nil {
		return err
	}
	var leaving []move.Leaving
	for i, m := range now {
		if m.Done {
			leaving = append(leaving, move.Leaving{Key: list[i].key, NewKey: limboKey(list[i].content), Stays: m.Left})
			c.report.Carried++
		}
	}
	if c.again == nil {
		return err
	}
	if err := c.again.Release(ctx, c.box.id, c.limbo(), leaving, false); err != nil {
		return err
	}
	return err
}

func keysOf(list []parting) []string {
	keys := make([]string, len(list))
	for i := range list {
		keys[i] = list[i].key
	}
	return keys
}

// tellsAll holds a source to its word: it tells of all, or of none with an error.
func tellsAll(now []Moved, list []parting, err error) error {
	switch {
	case len(now) == len(list) || len(now) == 0 && err != nil:
		return nil
	case err != nil:
		return err
	}
	return fault.New(fault.Internal, "a source told of more or fewer messages than were moved")
}
