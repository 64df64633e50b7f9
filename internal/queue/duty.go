package queue

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// Tenure is the right to work on a part of the queue while others may take it over.
type Tenure interface {
	// Term is higher each time that somebody else gets the right, unless the engine has lost
	// that he did; 0: nobody else can.
	Term() uint64
	// Holder names who has the right: nobody else has the same name, nor ever had.
	Holder() string
	// Begin tells whether an attempt may begin, End whether one may still be brought to its
	// end. Neither costs anything.
	Begin() bool
	End() bool
	// Above makes the term higher than another that was found. A fault is of kind Busy if the
	// right is lost.
	Above(ctx context.Context, term uint64) error
}

// duty is work on a part under a tenure. The record of the part's owner has the highest term
// of anybody who has worked on it, and who that was: whoever has a lower one is too late,
// however he came to believe otherwise, and changes nothing but that mail has arrived. After a
// failover that lost a taking of the lease two may have the same term: the record is of the
// one who began last, who takes a higher one for it.
type duty struct {
	q    *Queue
	t    Tenure
	life context.Context // of the process

	beginning sync.Mutex // held while the term is put on record
}

type dutyKey struct{}

// dutyOf returns the duty that a context belongs to, nil if none.
func dutyOf(ctx context.Context) *duty {
	d, _ := ctx.Value(dutyKey{}).(*duty)
	return d
}

// of is the duty of a part; nil if it is of another.
func (q *Queue) duty(ctx context.Context) *duty {
	if d := dutyOf(ctx); d != nil && d.q == q {
		return d
	}
	return nil
}

// Work does what Run does for a part, until ctx ends and not before; what is found out by then is recorded
// for as long as life lasts and nobody else has the part. Of a tenure whose term is 0 it is
// Run.
func (q *Queue) Work(ctx, life context.Context, part uint64, t Tenure) {
	p := q.partOf(part)
	if t.Term() == 0 {
		p.run(ctx)
		return
	}
	d := &duty{q: p, t: t, life: life}
	ctx = context.WithValue(ctx, dutyKey{}, d)
	if shared, ok := p.eng.(engine.Shared); ok {
		stop := shared.Foreign(p.shard, p.heads.forget)
		defer stop()
		p.follows.Store(true)
		defer p.follows.Store(false)
	}
	p.heads.forget()
	p.clock.looked, p.clock.walked, p.swept = 0, 0, 0 // others have looked since
	if !d.begin(ctx, false) {
		return
	}
	p.opt.Log.Info("a part of the queue is worked here", "part", part, "term", t.Term())
	p.run(ctx)
	p.opt.Log.Info("a part of the queue is not worked here any more", "part", part, "term", t.Term())
}

// begin puts the term on record. again tells that it was there before: then it rises if it is not
// any more, so that whoever has begun meanwhile is known to be older.
func (d *duty) begin(ctx context.Context, again bool) bool {
	d.beginning.Lock()
	defer d.beginning.Unlock()
	for ctx.Err() == nil {
		found, err := d.put(ctx, again)
		if err == nil && found == nil {
			return true
		}
		if err == nil { // the count of terms was lost, or the right, or this record
			err = d.t.Above(ctx, found.term)
		}
		if fault.Is(err, fault.Busy) { // whoever gave the right ends ctx once he sees it, and may give it again
			<-ctx.Done()
			return false
		}
		if err == nil && again {
			again = false
			d.q.heads.forget()
			d.q.opt.Log.Warn("the record of who works on a part of the queue was lost or damaged; it is begun anew", "part", d.q.part, "term", d.t.Term(), "found", found.term)
		}
		if err != nil && ctx.Err() == nil {
			d.q.opt.Log.Error("a part of the queue cannot be begun", "part", d.q.part, "error", err)
		}
		if err != nil {
			wait(ctx, time.Second)
		}
	}
	return false
}

// put writes who works on the part, unless what is on record needs a higher term. That is what it
// returns then.
func (d *duty) put(ctx context.Context, again bool) (found *holding, err error) {
	err = d.q.eng.Update(ctx, d.q.shard, func(w engine.Writer) error {
		found = nil
		is, err := owner(w)
		if err != nil {
			return err
		}
		me := holding{d.t.Term(), d.t.Holder()}
		switch {
		case again && d.is(is):
			return nil
		case again || is.term > me.term || is.term == me.term && is.holder != me.holder:
			is.term = max(is.term, me.term)
			found = &is
			return nil
		}
		return w.Put([]byte{famOwner}, me.encode(d.q.opt.Format()))
	})
	return found, err
}

// is tells whether a record of the owner is that of this duty.
func (d *duty) is(o holding) bool {
	return o.term == d.t.Term() && (o.holder == "" || o.holder == d.t.Holder())
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// holding is whose turn it is to work on a part.
type holding struct {
	term   uint64 // the highest that anybody has worked with
	holder string // "": an earlier version did not say
}

// Versions of the record of the owner. The second may be written while all nodes know the
// second form of stored records.
const (
	ownerVersion = 2
	formOfOwner  = 2
)

// owner reads whose turn it is: nobody's if the record is damaged, as if it were lost.
func owner(r engine.Reader) (holding, error) {
	v, ok, err := r.Get([]byte{famOwner})
	if err != nil || !ok {
		return holding{}, err
	}
	is, err := decodeOwner(v)
	if fault.Is(err, fault.Corrupt) {
		return holding{}, nil
	}
	return is, err
}

func decodeOwner(v []byte) (holding, error) {
	d, kind, err := newDecOf(v, ownerVersion)
	if err != nil {
		return holding{}, err
	}
	is := holding{term: d.U()}
	if kind > 1 {
		is.holder = d.Str()
	}
	return is, d.end()
}

func (o holding) encode(form uint64) []byte {
	e := newEnc()
	e.U(o.term)
	if form < formOfOwner {
		return e.seal()
	}
	e.Str(o.holder)
	return record.Seal(ownerVersion, e.Enc)
}

// current returns a fault of kind Busy if somebody else has the part now.
func (d *duty) current(r engine.Reader) error {
	if d == nil {
		return nil
	}
	is, err := owner(r)
	if err == nil && !d.is(is) {
		err = fault.New(fault.Busy, "another node works on this part of the queue")
	}
	return err
}

// late tells whether somebody else has the part now.
func (d *duty) late(r engine.Reader) (bool, error) {
	err := d.current(r)
	if fault.Is(err, fault.Busy) {
		return true, nil
	}
	return false, err
}

// may tells whether an attempt may begin.
func (d *duty) may() bool { return d == nil || d.t.Begin() }

// errLate is of a message that may not be sent any more.
func errLate() error {
	return fault.New(fault.Unavailable, "this node was silent for too long; another sends the message")
}

// timely is a message whose last byte nobody gets, and the next host no end of it, unless the
// part is this node's at that moment: by its clock, which a process that was frozen reads when
// it goes on, and by the record, which one that is cut off cannot read. What is left is the
// time until the host's answer is on record (RFC 1047).
type timely struct {
	io.ReadCloser
	ctx      context.Context
	d        *duty
	left     int64 // bytes to come
	withheld *atomic.Bool
}

func (r *timely) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	before := r.left
	r.left -= int64(n)
	last := before > 0 && r.left <= 0 || err == io.EOF // whoever counts bytes sees the one, others the other
	if !r.d.t.End() || last && r.d.prove(r.ctx) != nil {
		r.withheld.Store(true)
		return 0, errLate()
	}
	return n, err
}

// proofTime is how long the record of the owner is waited for.
const proofTime = 2 * time.Second

// prove returns a fault unless the record says that the part is this node's.
func (d *duty) prove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(engine.Patient(ctx, proofTime), proofTime)
	defer cancel()
	err := d.q.eng.View(ctx, d.q.shard, d.current)
	if err == nil && !d.t.End() { // it took long
		err = errLate()
	}
	return err
}

// write changes the part, unless what does it belongs to a duty that is over.
func (q *Queue) write(ctx context.Context, fn func(engine.Writer) error) error {
	d := q.duty(ctx)
	return q.eng.Update(ctx, q.shard, func(w engine.Writer) error {
		if err := d.current(w); err != nil {
			return err
		}
		return fn(w)
	})
}
