package link

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// A server without MOVE is asked to copy and then to remove. If the answer to the copy is lost,
// or the run ends before it is noted here, the copy is new there, the message is where it was,
// and by now it may lie anywhere here, or have been put back: to bring the copy would make it
// twice on both sides. So what is to go where is noted before it is asked for. What is new in a
// mailbox, was to go there, and is still where it was, is the copy, and the rest of its move is
// done. What a person copies there was never asked for, and comes as a new message.

// asked is what may have been copied into a mailbox, by the first bytes of its content.
type asked []byte

const (
	askedBytes = 16
	mostAsked  = 256 // in the 4 KB that a target keeps
)

// has tells whether a message was to go there.
func (a asked) has(c move.Content) bool {
	for part := range slices.Chunk(a, askedBytes) {
		if string(part) == string(c[:askedBytes]) {
			return true
		}
	}
	return false
}

// with adds to a copy; what is oldest is forgotten if it is too much.
func (a asked) with(list []parting) asked {
	out := slices.Clone(a)
	for i := range list {
		out = append(out, list[i].content[:askedBytes]...)
	}
	return out[max(0, len(out)-mostAsked*askedBytes):]
}

// asking is where it is kept what was asked for. No mailbox has this name.
func (r *round) asking(b *box) move.Box {
	name := sha256.Sum256([]byte(b.id.Mailbox))
	return move.Box{Source: r.source.ID(), Mailbox: "\x00asked" + base64.RawURLEncoding.EncodeToString(name[:askedBytes])}
}

func (r *round) ask(ctx context.Context, to *box, a asked) error {
	if r.again == nil || to == nil || string(a) == string(to.asked) {
		return nil
	}
	err := r.target.SetState(ctx, r.asking(to), a)
	if err == nil {
		to.asked = a
	}
	return err
}

// noted has moves into a mailbox noted before they are made; to is nil if it is not linked.
func (r *round) noted(ctx context.Context, to *box, list []parting, do func() error) error {
	var before asked
	if to != nil {
		before = to.asked
		if err := r.ask(ctx, to, before.with(list)); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	return r.ask(ctx, to, before)
}

// awaits tells whether there may be copies. How far the mailboxes were read is not kept until
// that is known: which messages are marked \Deleted would not be told again.
func (r *round) awaits() bool {
	return slices.ContainsFunc(r.boxes, func(b *box) bool { return len(b.asked) > 0 && !b.partial })
}

// wasAsked tells whether a message may have been copied; nil: any.
func (r *round) wasAsked(c *move.Content) bool {
	return slices.ContainsFunc(r.boxes, func(b *box) bool { return c == nil && len(b.asked) > 0 || c != nil && b.asked.has(*c) })
}

// answered forgets what was asked for: all is read, and what was copied is found.
func (r *round) answered(ctx context.Context) error {
	for _, b := range r.boxes {
		if r.settled && !b.partial {
			if err := r.ask(ctx, b, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// underWay is a message that may have been copied.
type underWay struct {
	from    *box
	key     string
	deleted bool // here, perhaps after a move, so it goes into the trash there
	marked  bool // \Deleted there
	used    bool
}

// copied is one whose copy is there.
type copied struct {
	*underWay
	at     *box
	newKey string
}

// remaining finds out which messages it may be that were copied.
func (r *round) remaining(ctx context.Context) error {
	if r.mirror == nil || r.again == nil || !r.wasAsked(nil) {
		return nil
	}
	r.underWay = map[move.Content][]*underWay{}
	began := r.now()
	for _, b := range r.boxes {
		err := r.target.EachTie(ctx, b.id, func(t move.Tie, now *move.Now) error {
			_, gone := b.gone[t.Key]
			if gone || t.Message == 0 || !r.wasAsked(&t.Content) {
				return nil
			}
			r.underWay[t.Content] = append(r.underWay[t.Content], &underWay{from: b, key: t.Key, deleted: now == nil, marked: b.marked[t.Key]})
			return nil
		})
		if err != nil {
			return err
		}
	}
	r.look += r.now().Sub(began)
	return nil
}

// isCopy tells whether a message that is new is the copy of one whose move was asked for, and
// notes that the rest is to be done. One that is marked there may have been moved on by somebody
// who sees its copy alone.
func (r *round) isCopy(b *box, c move.Content, key string) bool {
	for _, u := range r.underWay[c] {
		if !u.used && (u.marked || u.from != b && b.asked.has(c)) {
			u.used = true
			r.copied = append(r.copied, copied{u, b, strings.Clone(key)})
			b.broken = true // until it is noted
			r.report.More = true
			return true
		}
	}
	return false
}

// finish removes what was copied, and notes that it is moved.
func (r *round) finish(ctx context.Context) error {
	for _, b := range r.boxes {
		var list []copied
		for _, c := range r.copied {
			if c.from == b {
				list = append(list, c)
			}
		}
		for part := range slices.Chunk(list, carriedAtOnce) {
			if err := r.finishSome(ctx, b, part); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *round) finishSome(ctx context.Context, b *box, list []copied) error {
	parts := make([]parting, len(list))
	for i, c := range list {
		parts[i].key = c.key
	}
	now, err := r.mirror.Remove(ctx, b.Mailbox, keysOf(parts))
	if err == nil {
		err = tellsAll(now, parts, nil)
	}
	if err != nil {
		return err
	}
	var renamed []move.Renaming
	for i, c := range list {
		if now[i].Done {
			renamed = append(renamed, move.Renaming{Box: b.id, Key: c.key, To: c.at.id, NewKey: c.newKey, Stays: now[i].Left, Over: c.deleted && c.at.Role == mail.RoleTrash})
			r.report.Carried++
		}
	}
	return r.again.Rename(ctx, renamed)
}
