package main

import (
	"context"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/backupmx"
	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/mail"
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
func schedules(list []conf.Schedule, backups []conf.BackupMX) func(domain string) queue.Rules {
	if len(list) == 0 && len(backups) == 0 {
		return nil
	}
	byName := map[string]queue.Rules{}
	for _, b := range backups {
		byName[strings.ToLower(string(b.Domain))] = queue.Rules{Lifetime: time.Duration(b.MaxAge)}
	}
	for _, s := range list {
		r := queue.Rules{Lifetime: time.Duration(s.MaxAge), PerDomain: s.Concurrency, PerMinute: s.Rate, Hold: s.Hold}
		for _, gap := range s.Retry {
			r.Gaps = append(r.Gaps, time.Duration(gap))
		}
		name := strings.ToLower(s.Domain)
		if r.Lifetime == 0 {
			r.Lifetime = byName[name].Lifetime
		}
		byName[name] = r
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
	o.Domain = func(ctx context.Context, domain string) (queue.Limits, error) {
		s, err := h.directory.Settings(ctx, domain)
		return queue.Limits{MessagesPerHour: s.SendPerHour, MessagesPerDay: s.SendPerDay}, err
	}
	for _, l := range c.Limit {
		o.Own[l.For] = queue.Limits{MessagesPerHour: l.MessagesPerHour, MessagesPerDay: l.MessagesPerDay, RecipientsPerHour: l.RecipientsPerHour, RecipientsPerDay: l.RecipientsPerDay}
	}
	return queue.NewAllowance(o)
}

// suppressed tells whom an account does not send to any more.
func (h *house) suppressed() func(context.Context, string, mail.Address, bool) error {
	mode := h.cfg.Submission.Suppress
	if mode == "off" {
		return nil
	}
	return func(ctx context.Context, login string, to mail.Address, list bool) error {
		if mode == "lists" && !list {
			return nil
		}
		return h.queue.Refused(ctx, login, to)
	}
}

// backups says whom this host keeps mail for that is not its own; nil for nobody.
func (h *house) backups() func(context.Context, mail.Address) (bool, error) {
	if len(h.cfg.BackupMX) == 0 {
		return nil
	}
	o := backupmx.Options{Now: time.Now, Probe: func(ctx context.Context, to mail.Address) (int, string) {
		r := h.courier.Probe(ctx, to)
		if r.Host == "" { // nobody but us has said anything
			return 451, r.Text
		}
		return r.Code, r.Text
	}}
	for _, b := range h.cfg.BackupMX {
		d := backupmx.Domain{Name: string(b.Domain)}
		if b.Recipients != "" {
			d.List = func() ([]byte, error) { return files.ReadFile(string(b.Recipients)) }
		}
		o.Domains = append(o.Domains, d)
	}
	return backupmx.New(o).Takes
}
