package doubt

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// Shard is where nodes tell each other.
const Shard engine.Shard = 11

const (
	famDoubt = 'd' // hash of a What -> its tries

	recDoubt = 1

	batch = 1000 // changes of one Update
)

// Run tells other nodes what is in doubt here, and hears of them, until ctx ends. What has failed is
// tried again with each tick. A process alone has nobody to tell.
func (l *List) Run(ctx context.Context, ticks <-chan time.Time) {
	if l.eng == nil {
		return
	}
	changed, stop := l.eng.Watch(Shard)
	defer stop()
	heard, told := l.Hear(ctx) == nil, true
	for {
		tell := false
		select {
		case <-ctx.Done():
			return
		case <-changed:
			heard = l.Hear(ctx) == nil
		case <-l.wake:
			tell = true
		case <-ticks:
			if !heard {
				heard = l.Hear(ctx) == nil
			}
			tell = !told || l.stale()
		}
		if !tell {
			continue
		}
		err := l.Tell(ctx)
		if told && err != nil && ctx.Err() == nil {
			l.opt.Log.Warn("the other nodes cannot be told which deliveries are in doubt; it is tried again", "err", err)
		}
		told = err == nil
	}
}

// stale tells whether there are records that are too old.
func (l *List) stale() bool {
	if !l.some.Load() {
		return false
	}
	now := l.opt.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.there {
		if !e.counts(now) {
			return true
		}
	}
	return false
}

// Hear takes over what all nodes have told. Faults: those of the engine.
func (l *List) Hear(ctx context.Context) error {
	if l.eng == nil {
		return nil
	}
	var there map[name]*entry
	err := l.eng.View(ctx, Shard, func(r engine.Reader) error {
		there = map[name]*entry{}
		return r.Scan([]byte{famDoubt}, []byte{famDoubt + 1}, false, func(k, v []byte) bool {
			if e, err := decode(k, v); err == nil { // what a newer program has written does not matter here
				there[e.name] = e
			}
			return len(there) < 2*maxDoubts
		})
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.there = there
	l.some.Store(len(l.here)+len(l.there) > 0)
	return nil
}

// Tell writes down what others are to be told, and removes what is too old or too much. What could
// not be written is kept. Faults: those of the engine. A process alone has nobody to tell.
func (l *List) Tell(ctx context.Context) error {
	if l.eng == nil {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	for {
		l.mu.Lock()
		news := l.news
		l.news = nil
		l.mu.Unlock()
		if len(news) == 0 && !l.stale() {
			return nil
		}
		now, later := news[:min(len(news), batch)], news[min(len(news), batch):]
		err := l.eng.Update(ctx, Shard, func(w engine.Writer) error { return l.write(w, now) })
		if err != nil { // after one in doubt it is done again, which does no harm
			later = news
		}
		l.mu.Lock()
		l.news = append(slices.Clone(later), l.news...)
		if err == nil {
			l.told(now)
		}
		l.mu.Unlock()
		if err != nil || len(later) == 0 {
			return err
		}
	}
}

// told leaves what is on record to the records, which others may end. It is called with the lock.
func (l *List) told(all []change) {
	for _, c := range all {
		e := l.here[c.name]
		if e == nil || e.Value.(*entry) != c.entry {
			continue // settled here, or tried again
		}
		l.forget(c.name)
		is := &entry{c.name, c.tries, c.at}
		if old := l.there[c.name]; old != nil {
			is.tries = union(old.tries, is.tries)
		}
		l.there[c.name] = is
	}
}

func (l *List) write(w engine.Writer, all []change) error {
	for _, c := range all {
		if err := c.write(w); err != nil {
			return err
		}
	}
	return l.tidy(w)
}

// write changes the record of one.
func (c *change) write(w engine.Writer) error {
	v, ok, err := w.Get(c.key())
	if err != nil {
		return err
	}
	is := &entry{name: c.name}
	if ok {
		switch old, err := decode(c.key(), v); {
		case fault.Is(err, fault.Unsupported): // it is for newer programs
			return nil
		case err == nil:
			is = old
		}
	}
	is.tries = union(slices.DeleteFunc(is.tries, func(t Try) bool { return slices.Contains(c.gone, t) }), c.tries)
	if c.at.After(is.at) {
		is.at = c.at
	}
	if len(is.tries) == 0 {
		return w.Delete(c.key())
	}
	return w.Put(c.key(), is.encode())
}

// tidy removes what is too old, and the oldest of what is too much.
func (l *List) tidy(w engine.Writer) error {
	now := l.opt.Now()
	var young []*entry
	var gone [][]byte
	err := w.Scan([]byte{famDoubt}, []byte{famDoubt + 1}, false, func(k, v []byte) bool {
		switch e, err := decode(k, v); {
		case err == nil && e.counts(now):
			young = append(young, e)
		case err == nil || fault.Is(err, fault.Corrupt):
			gone = append(gone, slices.Clone(k))
		}
		return true
	})
	if more := len(young) - maxDoubts; more > 0 {
		slices.SortFunc(young, func(a, b *entry) int { return cmp.Or(a.at.Compare(b.at), slices.Compare(a.name[:], b.name[:])) })
		for _, e := range young[:more] {
			gone = append(gone, e.key())
		}
	}
	for _, k := range gone {
		if err == nil {
			err = w.Delete(k)
		}
	}
	return err
}

func (e *entry) key() []byte { return append([]byte{famDoubt}, e.name[:]...) }

func (e *entry) encode() []byte {
	var b record.Enc
	b.I(e.at.Unix())
	b.U(uint64(len(e.tries)))
	for _, t := range e.tries {
		b.Str(t.Key)
		b.U(t.Part)
	}
	return record.Seal(recDoubt, b)
}

func decode(k, v []byte) (*entry, error) {
	kind, p, err := record.Open(v)
	if err == nil && kind > recDoubt {
		err = fault.Newf(fault.Unsupported, "doubts have version %d, and this program knows %d", kind, recDoubt)
	}
	if err != nil {
		return nil, err
	}
	if len(k) != 1+len(name{}) {
		return nil, fault.New(fault.Corrupt, "the key of a doubt has another length")
	}
	d := record.Dec{Rest: p}
	e := &entry{name: name(k[1:]), at: time.Unix(d.I(), 0)}
	for range d.Count() {
		e.tries = append(e.tries, Try{d.Str(), d.U()})
	}
	return e, d.End("doubt")
}
