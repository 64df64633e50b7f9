package imapd

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
	"github.com/martlet-mail/martlet/internal/turn"
)

// What a search has to read it reads in portions, and several of them at the same time
// where processors are free: a portion is read into memory in one or a few Snapshots and
// looked through after each.

const (
	readAtOnce = 256  // messages of a portion
	gathered   = 2048 // messages that are gathered before they are read
)

// reading is one of those who read for a search. It has what must not be shared.
type reading struct {
	q      *search
	heads  heads
	bodies []byte  // one after the other
	stream onwards // the message whose parts are looked through
	header headerText
	window []byte // of scan, used again for each text
	marks  []bool
	notes  notebook

	found  []mail.UID
	scores []uint8 // of what is found, in a fuzzy search
	missed bool
}

// settle asks about messages that the row alone does not decide.
func (q *search) settle(pending []*candidate) error {
	if len(q.readings) == 0 {
		q.readings = append(q.readings, q.newReading())
	}
	var err error
	if len(pending) > q.s.srv.hands.portion {
		err = q.settleTogether(pending)
	} else {
		err = q.readings[0].settle(pending, func() error {
			q.done++
			return q.s.reached(q.done)
		})
	}
	for _, r := range q.readings {
		q.found, q.missed = append(q.found, r.found...), q.missed || r.missed
		for i, score := range r.scores {
			q.scores[r.found[i]] = score
		}
		r.found, r.scores = r.found[:0], r.scores[:0]
	}
	return err
}

func (q *search) newReading() *reading {
	r := &reading{q: q}
	if q.sifts {
		r.notes.head, r.notes.body = new(gramSet), new(gramSet)
	}
	return r
}

// settleTogether is settle with all hands that are free. The session waits and gives signs
// of life.
func (q *search) settleTogether(pending []*candidate) error {
	p := portioned{pending: pending}
	work := turn.Of(q.s.ctx)
	helping := []*turn.Turn{nil} // of each hand but the first, which is this one's
	for len(helping)*q.s.srv.hands.portion < len(pending) && q.s.srv.hands.take() {
		second, ok := work.Beside()
		if !ok {
			q.s.srv.hands.give()
			break
		}
		if helping = append(helping, second); len(q.readings) < len(helping) {
			q.readings = append(q.readings, q.newReading())
		}
	}
	running := len(helping)
	ended := make(chan error, running)
	for i, r := range q.readings[:running] {
		if i == 0 {
			go func() { ended <- r.portions(&p, func() bool { work.Yield(); return false }) }()
			continue
		}
		go func() { ended <- r.help(&p, helping[i]) }()
	}
	var bad error
	fail := func(err error) {
		if bad == nil && err != nil {
			bad = err
			p.stop.Store(true)
		}
	}
	for running > 0 {
		select {
		case err := <-ended:
			if running--; running > 0 {
				q.s.srv.hands.give()
			}
			fail(err)
		case <-q.s.srv.opt.After(lookEvery):
			fail(q.s.reached(q.done + int(p.done.Load())))
		}
	}
	if p, is := bad.(panicked); is {
		panic(p)
	}
	for i := 0; bad == nil && i < len(pending); i++ {
		q.done++
		bad = q.s.reached(q.done)
	}
	return bad
}

// portioned is messages from which several take portions.
type portioned struct {
	pending    []*candidate
	next, done atomic.Int64
	stop       atomic.Bool
}

// decided counts a message, and ends the portion if nobody waits for the rest of it.
func (p *portioned) decided() error {
	if p.done.Add(1); p.stop.Load() {
		return errEnough
	}
	return nil
}

// panicked is a panic on its way to the goroutine that waits, and where it was: the log of
// that one would not tell.
type panicked struct {
	value any
	stack []byte
}

func (p panicked) Error() string { return fmt.Sprintf("%v\n%s", p.value, p.stack) }

// help takes portions with a turn of its own, until there are none left or the turn is one
// too many; then nobody waits for it any longer.
func (r *reading) help(p *portioned, second *turn.Turn) error {
	defer second.Give()
	return r.portions(p, second.Over)
}

// portions takes portions until there are none left, or enough tells after one that
// others should.
func (r *reading) portions(p *portioned, enough func() bool) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = panicked{v, debug.Stack()}
		}
	}()
	n := r.q.s.srv.hands.portion
	for err == nil && !p.stop.Load() {
		from := int(p.next.Add(int64(n))) - n
		if from >= len(p.pending) {
			break
		}
		err = r.settle(p.pending[from:min(from+n, len(p.pending))], p.decided)
		if enough() {
			break
		}
	}
	return err
}

// settle asks about messages; decided is called for each.
func (r *reading) settle(pending []*candidate, decided func() error) error {
	for len(pending) > 0 {
		done := 0
		err := r.q.v.acct.View(r.q.s.ctx, func(snap *store.Snapshot) (err error) {
			done, err = r.read(snap, pending)
			return err
		})
		if err != nil {
			return err
		}
		for i, c := range pending[:done] {
			if c.there {
				r.header.reset(r.heads.of(i), r.q.s.comparator)
				c.header = &r.header
			}
			if err := r.decide(c); err != nil {
				return err
			}
			c.header, c.body, c.root, c.texts = nil, nil, nil, nil
			if err := decided(); err != nil {
				return err
			}
		}
		pending = pending[done:]
	}
	return nil
}

// read reads the headers of messages, and small bodies if texts are looked for, until
// there is enough in memory, and returns how many it has dealt with.
func (r *reading) read(snap *store.Snapshot, list []*candidate) (done int, err error) {
	if len(r.q.needles) > 0 {
		list = list[:fitting(len(list), chunkBytes, func(i int) int64 { return list[i].m.Size })]
	}
	ids := make([]mail.MessageID, len(list))
	for i := range list {
		ids[i] = list[i].m.ID
	}
	r.heads = heads{all: r.heads.all[:0], ends: r.heads.ends[:0], gone: r.heads.gone[:0]}
	if err := r.heads.read(snap, ids); err != nil {
		return 0, err
	}
	ids = ids[:len(r.heads.ends)]
	if len(r.q.needles) > 0 {
		if ids, err = r.readBodies(snap, list, ids); err != nil {
			return 0, err
		}
	}
	return len(ids), snap.EachFacts(ids, func(i int, f store.Facts, ok bool) error {
		c := list[i]
		if c.there = ok; !ok { // expunged meanwhile: it fits nothing
			r.missed = true
			return nil
		}
		c.head = int64(len(r.heads.of(i)))
		return r.q.learn(c, &f)
	})
}

// learn takes from a message's facts what the search may ask for.
func (q *search) learn(c *candidate, f *store.Facts) (err error) {
	if len(q.needles) > 0 {
		if c.root, err = f.Parts(); err != nil {
			return err
		}
	}
	if q.attach {
		if _, c.attached, err = f.Preview(); err != nil {
			return err
		}
	}
	if q.files {
		c.files = mime.Filenames(f.BodyStructure)
	}
	return nil
}

// readBodies reads those bodies that lie beside their messages, until they are enough,
// and returns the ids it has dealt with.
func (r *reading) readBodies(snap *store.Snapshot, list []*candidate, ids []mail.MessageID) ([]mail.MessageID, error) {
	r.bodies = r.bodies[:0]
	ends := make([]int, 0, len(ids)) // -1: there is none beside the message
	err := snap.EachBody(ids, func(i int, body []byte, ok bool) error {
		if r.bodies = append(r.bodies, body...); ok {
			ends = append(ends, len(r.bodies))
		} else {
			ends = append(ends, -1)
		}
		if len(r.bodies) > chunkBytes {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	from := 0
	for i, end := range ends {
		if list[i].body = nil; end >= 0 {
			list[i].body = r.bodies[from:end:end]
			from = end
		}
	}
	return ids[:len(ends)], err
}

// hands are goroutines that searches of all sessions may have beside their own: as many as
// there are processors but one.
type hands struct {
	portion int // as readAtOnce
	free    atomic.Int64
}

func newHands() *hands {
	h := &hands{portion: readAtOnce}
	h.free.Store(int64(runtime.GOMAXPROCS(0)) - 1)
	return h
}

func (h *hands) take() bool {
	for {
		n := h.free.Load()
		if n <= 0 {
			return false
		}
		if h.free.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

func (h *hands) give() { h.free.Add(1) }
