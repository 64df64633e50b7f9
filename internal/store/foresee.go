package store

import (
	"context"

	"github.com/martlet-mail/martlet/internal/engine"
)

// firstMailbox is the id of INBOX: an account is made with it.
const firstMailbox = 1

// Foresee returns a context for an Update that is going to append these messages, once by a
// key if that is not "". On an engine that is on another machine it reads what it needs in one
// go; elsewhere it changes nothing.
func (a *Account) Foresee(ctx context.Context, key string, messages ...NewMessage) context.Context {
	if a.store.shared == nil {
		return ctx
	}
	keys := [][]byte{{famAccount}, engine.KeyString(famName, "INBOX"), engine.Key(famMailbox, firstMailbox)}
	if key != "" {
		keys = append(keys, engine.KeyString(famOnce, key))
	}
	for _, m := range messages {
		for _, h := range m.Parcel.records().conversation() {
			keys = append(keys, engine.Key(famThread, h))
		}
	}
	return engine.Foresee(ctx, keys)
}
