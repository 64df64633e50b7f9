package store

import (
	"bytes"
	"context"
	"encoding/binary"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// One who removes or makes an account may be frozen between any two steps, and go on when others
// have long removed it and brought another back under its id. So each account that is made has
// its birth on record in its shard, never the same twice. Who is to remove or make one looks first
// which is there, then whether that is still to be done (Provided); and each change that
// follows is made only where the same birth, or none as before, is on record still. A store of one
// process needs none of this, and looks at none: damaged records keep nobody from removing them.

var birthKey = []byte{famBirth}

// provision is what Provided was given.
type provision struct {
	birth []byte // the record that CreateAccount is to write; nil: any
	meant func(context.Context) error
	still func() error
}

type provisionKey struct{}

// Provided returns a context for CreateAccount, DeleteAccount and Adopt, which then do
// nothing once it is too late. meant tells, by what is on record, whether the work is still to be
// done: it is asked when they have seen which account is there. still is asked inside
// their changes, where it must not wait: nothing comes between a yes and the commit. Both fail
// with what the caller is to be told.
//
// birth, unless it is 0, is that of the account that is meant: CreateAccount makes it with that,
// and what it or DeleteAccount finds with another is somebody else's.
func (s *Store) Provided(ctx context.Context, birth uint64, meant func(context.Context) error, still func() error) context.Context {
	p := provision{meant: meant, still: still}
	if birth != 0 {
		p.birth = birthRecord(birth)
	}
	return context.WithValue(ctx, provisionKey{}, p)
}

// birthGiven returns the birth that Provided was given, nil for none.
func birthGiven(ctx context.Context) []byte {
	p, _ := ctx.Value(provisionKey{}).(provision)
	return p.birth
}

// standing is for the end of a change, after it has read something: the engine refuses to
// commit it then if others have changed the shard since.
func standing(ctx context.Context) error {
	if p, ok := ctx.Value(provisionKey{}).(provision); ok {
		return p.still()
	}
	return nil
}

// born returns the birth of the account that is there, nil if there is none or it was made
// by an earlier version, once it is known that whoever asks is to work on that one.
func (a *Account) born(ctx context.Context) (birth []byte, err error) {
	if a.store.shared == nil {
		return nil, nil
	}
	err = a.store.eng.View(ctx, a.shard, func(r engine.Reader) error {
		b, _, err := r.Get(birthKey)
		birth = bytes.Clone(b)
		return err
	})
	if p, ok := ctx.Value(provisionKey{}).(provision); ok && err == nil {
		err = p.meant(ctx)
	}
	return birth, err
}

// mustBe fails unless the account is the one of that birth still.
func (a *Account) mustBe(ctx context.Context, r engine.Reader, birth []byte) error {
	if a.store.shared == nil {
		return nil
	}
	now, _, err := r.Get(birthKey)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, birth) {
		return fault.New(fault.Busy, "another process has removed or made this account meanwhile; try again")
	}
	return standing(ctx)
}

// mustBeOwn fails if an account that is there was not made with the birth that Provided was given.
func mustBeOwn(ctx context.Context, r engine.Reader) error {
	given := birthGiven(ctx)
	if given == nil {
		return nil
	}
	now, _, err := r.Get(birthKey)
	if err == nil && !bytes.Equal(now, given) {
		err = fault.New(fault.Exists, "there is another account under this id")
	}
	return err
}

// anothers tells whether what is there is the data of another account than Provided was given.
func (a *Account) anothers(ctx context.Context) (bool, error) {
	if birthGiven(ctx) == nil {
		return false, nil
	}
	err := a.store.eng.View(ctx, a.shard, func(r engine.Reader) error {
		some, err := hasRecords(r)
		if err != nil || !some {
			return err
		}
		return mustBeOwn(ctx, r)
	})
	if fault.Is(err, fault.Exists) {
		return true, nil
	}
	return false, err
}

// newBirth returns the record of one that no other account has.
func (s *Store) newBirth() []byte { return birthRecord(s.stamps.number()) }

func birthRecord(number uint64) []byte {
	return seal(recBirth, binary.BigEndian.AppendUint64(nil, number))
}

// register notes that an account has data.
func (s *Store) register(ctx context.Context, id mail.AccountID) error {
	return s.eng.Update(ctx, registryShard, func(w engine.Writer) error {
		key, value := RegistryEntry(id)
		was, _, err := w.Get(key)
		if _, _, bad := record.Open(was); err != nil || bad == nil {
			return err
		}
		if err := w.Put(key, value); err != nil {
			return err
		}
		return standing(ctx)
	})
}

// unregister removes what is noted of an account without data.
func (s *Store) unregister(ctx context.Context, id mail.AccountID) error {
	err := s.eng.Update(ctx, registryShard, func(w engine.Writer) error {
		key, value := RegistryEntry(id)
		if _, _, err := w.Get(key); err != nil {
			return err
		}
		// Written first, for the reason that erase has.
		if err := w.Put(key, value); err != nil {
			return err
		}
		if err := w.Delete(key); err != nil {
			return err
		}
		if err := w.Delete(engine.Key(famOpen, uint64(id))); err != nil {
			return err
		}
		return standing(ctx)
	})
	if err != nil || s.shared == nil {
		return err
	}
	born := false
	err = s.eng.View(ctx, ShardOf(id), func(r engine.Reader) (err error) { _, born, err = r.Get(birthKey); return err })
	if err == nil && born { // made again meanwhile, and perhaps noted before this took it away
		err = s.register(ctx, id)
	}
	return err
}

// erase removes all records of the account of that birth and leaves those given.
func (a *Account) erase(ctx context.Context, birth []byte, leave []byte) error {
	return a.store.eng.Update(ctx, a.shard, func(w engine.Writer) error {
		if err := a.mustBe(ctx, w, birth); err != nil {
			return err
		}
		// Something is written where there is nothing, too: a change of who was frozen just
		// before he made the account is then one that comes too late.
		if err := w.Put(birthKey, a.store.newBirth()); err != nil {
			return err
		}
		if err := w.DeleteRange(nil, nil); err != nil || leave == nil {
			return err
		}
		return w.Put(birthKey, leave)
	})
}
