package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// member is a group as one of several.
type member struct {
	*group
	name string
	url  string // of the home group: empty
	full bool   // takes no more accounts
}

// router knows the groups, and which of them a shard is in. The home group, number 0, is the
// one that the configuration names; it keeps the list of the others, and the places.
type router struct {
	mu      sync.RWMutex
	members []*member // by number
	loading sync.Mutex

	places places
	wards  wards

	homeMark struct {
		sync.Mutex
		known string // empty: it had none so far
	}
}

// all returns the groups that this node knows.
func (r *router) all() []*member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.members
}

func (r *router) member(number int64) *member {
	if list := r.all(); number >= 0 && number < int64(len(list)) {
		return list[number]
	}
	return nil
}

// ground returns a group for movers and places.
func (e *Engine) ground(number int64) *ground {
	m := e.member(number)
	return &ground{id: number, name: m.name, pool: m.pool}
}

// openRouter opens the home group, and knows of the others.
func (e *Engine) openRouter(ctx context.Context) error {
	g, err := newGroup(&e.opt, &e.stats, 0)
	if err != nil {
		return err
	}
	g.pool.meant = e.isHome
	if err := g.start(ctx); err != nil {
		g.close()
		if errors.Is(err, errOther) {
			return fault.Wrap(fault.Invalid, "the configured database is a group of a cluster, and not its home group", err)
		}
		return err
	}
	e.members = []*member{{group: g, name: HomeGroup}}
	if err := e.loadGroups(ctx); err != nil {
		e.closeRouter()
		return err
	}
	g.work.Go(func() { e.tend(g.life) })
	return nil
}

// closeRouter is called when no call is under way.
func (e *Engine) closeRouter() {
	list := e.all()
	list[0].end() // tending, first
	list[0].work.Wait()
	for _, m := range e.all() {
		m.close()
	}
}

// newMember returns the group with a number, and has all of them share the memory.
func (e *Engine) newMember(name, url string, number int64) (*member, error) {
	opt := e.opt
	opt.URL = url
	g, err := newGroup(&opt, &e.stats, number)
	if err != nil {
		return nil, err
	}
	return &member{group: g, name: name, url: url}, nil
}

func (e *Engine) size() (n int64) {
	for _, one := range sizesOf(e.all()) {
		n += one
	}
	return n
}

// sizesOf asks all at once, and none that is known to be down: it would only be waited for.
func sizesOf(members []*member) []int64 {
	sizes := make([]int64, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		if m.pool.down.Load() == nil {
			wg.Go(func() { sizes[i] = m.size() })
		}
	}
	wg.Wait()
	return sizes
}

// at returns the member with a number; one that is not known has come since.
func (e *Engine) at(ctx context.Context, number int64) (*member, error) {
	if m := e.member(number); m != nil {
		return m, nil
	}
	if err := e.loadGroups(ctx); err != nil {
		return nil, err
	}
	if m := e.member(number); m != nil {
		return m, nil
	}
	return nil, fault.Newf(fault.Corrupt, "an account is in group %d, which there is not", number)
}

// errMoved is what a group says of a shard that lives elsewhere, or is on its way there.
var errMoved = errors.New("the shard lives elsewhere")

// errNoRow is what a group says of a shard that has no row there, to a caller who has not
// just looked up its place.
var errNoRow = fmt.Errorf("%w: it has no row in this group", errMoved)

// errFrozen is what a group says of an Update while the shard is being moved.
var errFrozen = fmt.Errorf("%w: it is frozen while it is moved", errMoved)

type placed struct{}

// isPlaced tells whether the place of the shard of a call was looked up for this very call, so
// that a group where it has no row may make one, or say that it is empty.
func isPlaced(ctx context.Context) bool { return ctx.Value(placed{}) != nil }

// mayRead returns nil if the row of a shard says that it is in this group.
func (g *group) mayRead(ctx context.Context, id engine.Shard, now head) error {
	switch {
	case now.version == 0: // there is none
		if id >= accountShards && !isPlaced(ctx) {
			return errNoRow
		}
	case now.home != g.home, now.state >= stateMoved:
		return errMoved
	}
	return nil
}

// route has call carried out in the group where the shard is. Where that is, is remembered, or
// guessed: a group where it is not says so. Without a place there is nothing of the shard: then
// route returns false, unless it is to give it one.
func (e *Engine) route(ctx context.Context, id engine.Shard, place bool, call func(ctx context.Context, g *group) error) (found bool, err error) {
	if id < accountShards {
		return true, call(ctx, e.member(0).group)
	}
	wait := e.member(0).pool.retry(ctx)
	defer wait.stop()
	m := e.guess(id)
	for {
		in, sure := ctx, m == nil
		if sure {
			number, ok, err := e.find(ctx, id, place)
			if err != nil || !ok {
				return false, err
			}
			if m, err = e.at(ctx, number); err != nil {
				return false, err
			}
			in = context.WithValue(ctx, placed{}, true)
		}
		e.wards.follow(id, m, sure)
		err := call(in, m.group)
		switch {
		case err == nil && !sure:
			e.wards.follow(id, m, true)
			return true, nil
		case err == nil, !errors.Is(err, errMoved):
			return true, err
		case ctx.Err() != nil:
			return false, ctx.Err()
		}
		e.places.forget(id)
		m = nil
		if !sure && !errors.Is(err, errFrozen) {
			continue // it was a guess
		}
		if err := wait.again(err); err != nil {
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			return false, fault.Wrap(fault.Unavailable, "the account is being moved; try again shortly", err)
		}
	}
}

// guess returns where a shard is likely to be, nil if nobody knows.
func (e *Engine) guess(id engine.Shard) *member {
	if number, ok := e.places.get(id); ok {
		return e.member(number)
	}
	if list := e.all(); len(list) == 1 {
		return list[0]
	}
	return nil
}

// find looks the place of a shard up, or gives it one.
func (e *Engine) find(ctx context.Context, id engine.Shard, place bool) (number int64, placed bool, err error) {
	number, placed, err = e.lookUp(ctx, id)
	if err != nil || placed || !place {
		return number, placed, err
	}
	number, err = e.placing(ctx, id)
	return number, err == nil, err
}

// vacant is a shard without a record.
type vacant struct{}

func (vacant) Get(key []byte) ([]byte, bool, error) { return nil, false, checkKey(key) }

func (vacant) Scan(_, _ []byte, _ bool, _ func(key, value []byte) bool) error { return nil }

func (e *Engine) view(ctx context.Context, id engine.Shard, fn func(engine.Reader) error) error {
	found, err := e.route(ctx, id, false, func(ctx context.Context, g *group) error { return g.view(ctx, id, fn) })
	if err == nil && !found {
		return fn(vacant{})
	}
	return err
}

func (e *Engine) update(ctx context.Context, id engine.Shard, fn func(engine.Writer) error) error {
	_, err := e.route(ctx, id, true, func(ctx context.Context, g *group) error { return g.update(ctx, id, fn) })
	return err
}

// wards are the shards that somebody listens to. When one is found in another group than
// before, those who listen go there, and are told: nobody knows what has changed on the way.
type wards struct {
	mu   sync.Mutex
	list map[engine.Shard]*ward
}

type ward struct {
	m    *member
	sure bool            // the place is not a guess
	ears map[*ear]func() // with what ends each in the group
	told chan struct{}   // closed when they have been told of the group; nil: it is the first
}

// ear is a watcher or a listener.
type ear struct {
	ticks chan struct{}
	mu    sync.Mutex // held while fn runs: two groups may call it
	fn    func()
}

func (x *ear) call() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fn()
}

func (x *ear) tell() {
	if x.fn != nil {
		x.call()
		return
	}
	select {
	case x.ticks <- struct{}{}:
	default:
	}
}

func (x *ear) attach(m *member, id engine.Shard) (stop func()) {
	if x.fn != nil {
		return m.listenTo(id, x.call)
	}
	return m.watch(id, x.ticks)
}

// listen adds an ear, in the group where the shard is as far as is known. where says that; it is
// asked once nobody can find the shard elsewhere without finding the ear as well.
func (w *wards) listen(id engine.Shard, where func(engine.Shard) (m *member, sure bool), x *ear) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.list == nil {
		w.list = map[engine.Shard]*ward{}
	}
	of := w.list[id]
	if of == nil {
		of = &ward{ears: map[*ear]func(){}}
		of.m, of.sure = where(id)
		w.list[id] = of
	}
	of.ears[x] = x.attach(of.m, id)
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		of.ears[x]()
		if delete(of.ears, x); len(of.ears) == 0 {
			delete(w.list, id)
		}
	})
}

// follow brings the ears of a shard to the group where it was found. When it returns they have
// been told, by whoever brought them there: nobody reads there before.
func (w *wards) follow(id engine.Shard, m *member, sure bool) {
	w.mu.Lock()
	of := w.list[id]
	if of == nil {
		w.mu.Unlock()
		return
	}
	if of.m == m {
		of.sure = of.sure || sure
		told := of.told
		w.mu.Unlock()
		if told != nil {
			<-told
		}
		return
	}
	told := make(chan struct{})
	defer close(told)
	of.m, of.sure, of.told = m, sure, told
	ears := make([]*ear, 0, len(of.ears))
	for x, stop := range of.ears {
		stop()
		of.ears[x] = x.attach(m, id)
		ears = append(ears, x)
	}
	w.mu.Unlock()
	for _, x := range ears {
		x.tell()
	}
}

// unsure returns the shards whose ears are where somebody guessed.
func (w *wards) unsure() (list []engine.Shard) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, of := range w.list {
		if !of.sure && id >= accountShards {
			list = append(list, id)
		}
	}
	return list
}

// Watch returns a channel that ticks after each durable change of the shard.
func (e *Engine) watch(id engine.Shard) (<-chan struct{}, func()) {
	x := &ear{ticks: make(chan struct{}, 1)}
	return x.ticks, e.wards.listen(id, e.supposed, x)
}

func (e *Engine) foreign(id engine.Shard, fn func()) (stop func()) {
	return e.wards.listen(id, e.supposed, &ear{fn: fn})
}

// supposed returns where to listen, without asking anybody: the home group, if nobody knows.
func (e *Engine) supposed(id engine.Shard) (m *member, sure bool) {
	if number, ok := e.places.get(id); ok && id >= accountShards {
		if m := e.member(number); m != nil {
			return m, true
		}
	}
	return e.member(0), id < accountShards
}
