package link

import (
	"context"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// A server without MOVE is asked to copy and then to remove. If the answer to the copy is lost,
// or the run ends before it is noted here, the copy is new there, the message is where it was,
// and its move is still to be carried: to bring the one and to copy the other again would make
// it twice on both sides, each time. So what is new there is compared with what was moved here
// and not carried yet, and of what is found the rest is done.

// underWay is a move or a deletion that is to be carried.
type underWay struct {
	from *box
	key  string
	to   *box // nil: deleted here, perhaps after a move, so it goes into the trash there
	used bool
}

// copied is one whose copy is there.
type copied struct {
	*underWay
	at     *box
	newKey string
}

// remaining finds out what is to be carried, by content.
func (r *round) remaining(ctx context.Context) error {
	if r.mirror == nil || r.again == nil {
		return nil
	}
	linked, err := r.linked(ctx)
	if err != nil {
		return err
	}
	r.underWay = map[move.Content][]*underWay{}
	began := r.now()
	for _, b := range r.boxes {
		err := r.target.EachTie(ctx, b.id, func(t move.Tie, now *move.Now) error {
			_, gone := b.gone[t.Key]
			switch {
			case gone || t.Message == 0:
			case now == nil && r.rule.DeleteAtSource:
				r.underWay[t.Content] = append(r.underWay[t.Content], &underWay{from: b, key: t.Key})
			case now != nil && r.rule.BothWays:
				if to := linked[now.Mailbox]; to != nil && to != b {
					r.underWay[t.Content] = append(r.underWay[t.Content], &underWay{from: b, key: t.Key, to: to})
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	r.look += r.now().Sub(began)
	return nil
}

// isCopy tells whether a message that is new is the copy of one whose move is under way, and
// notes that the rest is to be done.
func (r *round) isCopy(b *box, c move.Content, key string) bool {
	for _, u := range r.underWay[c] {
		if !u.used && u.from != b && (u.to == b || u.to == nil) {
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
			renamed = append(renamed, move.Renaming{Box: b.id, Key: c.key, To: c.at.id, NewKey: c.newKey, Stays: now[i].Left, Over: c.to == nil && c.at.Role == mail.RoleTrash})
			r.report.Carried++
		}
	}
	return r.again.Rename(ctx, renamed)
}
