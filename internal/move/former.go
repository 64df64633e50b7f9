package move

import (
	"context"
	"errors"
	"strings"
)

// A server that makes a mailbox anew, as one does that is restored from a backup, gives it
// another UIDVALIDITY, and all its messages other UIDs: their keys are new. What was brought
// under the old ones is known by its content then, and is not brought again: its tie gets the
// new key.

// former are the ties of a mailbox that are of another UIDVALIDITY, by their content.
type former struct {
	looked bool
	keys   map[Content][]string
}

// generation is what keys of one UIDVALIDITY begin with, "" for those that have none.
func generation(key string) string {
	v, uid, ok := strings.Cut(key, ".")
	if !ok || !digits(v) || !digits(uid) {
		return ""
	}
	return v
}

func digits(s string) bool {
	return s != "" && len(s) <= 10 && strings.Trim(s, "0123456789") == ""
}

// errSame ends a look at ties that are not former ones.
var errSame = errors.New("the same UIDVALIDITY")

// renumbered looks for former ties, once for each reading, when a message is new.
func (f *filler) renumbered(ctx context.Context, items []Item, ties []*Tie) error {
	if f.former.looked {
		return nil
	}
	now := ""
	for i := range items {
		if ties[i] == nil {
			now = generation(items[i].Key)
			break
		}
	}
	if now == "" {
		return nil
	}
	f.former.looked, f.former.keys = true, nil
	first := true
	err := f.im.Target.EachTie(ctx, f.row.box, func(t Tie, _ *Now) error {
		v := generation(t.Key)
		if first && v == now { // of all that is there, as a rule
			return errSame
		}
		if first = false; v != "" && v != now {
			if f.former.keys == nil {
				f.former.keys = map[Content][]string{}
			}
			f.former.keys[t.Content] = append(f.former.keys[t.Content], strings.Clone(t.Key))
		}
		return nil
	})
	if errors.Is(err, errSame) {
		return nil
	}
	return err
}

// take returns the former key of a message with this content, "" if there is none. Each is
// given once: two messages of one content are two.
func (f *former) take(c Content, key string) string {
	old := f.keys[c]
	if len(old) == 0 || generation(key) == "" {
		return ""
	}
	f.keys[c] = old[1:]
	return old[0]
}
