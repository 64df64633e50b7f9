package move

import (
	"context"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/store"
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

// TiedContent is the key of a tie and what it was read as.
type TiedContent struct {
	Key     string
	Content Content
}

// renumbered looks in mailboxes that have UIDVALIDITYs, which files and POP3 have not, for former ties, once for each reading, when a message is new. However many
// have got their new keys already, by an import that was stopped, all others are found.
func (f *filler) renumbered(ctx context.Context, items []Item, ties []*Tie) error {
	i := slices.Index(ties, nil)
	if f.former.looked || i < 0 || generation(items[i].Key) == "" || f.im.advice.Files || strings.HasPrefix(f.row.box.Source, "pop3:") {
		return nil
	}
	now := generation(items[i].Key)
	f.former.looked, f.former.keys = true, map[Content][]string{}
	for behind := ""; ; {
		list, err := f.im.Target.Former(ctx, f.row.box, now, behind)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, t := range list {
			f.former.keys[t.Content] = append(f.former.keys[t.Content], t.Key)
		}
		behind = list[len(list)-1].Key
	}
}

// Bounds of the keys that begin with digits, and of those of a generation behind its ".".
const (
	beforeDigits = "/"
	behindDigits = ":"
)

// Former returns the next few hundred ties behind a key that are of another UIDVALIDITY than
// now; none at the end. Those of now are passed over in one step.
func (l *Local) Former(ctx context.Context, box Box, now, behind string) (list []TiedContent, err error) {
	err = l.account.View(ctx, func(s *store.Snapshot) error {
		list = list[:0]
		for from := max(behind, beforeDigits); from != ""; {
			at := from
			from = ""
			err := s.EachTie(tied(box), at, func(t store.Tie) bool {
				switch v := generation(t.Key); {
				case t.Key >= behindDigits:
					return false
				case v == now:
					from = v + "." + behindDigits
					return false
				case v != "":
					list = append(list, TiedContent{t.Key, t.Content})
				}
				return len(list) < tiesAtOnce
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
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
