package receive

import (
	"context"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// fullAccounts remembers which accounts were over quota lately, so that RCPT can
// refuse mail for them. Looking up every account's quota at every RCPT would cost a
// wait for its disk sync; like this only the first message that does not fit is
// refused later than RCPT.
type fullAccounts struct {
	mu sync.Mutex
	at map[mail.AccountID]time.Time
}

const (
	fullFor = time.Hour
	maxFull = 10_000 // accounts remembered
)

func (f *fullAccounts) note(id mail.AccountID, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil || len(f.at) >= maxFull {
		f.at = map[mail.AccountID]time.Time{}
	}
	f.at[id] = now
}

func (f *fullAccounts) suspects(id mail.AccountID, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok := f.at[id]
	return ok && now.Sub(at).Abs() < fullFor
}

func (f *fullAccounts) clear(id mail.AccountID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.at, id)
}

// isFull tells whether an account that was full still is: whether it has used its
// allowance, or so much of it that a small message might not fit.
func (r *Receiver) isFull(ctx context.Context, id mail.AccountID) bool {
	if !r.full.suspects(id, r.opt.Now()) {
		return false
	}
	full := false
	err := r.opt.Store.Account(id).View(ctx, func(s *store.Snapshot) error {
		allowed, used := s.Quota()
		full = allowed.Bytes > 0 && used.Bytes+smallMessage > allowed.Bytes ||
			allowed.Messages > 0 && used.Messages >= allowed.Messages
		return nil
	})
	if err == nil && !full {
		r.full.clear(id)
	}
	return err == nil && full
}

// smallMessage is the size in bytes of a message that a full account cannot take.
const smallMessage = 4 << 10
