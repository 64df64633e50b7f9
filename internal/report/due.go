package report

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// A report is sent at some minute of the first hours of the next day, so that not all the
// world writes at once (RFC 8460, 4.1), and is given up when it could not be addressed for a
// day (RFC 8460, 5.5).
const (
	spread   = 4 * time.Hour
	giveUp   = 24 * time.Hour
	perTick  = 500 // reports that are begun at one tick, half of them of each kind
	parallel = 8   // of these at a time
	oneTime  = time.Minute
	askTime  = 5 * time.Second // of it, for DNS to say where it goes
)

// dueAt is when a report is sent. It follows from what it is about: a restart changes
// nothing.
func (b *Book) dueAt(p place) time.Time {
	sum := sha256.Sum256([]byte(b.opt.Hostname + "\x00" + string(p.prefix(famOwed))))
	minute := binary.BigEndian.Uint64(sum[:]) % uint64(spread/time.Minute)
	return p.day.end().Add(time.Duration(minute+1) * time.Minute)
}

// pending is a report that may be sent now.
type pending struct {
	place
	owed
}

// due returns reports whose time has come: those first that were tried least, so that what
// hangs does not keep the rest, and of both kinds in turn, as far as both have some.
func (b *Book) due(ctx context.Context, now time.Time) (list []pending, err error) {
	err = b.opt.Engine.View(ctx, Shard, func(r engine.Reader) error {
		ofDMARC, err := b.dueOf(r, DMARC, now)
		if err != nil {
			return err
		}
		ofTLS, err := b.dueOf(r, TLS, now)
		if err != nil {
			return err
		}
		list = nil
		for i := 0; len(list) < perTick && i < max(len(ofDMARC), len(ofTLS)); i++ {
			list = append(list, ofDMARC[min(i, len(ofDMARC)):min(i+1, len(ofDMARC))]...)
			list = append(list, ofTLS[min(i, len(ofTLS)):min(i+1, len(ofTLS))]...)
		}
		slices.SortStableFunc(list, fewerAttempts)
		return nil
	})
	return list, err
}

// dueOf returns at most as many reports of a kind as begin at one tick.
func (b *Book) dueOf(r engine.Reader, kind Kind, now time.Time) (list []pending, err error) {
	most := func() {
		slices.SortStableFunc(list, fewerAttempts)
		clear(list[min(len(list), perTick):])
		list = list[:min(len(list), perTick)]
	}
	head := []byte{famOwed, byte(kind)}
	err = r.Scan(head, dayOf(now).appendTo(head[:2:2]), false, func(k, v []byte) bool {
		p, _, ok := parsePlace(k)
		o, bad := decodeOwed(v)
		if !ok || b.dueAt(p).After(now) || bad == nil && time.UnixMilli(o.Next).After(now) {
			return true
		}
		if list = append(list, pending{p, o}); len(list) == 2*perTick {
			most()
		}
		return true
	})
	most()
	return list, err
}

func fewerAttempts(x, y pending) int { return cmp.Compare(x.Attempts, y.Attempts) }

// Send sends the reports that are due. Its faults are those of the engine; what becomes of
// each report is kept.
func (b *Book) Send(ctx context.Context) error {
	if b == nil || !b.opt.Collect || b.opt.From == nil || b.opt.Mail == nil {
		return nil
	}
	list, err := b.due(ctx, b.opt.Now())
	if err != nil {
		return err
	}
	places := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, one := range list {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if ctx.Err() != nil {
				return
			}
			if bad := b.one(ctx, one); bad != nil {
				mu.Lock()
				err = bad
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return err
}

// one sends a report, or notes why not.
func (b *Book) one(ctx context.Context, p pending) error {
	limited, cancel := context.WithTimeout(ctx, oneTime)
	done, again := b.deliver(limited, p)
	cancel()
	now := b.opt.Now()
	switch {
	case ctx.Err() != nil: // not its fault: it is due after the next start
		return nil
	case again != nil && now.Sub(b.dueAt(p.place)) < giveUp:
		o := p.owed
		o.Attempts++
		o.Next = now.Add(min(10*time.Minute<<min(o.Attempts, 6), 6*time.Hour)).UnixMilli()
		return b.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error { return w.Put(p.prefix(famOwed), o.encode()) })
	case again != nil:
		done.State, done.Reason = Dropped, "given up after a day: "+fault.Say(again)
	}
	done.At = now
	level := b.opt.Log.Info
	if done.State != Delivered && done.State != Filed {
		level = b.opt.Log.Debug
	}
	level("report", "kind", p.kind.String(), "domain", p.domain, "day", p.day.String(), "state", string(done.State), "to", done.To, "reason", done.Reason, "id", done.ID)
	return b.settle(ctx, p.place, done)
}

// State is what became of a report of ours.
type State string

const (
	Delivered State = "sent"       // handed to the queue, or taken by a web server
	Filed     State = "filed"      // kept here: it is for a domain of this server
	Unwanted  State = "not wanted" // nobody asks for it, or whoever it would go to does not
	Dropped   State = "dropped"    // it could not be sent
)

// Sent is what is known of a report of ours.
type Sent struct {
	Kind   Kind
	Domain string
	Day    time.Time // its beginning
	At     time.Time
	State  State
	To     []string
	Reason string // why it went to nobody, or not to all
	ID     string
	Rows   int
	Count  uint64 // messages or sessions
}

func (s Sent) encode() []byte {
	var e record.Enc
	e.I(s.At.UnixMilli())
	e.Str(string(s.State), s.Reason, s.ID)
	e.U(uint64(s.Rows))
	e.U(s.Count)
	e.U(uint64(len(s.To)))
	e.Str(s.To...)
	return record.Seal(version, e)
}

func decodeSent(b []byte) (s Sent, err error) {
	d, err := open(b)
	if err != nil {
		return s, err
	}
	s.At = time.UnixMilli(d.I()).UTC()
	s.State, s.Reason, s.ID = State(d.Str()), d.Str(), d.Str()
	s.Rows, s.Count = int(min(d.U(), 1<<31)), d.U()
	for range d.Count() {
		s.To = append(s.To, d.Str())
	}
	return s, d.End("sent report")
}

func sentKey(p place) []byte {
	return append(append(p.day.appendTo([]byte{famSent}), byte(p.kind)), p.domain...)
}

// settle forgets what was counted and notes what became of it. That a domain does not ask
// for TLS reports, as most do not, is not worth a note.
func (b *Book) settle(ctx context.Context, p place, s Sent) error {
	return b.opt.Engine.Update(ctx, Shard, func(w engine.Writer) error {
		rows := append(p.prefix(famCount), 0)
		if err := w.DeleteRange(rows, engine.After(rows)); err != nil {
			return err
		}
		if err := w.Delete(p.prefix(famOwed)); err != nil {
			return err
		}
		if s.State == Unwanted && s.Reason == "" {
			return nil
		}
		return w.Put(sentKey(p), s.encode())
	})
}
