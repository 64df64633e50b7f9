package queue

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Limits is how much may be sent; 0 is any number.
type Limits struct {
	MessagesPerHour, MessagesPerDay, RecipientsPerHour, RecipientsPerDay int
}

// AllowanceOptions sets up an Allowance. Engine and Now must be given.
type AllowanceOptions struct {
	Engine engine.Engine
	// Default is for each account that sends from a network that is not trusted.
	Default Limits
	// Own limits, by address of an account, by domain for all accounts of it together, or
	// by "*" for each account that has none; wherever they send from.
	Own map[string]Limits
	// Domain says what all accounts of a domain together may send besides, wherever from; of
	// two limits the lower one counts. nil: nothing more.
	Domain func(ctx context.Context, domain string) (Limits, error)
	Alarm  int // percent of a limit at which a warning is logged; 0: 50
	Now    func() time.Time
	Log    *slog.Logger // nil: discard
}

// Allowance counts what accounts send, so that whoever has stolen a password can do little
// with it. It counts in buckets of five minutes and of an hour: in no hour and no day more
// than a limit is sent. The counts are written down every few seconds; a crash forgets
// those of the last ones. Where several processes share the engine, each adds its counts to
// those of the others, and knows of theirs what they have written down.
type Allowance struct {
	opt    AllowanceOptions
	shared bool

	mu    sync.Mutex
	known map[string]*sent // by address or domain
	dirty map[string]bool
}

// sent is what was sent lately.
type sent struct {
	five  []bucket // of five minutes, in the last hour
	hour  []bucket // of an hour, in the last day
	warn  int64    // when a warning was logged
	loads bool     // the record has been read
	read  int64    // when, in seconds

	newFive, newHour []bucket // those of what is not written down yet, if others write, too
}

// NewAllowance returns an Allowance that counts on from what is written down.
func NewAllowance(opt AllowanceOptions) *Allowance {
	if opt.Alarm <= 0 {
		opt.Alarm = 50
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	own := map[string]Limits{}
	for name, l := range opt.Own {
		own[strings.ToLower(name)] = l
	}
	opt.Own = own
	_, shared := opt.Engine.(engine.Shared)
	return &Allowance{opt: opt, shared: shared, known: map[string]*sent{}, dirty: map[string]bool{}}
}

// counted are the names under which an account's mail counts, with their limits. Faults:
// those of AllowanceOptions.Domain.
func (a *Allowance) counted(ctx context.Context, login string, trusted bool) (map[string]Limits, error) {
	login = strings.ToLower(login)
	_, domain, _ := strings.Cut(login, "@")
	all := map[string]Limits{login: a.ofAccount(login, trusted)}
	if domain != "" {
		l, err := a.ofDomain(ctx, domain)
		if err != nil {
			return nil, err
		}
		all[domain] = l
	}
	for name, l := range all {
		if l == (Limits{}) {
			delete(all, name)
		}
	}
	return all, nil
}

func (a *Allowance) ofAccount(login string, trusted bool) Limits {
	if l, ok := a.opt.Own[login]; ok {
		return l
	}
	if l, ok := a.opt.Own["*"]; ok {
		return l
	}
	if trusted {
		return Limits{}
	}
	return a.opt.Default
}

func (a *Allowance) ofDomain(ctx context.Context, domain string) (Limits, error) {
	l := a.opt.Own[domain]
	if a.opt.Domain == nil {
		return l, nil
	}
	set, err := a.opt.Domain(ctx, domain)
	if err != nil {
		return Limits{}, err
	}
	return l.and(set), nil
}

// and is the lower of two limits, each.
func (l Limits) and(o Limits) Limits {
	lower := func(a, b int) int {
		if a == 0 || b == 0 {
			return a + b
		}
		return min(a, b)
	}
	return Limits{lower(l.MessagesPerHour, o.MessagesPerHour), lower(l.MessagesPerDay, o.MessagesPerDay),
		lower(l.RecipientsPerHour, o.RecipientsPerHour), lower(l.RecipientsPerDay, o.RecipientsPerDay)}
}

// Check tells whether an account may send one more message to so many recipients. trusted
// tells that it sends from a trusted network. A fault of kind Limited says which limit is
// reached; others are those of the engine and of AllowanceOptions.Domain.
func (a *Allowance) Check(ctx context.Context, login string, recipients int, trusted bool) error {
	return a.spend(ctx, login, recipients, trusted, false)
}

// Spend is Check, and counts the message if it may be sent.
func (a *Allowance) Spend(ctx context.Context, login string, recipients int, trusted bool) error {
	return a.spend(ctx, login, recipients, trusted, true)
}

func (a *Allowance) spend(ctx context.Context, login string, recipients int, trusted, count bool) error {
	names, err := a.counted(ctx, login, trusted)
	if err != nil {
		return err
	}
	for name := range names {
		if err := a.load(ctx, name); err != nil {
			return err
		}
	}
	now := a.opt.Now().Unix()
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, l := range names {
		if err := a.over(name, l, recipients, now); err != nil {
			return err
		}
	}
	if !count {
		return nil
	}
	for name, l := range names {
		s := a.of(name)
		s.five = add(s.five, now/300, int64(recipients))
		s.hour = add(s.hour, now/3600, int64(recipients))
		if a.shared {
			s.newFive, s.newHour = add(s.newFive, now/300, int64(recipients)), add(s.newHour, now/3600, int64(recipients))
		}
		a.dirty[name] = true
		a.warn(name, s, l, now)
	}
	return nil
}

func (a *Allowance) of(name string) *sent {
	s := a.known[name]
	if s == nil {
		s = &sent{}
		a.known[name] = s
	}
	return s
}

// over says which limit one more message would pass.
func (a *Allowance) over(name string, l Limits, recipients int, now int64) error {
	s := a.of(name)
	s.five, s.hour, s.warn = past(s.five, now/300), past(s.hour, now/3600), min(s.warn, now)
	hm, hr := sum(s.five, now/300-12)
	dm, dr := sum(s.hour, now/3600-24)
	for _, c := range [...]struct {
		limit      int
		is         int64
		what, span string
	}{
		{l.MessagesPerHour, hm + 1, "messages", "hour"}, {l.MessagesPerDay, dm + 1, "messages", "day"},
		{l.RecipientsPerHour, hr + int64(recipients), "recipients", "hour"}, {l.RecipientsPerDay, dr + int64(recipients), "recipients", "day"},
	} {
		if c.limit == 0 || c.is <= int64(c.limit) {
			continue
		}
		if now-s.warn >= 600 {
			s.warn = now
			a.opt.Log.Warn("an account sends more than it may; its password may be known to others", "account", name, "limit", c.limit, "of", c.what, "per", c.span)
		}
		return fault.Newf(fault.Limited, "%s may send %d %s in a %s, and has; try again later", name, c.limit, c.what, c.span)
	}
	return nil
}

// warn logs that an account sends unusually much, before it is over a limit.
func (a *Allowance) warn(name string, s *sent, l Limits, now int64) {
	if now-s.warn < 3600 {
		return
	}
	hm, hr := sum(s.five, now/300-12)
	dm, dr := sum(s.hour, now/3600-24)
	for _, c := range [...]struct {
		limit int
		is    int64
	}{{l.MessagesPerHour, hm}, {l.MessagesPerDay, dm}, {l.RecipientsPerHour, hr}, {l.RecipientsPerDay, dr}} {
		if c.limit > 0 && c.is*100 >= int64(c.limit)*int64(a.opt.Alarm) {
			s.warn = now
			a.opt.Log.Warn("an account sends unusually much", "account", name, "messages_in_hour", hm, "recipients_in_hour", hr, "messages_in_day", dm, "recipients_in_day", dr)
			return
		}
	}
}
