package backup

import (
	"cmp"
	"context"
	"slices"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// reading is when an account was read, in numbers of crossings noted before and after.
type reading struct {
	before, after int
	unchanged     bool
}

// rounds is how often accounts are read again before a Save gives up.
const rounds = 100

// accounts saves all accounts, and then who they are. An account that came meanwhile is
// saved after, so that each one that the directory knows is there, and no other; one that a
// message may have come into unseen, again.
func (s *saver) accounts(ctx context.Context) error {
	ids, err := s.house.Store.Accounts(ctx)
	if err != nil {
		return err
	}
	for range rounds {
		for i, id := range ids {
			if err := s.account(ctx, id); err != nil {
				return err
			}
			s.progress("accounts", int64(i+1), int64(len(ids)))
		}
		if err := s.shard(ctx, store.RegistryShard, plain); err != nil {
			return err
		}
		var known []mail.AccountID
		people := form{also: func(r engine.Reader) (err error) {
			known, err = directory.AccountIDs(r)
			return err
		}}
		if err := s.shard(ctx, store.DirectoryShard, people); err != nil {
			return err
		}
		crossed, err := s.crossed()
		if err != nil {
			return err
		}
		if ids = s.unread(known, crossed); len(ids) == 0 {
			s.keepOnly(known)
			return nil
		}
	}
	return fault.New(fault.Busy, "messages go from one account to another faster than accounts can be read; run the backup again")
}

// unread returns which accounts are to be read, again perhaps: what came into one after it
// was read may have left the other before that was, or with it, and then is in neither.
func (s *saver) unread(known []mail.AccountID, crossed []store.Crossing) (ids []mail.AccountID) {
	stays := map[mail.AccountID]bool{}
	for _, id := range known {
		if stays[id] = true; s.read[id] == (reading{}) {
			ids = append(ids, id)
		}
	}
	for i, c := range crossed {
		from, to := s.read[c.From], s.read[c.To]
		if stays[c.To] && to.before <= i+1 && (!stays[c.From] || from.after > i+1) {
			ids = append(ids, c.To)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// keepOnly drops what was saved of accounts that the directory does not have, and earlier
// states of shards that were saved twice.
func (s *saver) keepOnly(known []mail.AccountID) {
	keep := map[engine.Shard]bool{store.QueueShard: true, store.RegistryShard: true, store.DirectoryShard: true}
	for _, sh := range s.parts {
		keep[sh] = true
	}
	for _, id := range known {
		keep[store.ShardOf(id)] = true
	}
	s.done.Accounts = len(known)
	for _, id := range known {
		if s.read[id].unchanged {
			s.done.Unchanged++
		}
	}
	var out []snapShard
	for _, sh := range slices.Backward(s.snap.shards) {
		if keep[sh.Shard] {
			keep[sh.Shard] = false
			out = append(out, sh)
		}
	}
	slices.SortFunc(out, func(a, b snapShard) int { return cmp.Compare(a.Shard, b.Shard) })
	s.snap.shards = out
}

// account saves one account, unless it is as the snapshot before has it.
func (s *saver) account(ctx context.Context, id mail.AccountID) (err error) {
	was := s.read[id]
	crossed, err := s.crossed()
	if err != nil {
		return err
	}
	now := reading{before: len(crossed) + 1} // not zero: it has been read
	sh := store.ShardOf(id)
	if now.unchanged, err = s.again(ctx, sh); err == nil && !now.unchanged {
		err = s.shard(ctx, sh, ofPeople)
	}
	if err != nil {
		return err
	}
	if crossed, err = s.crossed(); err != nil {
		return err
	}
	now.after = len(crossed) + 1
	now.unchanged = now.unchanged && (was.unchanged || was == reading{})
	s.read[id] = now
	return err
}

// again takes over what the snapshot before has of an account, if that is as it is now.
func (s *saver) again(ctx context.Context, sh engine.Shard) (bool, error) {
	was, had := s.before[sh]
	if !had || was.Sign == "" {
		return false, nil
	}
	sign, err := s.sign(ctx, sh)
	if err != nil {
		return false, err
	}
	if n, err := was.tree(); err != nil || sign != was.Sign || !s.have(object{kindTree, n}) {
		return false, nil
	}
	s.snap.shards = append(s.snap.shards, was)
	return true, nil
}
