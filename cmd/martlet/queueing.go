package main

import (
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/serve/smtpd"
)

// queueing is what listeners offer of time and order.
func queueing(c *conf.Submission) smtpd.Queueing {
	return smtpd.Queueing{
		MaxHold: time.Duration(c.FutureRelease), DeliverBy: c.DeliverBy, MinBy: time.Duration(c.DeliverByMinimum),
		Priority: c.Priority, Policy: c.PriorityPolicy, VERP: c.VERP,
	}
}

// schedules returns what holds for mail to a domain; nil if nothing particular does.
func schedules(list []conf.Schedule) func(domain string) queue.Rules {
	if len(list) == 0 {
		return nil
	}
	byName := map[string]queue.Rules{}
	for _, s := range list {
		r := queue.Rules{Lifetime: time.Duration(s.MaxAge), PerDomain: s.Concurrency, PerMinute: s.Rate, Hold: s.Hold}
		for _, gap := range s.Retry {
			r.Gaps = append(r.Gaps, time.Duration(gap))
		}
		byName[strings.ToLower(s.Domain)] = r
	}
	return func(domain string) queue.Rules {
		domain = strings.ToLower(domain)
		if r, ok := byName[domain]; ok {
			return r
		}
		for rest := domain; ; {
			_, above, found := strings.Cut(rest, ".")
			if !found {
				return byName["*"]
			}
			if r, ok := byName["."+above]; ok {
				return r
			}
			rest = above
		}
	}
}

// newAllowance counts what the house's accounts send.
func newAllowance(h *house) *queue.Allowance {
	c := &h.cfg.Submission
	o := queue.AllowanceOptions{
		Engine: h.engine, Now: time.Now, Log: h.log, Alarm: c.Alarm, Own: map[string]queue.Limits{},
		Default: queue.Limits{MessagesPerHour: c.MessagesPerHour, MessagesPerDay: c.MessagesPerDay, RecipientsPerHour: c.RecipientsPerHour, RecipientsPerDay: c.RecipientsPerDay},
	}
	for _, l := range c.Limit {
		o.Own[l.For] = queue.Limits{MessagesPerHour: l.MessagesPerHour, MessagesPerDay: l.MessagesPerDay, RecipientsPerHour: l.RecipientsPerHour, RecipientsPerDay: l.RecipientsPerDay}
	}
	return queue.NewAllowance(o)
}
