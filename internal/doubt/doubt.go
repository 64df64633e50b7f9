// Package doubt remembers what was tried with an outcome that nobody knows, and under which key,
// so that the next try of the same is known to be one.
//
// A process alone remembers in memory. Where several share an engine each tells the others, by
// records of a shard of their own, as soon as the engine can be written again: a client whose
// next try comes to another node is known there. What the list says is where to look, not what
// became of anything: that is decided where the key of an earlier try lies, in the same change
// as whatever follows from it. So it does no harm if the list is old, or says too much.
//
// The package knows nothing of mail but addresses.
package doubt

import (
	"container/list"
	"crypto/sha256"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// What is what a message was to do when its outcome could not be found out.
type What struct {
	Sent [32]byte // names its bytes; zero: nothing does, and nothing is remembered
	From mail.Address
	To   string // a place
}

// Try is one attempt of it.
type Try struct {
	Key  string
	Part uint64 // of the queue, if it was for that
}

const (
	maxDoubts = 10_000
	maxTries  = 8                  // of one: then the first is forgotten
	doubtFor  = 5 * 24 * time.Hour // as long as clients try (RFC 5321, 4.5.4.1)
)

// Options sets up a List. Now must be given.
type Options struct {
	Engine engine.Engine // nil, or not engine.Shared: this process is alone
	Now    func() time.Time
	Log    *slog.Logger // nil: discard
}

// List is a short memory of what is in doubt. It costs nothing while nothing is. All methods may
// be called from many goroutines.
type List struct {
	opt  Options
	eng  engine.Engine // nil: nobody is told
	some atomic.Bool

	mu    sync.Mutex
	here  map[name]*list.Element
	old   list.List // of *entry, of this process: what was not tried again for the longest time is forgotten first
	there map[name]*entry
	news  []change
	wake  chan struct{} // holds one thing while there are news

	writing sync.Mutex
}

// name stands for a What.
type name [32]byte

// entry is the tries of one.
type entry struct {
	name  name
	tries []Try
	at    time.Time // of the last
}

// change is what others are to be told.
type change struct {
	*entry       // tries in doubt
	gone   []Try // and those that are not any more
}

// New returns an empty List.
func New(o Options) *List {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &List{opt: o, here: map[name]*list.Element{}, there: map[name]*entry{}, wake: make(chan struct{}, 1)}
	if _, shared := o.Engine.(engine.Shared); shared {
		l.eng = o.Engine
	}
	return l
}

// Earlier returns earlier tries of which nobody knows what became.
func (l *List) Earlier(what What) (all []Try) {
	if !l.some.Load() || what.Sent == ([32]byte{}) {
		return nil
	}
	name, now := what.name(), l.opt.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.known(name) {
		if e.counts(now) {
			all = union(all, e.tries)
		}
	}
	return all
}

// Note remembers that something was tried with an unknown outcome, or, with no error, that it and
// all its earlier tries are in doubt no more. Other errors change nothing.
func (l *List) Note(what What, try Try, err error) {
	unknown := fault.Is(err, fault.Unknown)
	if what.Sent == ([32]byte{}) || !unknown && (err != nil || !l.some.Load()) {
		return
	}
	name, now := what.name(), l.opt.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if unknown {
		l.add(name, try, now)
	} else {
		l.settle(name)
	}
	l.some.Store(len(l.here)+len(l.there) > 0)
}

func (l *List) add(name name, try Try, now time.Time) {
	var tries []Try
	if e := l.here[name]; e != nil && e.Value.(*entry).counts(now) {
		tries = e.Value.(*entry).tries
	}
	l.forget(name)
	e := &entry{name, union(tries, []Try{try}), now}
	l.here[name] = l.old.PushBack(e)
	for first := l.old.Front().Value.(*entry); len(l.here) > maxDoubts || !first.counts(now); first = l.old.Front().Value.(*entry) {
		l.forget(first.name)
	}
	l.tell(change{entry: e})
}

func (l *List) settle(name name) {
	c := change{entry: &entry{name: name}}
	for _, e := range l.known(name) {
		c.gone = append(c.gone, e.tries...)
	}
	l.forget(name)
	delete(l.there, name)
	if len(c.gone) > 0 {
		l.tell(c)
	}
}

// known returns what is known of one, by this process and by all. It is called with the lock.
func (l *List) known(name name) (all []*entry) {
	if e := l.here[name]; e != nil {
		all = append(all, e.Value.(*entry))
	}
	if e := l.there[name]; e != nil {
		all = append(all, e)
	}
	return all
}

// forget is called with the lock.
func (l *List) forget(name name) {
	if e := l.here[name]; e != nil {
		l.old.Remove(e)
		delete(l.here, name)
	}
}

// tell is called with the lock.
func (l *List) tell(c change) {
	if l.eng == nil {
		return
	}
	l.news = append(l.news, c)
	l.news = l.news[max(0, len(l.news)-maxDoubts):]
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (w What) name() name {
	sum := sha256.New()
	sum.Write(w.Sent[:])
	sum.Write([]byte(w.From.String() + "\x00" + w.To))
	return name(sum.Sum(nil))
}

func (e *entry) counts(now time.Time) bool { return now.Sub(e.at).Abs() < doubtFor }

// union returns the last tries of two lists.
func union(a, b []Try) []Try {
	all := slices.Clone(a)
	for _, t := range b {
		if !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	return all[max(0, len(all)-maxTries):]
}
