package directory

import (
	"context"
	"encoding/binary"
	"io"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// An account's data may lie in another database than the directory. If the directory's loses
// changes, and the other does not, the directory gives an id for a second time, and finds data
// under it. So each account in the making has a birth, drawn by chance, which the store puts
// beside the data: what is there and has another is somebody else's, and nobody is given it.

// making is an account that is being made, or was when it was removed.
type making struct {
	id    mail.AccountID
	birth uint64 // of the data that is made for it; 0: whatever is there is its own
}

// birthForm is the form of stored records from which on births are drawn.
const birthForm = 2

// draw returns a birth; 0 where what the directory loses is lost with all else, and as long as
// a process of an earlier version may read the record.
func (d *Directory) draw() (birth uint64, err error) {
	if d.shared == nil || d.opt.Format != nil && d.opt.Format() < birthForm {
		return 0, nil
	}
	var b [8]byte
	if _, err := io.ReadFull(d.opt.Rand, b[:]); err != nil {
		return 0, fault.Wrap(fault.Internal, "", err)
	}
	return max(binary.BigEndian.Uint64(b[:]), 1), nil
}

func (m making) pending() []byte {
	b := binary.AppendUvarint(nil, uint64(m.id))
	if m.birth == 0 {
		return seal(recPending, b)
	}
	return seal(recPendingBorn, binary.AppendUvarint(b, m.birth))
}

func decodePending(kind byte, d *decoder) (making, error) {
	m := making{id: mail.AccountID(d.number())}
	if kind == recPendingBorn {
		m.birth = d.number()
	}
	return m, d.done()
}

func (m making) removed() []byte {
	if m.birth == 0 {
		return seal(recRemoved, nil)
	}
	return seal(recRemovedBorn, binary.AppendUvarint(nil, m.birth))
}

func decodeRemoved(key []byte, kind byte, d *decoder) (making, error) {
	m := making{id: mail.AccountID(engine.Num(key, 0))}
	if kind == recRemovedBorn {
		m.birth = d.number()
	}
	return m, d.done()
}

// getMaking returns the account of an address that is in the making.
func getMaking(r engine.Reader, folded mail.Address) (m making, found bool, err error) {
	kind, dec, found, err := get(r, pendingKey(folded), recPending, recPendingBorn)
	if err != nil || !found {
		return m, false, err
	}
	m, err = decodePending(kind, dec)
	return m, err == nil, err
}

// fill reserves an id for an address and has the data made. with fails with Exists if there is
// that of another under the id.
func (d *Directory) fill(ctx context.Context, addr mail.Address, with func(ctx context.Context, id mail.AccountID) error) (making, error) {
	var taken making
	for {
		m, err := d.reserve(ctx, addr, taken)
		if err != nil {
			return m, err
		}
		err = with(d.filling(ctx, addr, m), m.id)
		if m.birth == 0 || !fault.Is(err, fault.Exists) {
			return m, err
		}
		d.opt.Log.Warn("the directory has lost that it gave this id before; ids go on far above it", "account", m.id)
		taken = m
	}
}

// wanted returns the account in the making of an address that somebody may have: of a domain that is
// here, and nobody's.
func wanted(r engine.Reader, folded mail.Address) (m making, found bool, err error) {
	if _, err := needDomain(r, folded.Domain); err != nil {
		return m, false, err
	}
	if err := mustBeFree(r, folded); err != nil {
		return m, false, err
	}
	return getMaking(r, folded)
}

// reserve gives an address that is free an id, or the one that an earlier call which did not
// come to its end has given it, unless that one is taken.
func (d *Directory) reserve(ctx context.Context, addr mail.Address, taken making) (m making, err error) {
	birth, err := d.draw()
	if err != nil {
		return m, err
	}
	folded := canonical(addr)
	err = d.update(ctx, func(w engine.Writer) error {
		found := false
		if m, found, err = wanted(w, folded); err != nil || found && m != taken {
			return err
		}
		known, err := getMeta(w)
		if err != nil {
			return err
		}
		if taken.id != 0 { // more was given than is known, and what others keep under those ids is not about this account
			known.lastID += departIDs
		}
		known.lastID++
		m = making{known.lastID, birth}
		if err := w.Put(metaKey(), known.encode()); err != nil {
			return err
		}
		return w.Put(pendingKey(folded), m.pending())
	})
	return m, err
}

// filling is for making the data of an account that has been reserved.
func (d *Directory) filling(ctx context.Context, addr mail.Address, m making) context.Context {
	folded := canonical(addr)
	return d.provided(ctx, m.birth, func(r engine.Reader) error { return mustBePending(r, folded, m) })
}

// mustBePending fails unless an account is still in the making.
func mustBePending(r engine.Reader, folded mail.Address, m making) error {
	is, found, err := getMaking(r, folded)
	if err == nil && (!found || is != m) {
		err = fault.Newf(fault.Busy, "%s was removed while it was being made", folded)
	}
	return err
}

// moveIn makes an account whose data is there known under its address.
func (d *Directory) moveIn(ctx context.Context, addr mail.Address, m making, rec *accountRecord) error {
	folded := canonical(addr)
	return d.update(ctx, func(w engine.Writer) error {
		if err := mustBeFree(w, folded); err != nil {
			return err
		}
		if err := mustBePending(w, folded, m); err != nil {
			return err
		}
		if err := w.Delete(pendingKey(folded)); err != nil {
			return err
		}
		if err := putAccount(w, m.id, rec); err != nil {
			return err
		}
		return w.Put(entryKey(folded), entry{account: m.id}.encode())
	})
}
