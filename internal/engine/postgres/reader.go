package postgres

import (
	"bytes"
	"context"
	"errors"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/turn"
)

// query asks for one record, or for some of those in [from, to).
type query struct {
	key      []byte
	from, to []byte
	back     bool
	most     int
}

// answer is what the database said, all at one moment.
type answer struct {
	head
	records []record // in the order of the query
	there   bool     // the one record
	value   []byte
	more    *answer  // to what was asked beside it, nil: nothing
	asked   [][]byte // keys, if this is more
}

// reader reads a shard for one call of a function: what is not known is asked for. An error
// stays, so that what was read beside it comes to nothing.
type reader struct {
	g      *group
	ctx    context.Context
	t      *tree                         // what is known
	ask    func(q query) (answer, error) // of what is not, and notes it
	learnt int64                         // bytes
	err    error
}

// errAgain ends a function that has begun with what is not true any more.
var errAgain = errors.New("the shard has changed meanwhile")

// keepShare of the memory for records is what one call may add to it.
const keepShare = 8

func (r *reader) Get(key []byte) ([]byte, bool, error) {
	if err := checkKey(key); err != nil {
		return nil, false, err
	}
	if r.err != nil {
		return nil, false, r.err
	}
	value, w := r.t.get(key)
	if w != unknown {
		r.g.stats.Hits.Add(1)
		return value, w == present, nil
	}
	a, err := r.miss(query{key: bytes.Clone(key)})
	if err != nil {
		return nil, false, err
	}
	return a.value, a.there, nil
}

// miss asks the database and notes the answer.
func (r *reader) miss(q query) (answer, error) {
	r.g.stats.Misses.Add(1)
	a, err := r.ask(q)
	if err != nil {
		r.err = err
		return a, err
	}
	for _, rec := range a.records {
		r.learnt += int64(len(rec.key)+len(rec.value)) + itemBytes
	}
	r.learnt += int64(len(a.value))
	if r.keeps() {
		a.note(q)(r.t)
	}
	return a, nil
}

// reach returns the stretch that an answer tells all of.
func (a *answer) reach(q query) (from, to []byte) {
	if q.key != nil {
		return q.key, after(q.key)
	}
	from, to = q.from, q.to
	if len(a.records) == q.most && q.back {
		from = a.records[len(a.records)-1].key
	} else if len(a.records) == q.most {
		to = after(a.records[len(a.records)-1].key)
	}
	return from, to
}

// note returns what an answer adds to a tree.
func (a *answer) note(q query) func(*tree) {
	if q.key != nil {
		return func(t *tree) {
			t.learnKey(q.key, a.value, a.there)
			a.noteMore(t)
		}
	}
	from, to := a.reach(q)
	list := a.records
	if q.back {
		list = reversed(list)
	}
	return func(t *tree) {
		t.learn(from, to, list)
		a.noteMore(t)
	}
}

func reversed(list []record) []record {
	out := make([]record, len(list))
	for i, r := range list {
		out[len(list)-1-i] = r
	}
	return out
}

// keeps tells whether what the call has read so far may be remembered.
func (r *reader) keeps() bool { return r.learnt < r.g.most.Load()/keepShare }

// Records that are read at a time, and about how many bytes.
const (
	firstChunk = 32
	lastChunk  = 2048
	chunkBytes = 1 << 20
	stride     = 64 // that are known
)

func (r *reader) Scan(from, to []byte, reverse bool, fn func(key, value []byte) bool) error {
	if r.err != nil {
		return r.err
	}
	if to != nil && bytes.Compare(from, to) >= 0 {
		return nil
	}
	sc := scan{reader: r, t: r.t, q: query{from: orEmpty(bytes.Clone(from)), to: bytes.Clone(to), back: reverse, most: firstChunk}}
	return sc.run(fn)
}

// scan is one Scan. It goes over what there was when it began: what fn changes meanwhile does
// not show.
type scan struct {
	*reader
	t      *tree
	own    bool  // t is not the reader's
	floor  *tree // nil as long as all is kept
	q      query
	list   []record
	seen   int64 // bytes
	number int64
}

func (s *scan) run(fn func(key, value []byte) bool) error {
	for {
		known, done := s.step()
		if !done && !s.own {
			s.t, s.own = s.reader.t.copy(), true
		}
		for _, rec := range s.list {
			s.number++
			s.seen += int64(len(rec.key) + len(rec.value))
			if !fn(rec.key, rec.value) {
				return nil
			}
		}
		if done {
			return nil
		}
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if !known {
			if err := s.fill(); err != nil {
				return err
			}
		}
	}
}

// step takes what is known at the place where the scan is, and moves on.
func (s *scan) step() (known, done bool) {
	if s.q.back {
		var next []byte
		s.list, next, known, done = s.t.walkBack(s.list[:0], s.q.from, s.q.to, stride)
		s.q.to = next
		return known, done
	}
	var next []byte
	s.list, next, known = s.t.walkForward(s.list[:0], s.q.from, s.q.to, stride)
	if next == nil {
		return known, true
	}
	s.q.from = next
	return known, false
}

// fill reads on where the scan is.
func (s *scan) fill() error {
	if s.reader.err != nil {
		return s.reader.err
	}
	if s.number > 0 {
		s.q.most = int(min(int64(s.q.most)*4, lastChunk, 1+chunkBytes/(1+s.seen/s.number)))
	}
	q := s.q
	a, err := s.miss(q)
	if err != nil {
		return err
	}
	if !s.keeps() {
		// What comes from now on is let go of when it has been passed.
		if s.floor == nil {
			s.floor = s.t
		}
		s.t = s.floor.copy()
	}
	a.note(q)(s.t)
	return nil
}

func checkKey(key []byte) error {
	if len(key) == 0 || len(key) > engine.MaxKey {
		return errKey
	}
	return nil
}

var (
	errKey    = fault.Newf(fault.TooLarge, "a key is empty or over %d bytes", engine.MaxKey)
	errUpdate = fault.Newf(fault.TooLarge, "a change is over %d bytes", engine.MaxUpdate)
)

// restOf gives the turn of a call's party back while it waits for the database; what it
// returns takes it again at once.
func restOf(ctx context.Context) func() {
	work := turn.Of(ctx)
	work.Rest()
	return work.Return
}
