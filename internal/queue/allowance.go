package queue

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
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

// bucket is what was sent in a piece of time: the number of the piece, counts.
type bucket struct{ at, messages, recipients int64 }

const (
	fiveMinutes = 5 * time.Minute
	allowanceAt = 5 * time.Second // counts are written as often
	maxKnown    = 100_000         // accounts that are counted at a time
)

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

// add counts a message. What is older than a day of the coarser buckets is dropped.
func add(list []bucket, at, recipients int64) []bucket {
	for len(list) > 0 && at-list[0].at > 24 {
		list = list[1:]
	}
	if n := len(list); n == 0 || list[n-1].at < at {
		list = append(list, bucket{at: at})
	}
	b := &list[len(list)-1]
	b.messages, b.recipients = b.messages+1, b.recipients+recipients
	return list
}

// merged adds the counts of two lists.
func merged(a, b []bucket) []bucket {
	var out []bucket
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && a[0].at <= b[0].at {
			a, b = b, a
		}
		if n := len(out); n > 0 && out[n-1].at == b[0].at {
			out[n-1].messages += b[0].messages
			out[n-1].recipients += b[0].recipients
		} else {
			out = append(out, b[0])
		}
		b = b[1:]
	}
	return out
}

// past makes what a clock that was ahead has counted later than at part of that: else it would
// count until then.
func past(list []bucket, at int64) []bucket {
	var last bucket
	for n := len(list); n > 0 && list[n-1].at > at; n-- {
		last.messages, last.recipients = last.messages+list[n-1].messages, last.recipients+list[n-1].recipients
		list = list[:n-1]
	}
	if last.messages == 0 {
		return list
	}
	if n := len(list); n > 0 && list[n-1].at == at {
		last.messages, last.recipients = last.messages+list[n-1].messages, last.recipients+list[n-1].recipients
		list = list[:n-1]
	}
	last.at = at
	return append(list, last)
}

// sum counts the buckets from one on.
func sum(list []bucket, from int64) (messages, recipients int64) {
	for _, b := range list {
		if b.at >= from {
			messages, recipients = messages+b.messages, recipients+b.recipients
		}
	}
	return messages, recipients
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

func sentKey(name string) []byte { return engine.KeyString(famSent, name) }

// load reads what is written down of a name: once, or now and then if others write, too.
func (a *Allowance) load(ctx context.Context, name string) error {
	now := a.opt.Now().Unix()
	a.mu.Lock()
	s := a.known[name]
	fresh := s != nil && s.loads && (!a.shared || now-s.read < int64(allowanceAt/time.Second) && now >= s.read)
	a.mu.Unlock()
	if fresh {
		return nil
	}
	var five, hour []bucket
	err := a.opt.Engine.View(ctx, shard, func(r engine.Reader) error {
		v, ok, err := r.Get(sentKey(name))
		if err == nil && ok {
			if five, hour, err = decodeSent(v); unreadable(err) {
				five, hour, err = nil, nil, nil // it is counted anew
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxKnown {
		a.prune(a.opt.Now().Unix())
	}
	switch s := a.of(name); {
	case a.shared:
		s.took(five, hour, now)
	case !s.loads:
		s.five, s.hour, s.loads = append(five, s.five...), append(hour, s.hour...), true
	}
	return nil
}

// took takes over what is written down, to which what is not is still to be added.
func (s *sent) took(five, hour []bucket, now int64) {
	s.five, s.hour, s.loads, s.read = merged(five, s.newFive), merged(hour, s.newHour), true, now
}

// prune forgets who has sent nothing for a day, and whose counts are written down.
func (a *Allowance) prune(now int64) {
	for name, s := range a.known {
		if n := len(s.hour); !a.dirty[name] && (n == 0 || s.hour[n-1].at < now/3600-24 || len(a.known) >= maxKnown) {
			delete(a.known, name)
		}
	}
}

// Run writes the counts down now and then, and once more when ctx ends.
func (a *Allowance) Run(ctx context.Context) {
	for ctx.Err() == nil {
		timer := time.NewTimer(allowanceAt)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		c, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		if err := a.Flush(c); err != nil {
			a.opt.Log.Error("what accounts have sent cannot be written down", "error", err)
		}
		cancel()
	}
}

// Flush writes down what has changed, and drops what is older than a day.
func (a *Allowance) Flush(ctx context.Context) error {
	if a.shared {
		return a.flushShared(ctx)
	}
	a.mu.Lock()
	now := a.opt.Now().Unix()
	values := map[string][]byte{}
	for name := range a.dirty {
		values[name] = a.known[name].encode()
	}
	clear(a.dirty)
	a.prune(now)
	a.mu.Unlock()
	if len(values) == 0 {
		return nil
	}
	err := a.opt.Engine.Update(ctx, shard, func(w engine.Writer) error {
		for _, name := range sortedKeys(values) {
			if err := w.Put(sentKey(name), values[name]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		a.mu.Lock()
		for name := range values {
			a.dirty[name] = true
		}
		a.mu.Unlock()
	}
	return err
}

// flushShared adds what this process has counted to what is written down.
func (a *Allowance) flushShared(ctx context.Context) error {
	now := a.opt.Now().Unix()
	a.mu.Lock()
	mine := map[string]sent{}
	for name := range a.dirty {
		s := a.known[name]
		mine[name] = sent{five: s.newFive, hour: s.newHour}
		s.newFive, s.newHour = nil, nil
	}
	clear(a.dirty)
	a.prune(now)
	a.mu.Unlock()
	if len(mine) == 0 {
		return nil
	}
	all := map[string]sent{}
	err := a.opt.Engine.Update(ctx, shard, func(w engine.Writer) error {
		for _, name := range sortedKeys(mine) {
			v, ok, err := w.Get(sentKey(name))
			if err != nil {
				return err
			}
			var s sent
			if ok {
				s.five, s.hour, err = decodeSent(v)
				if fault.Is(err, fault.Unsupported) { // it stays; here what this node knows counts
					all[name] = mine[name]
					continue
				}
				if err != nil && !fault.Is(err, fault.Corrupt) {
					return err
				}
			}
			s.five, s.hour = lately(merged(s.five, mine[name].five), now/300-24), lately(merged(s.hour, mine[name].hour), now/3600-24)
			all[name] = s
			if err := w.Put(sentKey(name), s.encode()); err != nil {
				return err
			}
		}
		return nil
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, m := range mine {
		s := a.of(name)
		switch {
		case err == nil:
			s.took(all[name].five, all[name].hour, now)
		case !fault.Is(err, fault.Unknown): // else they may be there, and are not counted twice
			s.newFive, s.newHour = merged(m.five, s.newFive), merged(m.hour, s.newHour)
			a.dirty[name] = true
		}
	}
	return err
}

// lately drops what is older.
func lately(list []bucket, from int64) []bucket {
	for len(list) > 0 && list[0].at < from {
		list = list[1:]
	}
	return list
}

func (s *sent) encode() []byte {
	e := newEnc()
	for _, list := range [][]bucket{s.five, s.hour} {
		e.U(uint64(len(list)))
		for _, b := range list {
			e.I(b.at)
			e.I(b.messages)
			e.I(b.recipients)
		}
	}
	return record.Seal(version, e.Enc)
}

func decodeSent(v []byte) (five, hour []bucket, err error) {
	d, err := newDec(v)
	if err != nil {
		return nil, nil, err
	}
	for _, list := range []*[]bucket{&five, &hour} {
		for range d.Count() {
			*list = append(*list, bucket{d.I(), d.I(), d.I()})
		}
	}
	return five, hour, d.end()
}

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
