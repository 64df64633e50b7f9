package directory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// NewestRecord is the highest kind of record that this version knows.
const NewestRecord = int(recEnd) - 1

// AccountIDs returns the accounts that a reader of the directory's shard finds.
func AccountIDs(r engine.Reader) ([]mail.AccountID, error) {
	var ids []mail.AccountID
	err := r.Scan([]byte{famAccount}, []byte{famAccount + 1}, false, func(key, _ []byte) bool {
		ids = append(ids, mail.AccountID(engine.Num(key, 0)))
		return true
	})
	return ids, err
}

// Lineage returns a word that two directories have in common if one is an earlier state of
// the other.
func (d *Directory) Lineage() string {
	sum := sha256.Sum256(append([]byte("lineage "), d.secret...))
	return hex.EncodeToString(sum[:8])
}

// departIDs is how many account ids are left out after a directory was brought back.
const departIDs = 1 << 20

// Depart leaves out the ids that may have been given out after the time that the directory
// was brought back from: an id is never given twice.
func (d *Directory) Depart(ctx context.Context) error {
	return d.update(ctx, func(w engine.Writer) error {
		m, err := getMeta(w)
		if err != nil {
			return err
		}
		m.lastID += departIDs
		return w.Put(metaKey(), m.encode())
	})
}

// Adopt makes an account that is no more as an earlier state of this directory, or
// another one, knows it: with its address and credentials. bring makes its data; same tells
// whether the account is the one that it was, under its old id, so that what others keep
// under that id is about it. A call that failed may be repeated. Faults: Exists, NotFound
// (the account there, or its domain here).
func (d *Directory) Adopt(ctx context.Context, from *Directory, addr mail.Address, bring func(ctx context.Context, was, id mail.AccountID, same bool) error) (Account, error) {
	had, err := from.Lookup(ctx, addr)
	if err != nil {
		return Account{}, err
	}
	rec, err := from.account(ctx, had.ID)
	if err != nil {
		return Account{}, err
	}
	ctx, release, err := d.alone(ctx)
	if err != nil {
		return Account{}, err
	}
	defer release()
	same, err := d.mayReturn(ctx, had.ID, bytes.Equal(d.secret, from.secret))
	if err != nil {
		return Account{}, err
	}
	var made making
	if same {
		if made, err = d.reserveOld(ctx, addr, had.ID); err == nil {
			err = bring(d.filling(ctx, addr, made), had.ID, made.id, true)
		}
	} else {
		made, err = d.fill(ctx, addr, func(ctx context.Context, id mail.AccountID) error { return bring(ctx, had.ID, id, false) })
	}
	if err != nil {
		return Account{}, err
	}
	err = d.moveIn(ctx, addr, made, rec)
	d.known.forget(canonical(addr).String())
	if err != nil {
		return Account{}, err
	}
	return Account{made.id, rec.address, rec.created}, nil
}

// mayReturn tells whether an account may have its old id again: nobody has it, and its data
// is gone.
func (d *Directory) mayReturn(ctx context.Context, id mail.AccountID, sameLine bool) (free bool, err error) {
	if !sameLine {
		return false, nil
	}
	removed := false
	err = d.eng.View(ctx, shard, func(r engine.Reader) error {
		m, err := getMeta(r)
		if err != nil {
			return err
		}
		_, taken, err := r.Get(accountKey(id))
		if err != nil {
			return err
		}
		free = id <= m.lastID && !taken
		_, removed, err = r.Get(removedKey(id))
		return err
	})
	if err == nil && free && removed {
		err = d.finishRemoval(ctx, making{id: id})
	}
	return free, err
}

// reserveOld is reserve for an id that was given before. An id that somebody else is to get
// is not free.
func (d *Directory) reserveOld(ctx context.Context, addr mail.Address, id mail.AccountID) (m making, err error) {
	folded := canonical(addr)
	err = d.update(ctx, func(w engine.Writer) error {
		found := false
		m, found, err = wanted(w, folded)
		switch {
		case err != nil:
			return err
		case found && m.id != id:
			return fault.Newf(fault.Exists, "%s is in the making; remove it first: martlet account remove %s", folded, folded)
		case found:
			return nil
		}
		m = making{id: id}
		return w.Put(pendingKey(folded), m.pending())
	})
	return m, err
}
