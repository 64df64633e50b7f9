package backup

import (
	"cmp"
	"context"
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// inventory is what messages an account has, by what can be told without reading them. A
// message of then and its copy of now have the same size and date of arrival; whether they
// are the same is found out by reading these two. Memory: 32 bytes a message.
type inventory struct {
	account *store.Account
	list    []held
}

// held is one message.
type held struct {
	size, internal int64
	id             mail.MessageID
	trash          bool // it lies in the trash and nowhere else
	taken          bool // a message of then has been found to be this one
}

func (h held) compare(o held) int {
	return cmp.Or(cmp.Compare(h.size, o.size), cmp.Compare(h.internal, o.internal), cmp.Compare(h.id, o.id))
}

// take reads what an account has.
func (v *inventory) take(ctx context.Context, a *store.Account) error {
	v.account, v.list = a, nil
	var boxes []store.Mailbox
	err := a.View(ctx, func(s *store.Snapshot) (err error) {
		boxes, err = s.Mailboxes()
		boxes = slices.DeleteFunc(boxes, func(m store.Mailbox) bool { return isKept(s, &m) })
		return err
	})
	if err != nil {
		return err
	}
	for _, b := range boxes {
		pic, err := a.Picture(ctx, b.ID)
		if fault.Is(err, fault.NotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		for _, m := range pic.Messages(store.All()) {
			v.list = append(v.list, held{m.Size, m.Internal, m.ID, isTrash(&b), false})
		}
	}
	slices.SortFunc(v.list, held.compare)
	out := v.list[:0]
	for _, h := range v.list {
		if n := len(out); n > 0 && out[n-1].id == h.id {
			out[n-1].trash = out[n-1].trash && h.trash
			continue
		}
		out = append(out, h)
	}
	v.list = out
	return nil
}

// has tells whether the account has the message m of then, and takes the copy: it is that
// of no other message. One in the trash counts only for one that lay there.
func (v *inventory) has(ctx context.Context, then *store.Snapshot, m store.Message, trash bool) (bool, error) {
	want := held{size: m.Size, internal: m.Internal}
	i, _ := slices.BinarySearchFunc(v.list, want, held.compare)
	var print [32]byte
	known := false
	for ; i < len(v.list) && v.list[i].size == m.Size && v.list[i].internal == m.Internal; i++ {
		h := &v.list[i]
		if h.taken || h.trash && !trash {
			continue
		}
		if !known {
			var err error
			if print, err = then.Fingerprint(m.ID); err != nil {
				return false, err
			}
			known = true
		}
		same := false
		err := v.account.View(ctx, func(s *store.Snapshot) error {
			now, err := s.Fingerprint(h.id)
			same = err == nil && now == print
			if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt) {
				err = nil // gone meanwhile, or not to be read
			}
			return err
		})
		if err != nil {
			return false, err
		}
		if same {
			h.taken = true
			return true, nil
		}
	}
	return false, nil
}
