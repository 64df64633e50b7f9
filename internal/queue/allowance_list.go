package queue

import (
	"context"
	"fmt"
	"strings"

	"github.com/martlet-mail/martlet/internal/engine"
)

// SentLine is what an account, or the accounts of a domain, sent lately.
type SentLine struct {
	Name                              string
	MessagesInHour, MessagesInDay     int64
	RecipientsInHour, RecipientsInDay int64
	Limits                            Limits
}

// Sent lists what was sent in the last day, by those who sent anything. Faults: those of the
// engine and of AllowanceOptions.Domain.
func (a *Allowance) Sent(ctx context.Context) (list []SentLine, err error) {
	if err := a.Flush(ctx); err != nil {
		return nil, err
	}
	now := a.opt.Now().Unix()
	err = a.opt.Engine.View(ctx, shard, func(r engine.Reader) error {
		list = nil
		var bad error
		err := r.Scan([]byte{famSent}, []byte{famSent + 1}, false, func(k, v []byte) bool {
			five, hour, err := decodeSent(v)
			if err != nil {
				bad = fmt.Errorf("%s: %w", k[1:], err)
				return true
			}
			five, hour = past(five, now/300), past(hour, now/3600)
			l := SentLine{Name: string(k[1:])}
			l.MessagesInHour, l.RecipientsInHour = sum(five, now/300-12)
			if l.MessagesInDay, l.RecipientsInDay = sum(hour, now/3600-24); l.MessagesInDay > 0 {
				list = append(list, l)
			}
			return true
		})
		if err == nil {
			err = bad
		}
		return err
	})
	for i := range list {
		l := &list[i]
		if strings.Contains(l.Name, "@") {
			l.Limits = a.ofAccount(l.Name, false)
		} else if limits, failed := a.ofDomain(ctx, l.Name); err == nil {
			l.Limits, err = limits, failed
		}
	}
	return list, err
}
