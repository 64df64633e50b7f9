package move

import (
	"cmp"
	"context"
	"slices"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// changesAtOnce is how many messages one commit changes at most.
const changesAtOnce = 500

// Change makes the account follow changes at the source. A flag that changed there, and not
// here, is as it is there; one that changed here stays.
func (l *Local) Change(ctx context.Context, box Box, list []Change) error {
	for part := range slices.Chunk(list, changesAtOnce) {
		err := l.account.Update(ctx, func(tx *store.Tx) error {
			for i := range part {
				c := &part[i]
				if c.NewKey != "" {
					if err := renameOne(tx, &Renaming{Box: box, Key: c.Key, To: box, NewKey: c.NewKey}); err != nil {
						return err
					}
					continue
				}
				if err := changeOne(tx, tied(box), c); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func changeOne(tx *store.Tx, box store.TiedBox, c *Change) error {
	t, ok, err := tx.Tie(box, c.Key)
	if err != nil || !ok || t.Message == 0 {
		return err
	}
	spots, err := livePlaces(&tx.Snapshot, t.Message)
	if err != nil || len(spots) == 0 {
		return err
	}
	if c.Gone {
		if err := throwAway(tx, &t, spots); err != nil {
			return err
		}
		return tx.PutTie(box, t)
	}
	for _, s := range spots {
		if err := carryFlags(tx, s, &t, c); err != nil {
			return err
		}
	}
	if c.MoveTo != "" {
		if err := moveTo(tx, &t, spots, c.MoveTo); err != nil {
			return err
		}
	}
	t.Flags, t.Keywords = c.Flags, c.Keywords
	return tx.PutTie(box, t)
}

// carryFlags sets and takes away what differs between the tie and the source now.
func carryFlags(tx *store.Tx, s spot, t *store.Tie, c *Change) error {
	had, has := keywordsHere(t.Keywords), keywordsHere(c.Keywords)
	less := func(k string) bool { return hasFold(had, k) }
	set := store.FlagChange{Op: store.AddFlags, Flags: c.Flags &^ t.Flags, Keywords: slices.DeleteFunc(slices.Clone(has), less)}
	gone := store.FlagChange{
		Op: store.RemoveFlags, Flags: t.Flags &^ c.Flags,
		Keywords: slices.DeleteFunc(slices.Clone(had), func(k string) bool { return hasFold(has, k) }),
	}
	for _, change := range []store.FlagChange{set, gone} {
		if change.Flags == 0 && len(change.Keywords) == 0 {
			continue
		}
		if _, err := tx.SetFlags(s.box, mail.SetOf(s.uid), change); err != nil {
			return err
		}
	}
	return nil
}

// throwAway moves a message from where it was put into the trash, and the tie with it; one that
// lies there goes for good. What the account's owner has moved or copied elsewhere is left alone.
func throwAway(tx *store.Tx, t *store.Tie, spots []spot) error {
	at := place(t, spots)
	if at < 0 {
		return nil
	}
	boxes, err := tx.Mailboxes()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(boxes, func(m store.Mailbox) bool { return m.Role == mail.RoleTrash })
	if i < 0 {
		box, err := boxNamed(tx, "Trash", mail.RoleTrash)
		if err != nil {
			return err
		}
		boxes, i = append(boxes, box), len(boxes)
	}
	if t.Mailbox == boxes[i].ID {
		_, err := tx.Expunge(t.Mailbox, mail.SetOf(spots[at].uid), false)
		return err
	}
	moved, err := tx.Move(t.Mailbox, mail.SetOf(spots[at].uid), boxes[i].ID)
	if err == nil && len(moved) > 0 {
		t.Mailbox, t.UID = boxes[i].ID, moved[0].To
	}
	return err
}

// place returns which of the spots is where a tie's message was put, < 0 if none is.
func place(t *store.Tie, spots []spot) int {
	if i := slices.Index(spots, spot{t.Mailbox, t.UID}); i >= 0 {
		return i
	}
	return slices.IndexFunc(spots, func(s spot) bool { return s.box == t.Mailbox })
}

// moveTo moves a message to another mailbox from where it was put, if it is there still.
func moveTo(tx *store.Tx, t *store.Tie, spots []spot, name string) error {
	to, err := boxNamed(tx, name, "")
	if err != nil {
		return err
	}
	i := place(t, spots)
	if i < 0 || to.ID == t.Mailbox {
		return nil
	}
	moved, err := tx.Move(t.Mailbox, mail.SetOf(spots[i].uid), to.ID)
	if err == nil && len(moved) > 0 {
		t.Mailbox, t.UID = to.ID, moved[0].To
	}
	return err
}

func sortSpots(list []spot) {
	slices.SortFunc(list, func(a, b spot) int { return cmp.Or(cmp.Compare(a.box, b.box), cmp.Compare(a.uid, b.uid)) })
}
