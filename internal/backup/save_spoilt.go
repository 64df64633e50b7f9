package backup

import (
	"context"
	"fmt"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

var errSeal = fault.New(fault.Corrupt, "it fails its checksum")

// spoilt is a record that the store itself could not read any more.
type spoilt struct {
	key   string // in hex
	cause error
}

// tellSpoilt tells of the records of a shard that are damaged in the store: once.
func (s *saver) tellSpoilt(ctx context.Context, sh engine.Shard) {
	where := ""
	for _, r := range s.spoilt {
		if where == "" {
			where = s.whereIs(ctx, sh)
		}
		if key := fmt.Sprint(sh, r.key); !s.damaged[key] {
			s.damaged[key] = true
			s.problem(Problem{"", "the store has a damaged record, " + r.key + ", in " + where + "; it is saved as it is: " + fault.Say(r.cause)})
		}
	}
	s.spoilt = nil
}

// whereIs is what a person calls a shard.
func (s *saver) whereIs(ctx context.Context, sh engine.Shard) string {
	id, ok := (&snapShard{Shard: sh}).account()
	switch {
	case ok:
		if a, err := s.house.Directory.AccountByID(ctx, id); err == nil {
			return "account " + a.Address.String()
		}
		return fmt.Sprintf("account %d", id)
	case sh == store.DirectoryShard:
		return "the directory"
	}
	return nameOf(sh)
}

// nameOf is what a person calls a shard that is no account's, nor the directory.
func nameOf(sh engine.Shard) string {
	_, queued := queue.PartOf(sh)
	switch {
	case queued:
		return "the queue"
	case sh == linksShard:
		return "the links"
	case sh == nodesShard:
		return "what the nodes know of each other"
	}
	return "the list of accounts"
}
