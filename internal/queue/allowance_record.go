package queue

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

const (
	fiveMinutes = 5 * time.Minute
	allowanceAt = 5 * time.Second // counts are written as often
	maxKnown    = 100_000         // accounts that are counted at a time
)

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
	mine := a.takeNew(now)
	if len(mine) == 0 {
		return nil
	}
	var all map[string]sent
	err := a.opt.Engine.Update(ctx, shard, func(w engine.Writer) (err error) {
		all, err = addSent(w, mine, now)
		return err
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

// takeNew returns the counts that are not written down yet, and has them begin anew.
func (a *Allowance) takeNew(now int64) map[string]sent {
	a.mu.Lock()
	defer a.mu.Unlock()
	mine := map[string]sent{}
	for name := range a.dirty {
		s := a.known[name]
		mine[name] = sent{five: s.newFive, hour: s.newHour}
		s.newFive, s.newHour = nil, nil
	}
	clear(a.dirty)
	a.prune(now)
	return mine
}

// addSent adds counts to those that are written down, and returns what all come to.
func addSent(w engine.Writer, mine map[string]sent, now int64) (map[string]sent, error) {
	all := map[string]sent{}
	for _, name := range sortedKeys(mine) {
		v, ok, err := w.Get(sentKey(name))
		if err != nil {
			return nil, err
		}
		var s sent
		if ok {
			s.five, s.hour, err = decodeSent(v)
			if fault.Is(err, fault.Unsupported) { // it stays; here what this node knows counts
				all[name] = mine[name]
				continue
			}
			if err != nil && !fault.Is(err, fault.Corrupt) {
				return nil, err
			}
		}
		s.five, s.hour = lately(merged(s.five, mine[name].five), now/300-24), lately(merged(s.hour, mine[name].hour), now/3600-24)
		all[name] = s
		if err := w.Put(sentKey(name), s.encode()); err != nil {
			return nil, err
		}
	}
	return all, nil
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
