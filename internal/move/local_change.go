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
		return throwAway(tx, spots)
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

// throwAway moves a message into the trash, out of all other mailboxes; one that lies there
// goes for good.
func throwAway(tx *store.Tx, spots []spot) error {
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
	trash := boxes[i].ID
	if j := slices.IndexFunc(spots, func(s spot) bool { return s.box != trash }); j >= 0 {
		if _, err := tx.Move(spots[j].box, mail.SetOf(spots[j].uid), trash); err != nil {
			return err
		}
		spots = slices.Delete(spots, j, j+1)
	}
	for _, s := range spots {
		if _, err := tx.Expunge(s.box, mail.SetOf(s.uid), false); err != nil {
			return err
		}
	}
	return nil
}

// moveTo moves a message to another mailbox from where it was put, if it is there still.
func moveTo(tx *store.Tx, t *store.Tie, spots []spot, name string) error {
	to, err := boxNamed(tx, name, "")
	if err != nil {
		return err
	}
	i := slices.IndexFunc(spots, func(s spot) bool { return s.box == t.Mailbox })
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
