package outward

import (
	"context"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// like is what two messages have in common that are held for the same one.
type like struct {
	id   string
	size int64
	date int64 // if there is no id
}

func likeOf(id string, size int64, date time.Time) like {
	if id != "" {
		return like{id: id, size: size}
	}
	return like{size: size, date: date.Unix()}
}

// present is a message at the server.
type present struct {
	key      string
	flags    mail.Flags
	keywords string
	date     int64
}

// look reads what is at the server.
func (v *sender) look(ctx context.Context) error {
	l := &looker{have: map[like][]present{}}
	err := v.Server.Read(ctx, v.to, move.Reading{Plan: true}, l)
	v.have, v.all = l.have, map[like]int{}
	for k, list := range l.have {
		v.all[k] = len(list)
	}
	return err
}

// settled is look when nothing comes any more. The export before was at the first mailbox
// that is not complete.
func (v *sender) settled(ctx context.Context, messages int64) error {
	if err := v.look(ctx); err != nil || !v.Unsettled {
		return err
	}
	for _, n := range v.all {
		messages -= int64(n)
	}
	if messages <= 0 {
		return nil
	}
	v.Unsettled = false
	for range 30 {
		before := v.all
		if err := v.Wait(ctx, time.Second); err != nil {
			return err
		}
		if err := v.look(ctx); err != nil {
			return err
		}
		if maps.Equal(before, v.all) {
			return nil
		}
	}
	return nil
}

// looker gathers what is said of messages.
type looker struct{ have map[like][]present }

func (l *looker) Want(_ context.Context, items []move.Item) ([]bool, error) {
	for _, it := range items {
		k := likeOf(it.MessageID, it.Size, it.Date)
		l.have[k] = append(l.have[k], present{strings.Clone(it.Key), it.Flags, joined(it.Keywords), it.Date.Unix()})
	}
	return make([]bool, len(items)), nil
}
func (l *looker) Put(context.Context, move.Item, io.Reader) error { return nil }
func (l *looker) Skip(context.Context, move.Item, error) error    { return nil }
func (l *looker) Gone(context.Context, []string) error            { return nil }
func (l *looker) State(context.Context, []byte) error             { return nil }
