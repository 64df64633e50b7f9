package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

var (
	stMoves   = &statement{"g_moves", "SELECT shard, source, target, step, beat FROM moves ORDER BY shard"}
	stAddMove = &statement{"g_add_move", "INSERT INTO moves (shard, source, target, step, beat) VALUES ($1::bigint, $2::bigint, $3::bigint, $4::bigint, 0)"}
	stBeat    = &statement{"g_beat", "UPDATE moves SET beat = beat + 1 WHERE shard = $1::bigint"}
)

const (
	usualBeat = time.Second     // between two signs of life of a mover
	usualTend = 5 * time.Second // between two looks at groups and moves
	deadBeats = 2               // looks without a sign of life after which another goes on with a move
)

// Move moves a shard to the group with a name, while it is in use, and returns when that is
// done. Changes of the shard wait for the short time in which it is frozen; nothing else is
// held up. After an error a node goes on with it by itself, until it is done or aborted.
// tell, if it is not nil, hears how far it is. Faults: Busy if it is being moved elsewhere, or
// changes too fast; NotFound.
func (e *Engine) Move(ctx context.Context, id engine.Shard, target string, tell func(MoveProgress)) error {
	if err := e.gate.enter(); err != nil {
		return err
	}
	defer e.gate.leave()
	_, placed, err := e.lookUp(ctx, id)
	if err != nil {
		return err
	}
	m, err := e.mover(ctx, id, target)
	if err != nil {
		return err
	}
	if m == nil {
		there := MoveProgress{Shard: id, Target: target, Step: "done"}
		if placed { // else it was nowhere
			there.Source = target
		}
		if tell != nil {
			tell(there)
		}
		return nil
	}
	m.tell = tell
	if err := e.moving(ctx, m); !errors.Is(err, errTaken) {
		return err
	}
	return e.await(ctx, id, target)
}

// await waits for the end of a move that another node goes on with.
func (e *Engine) await(ctx context.Context, id engine.Shard, target string) error {
	for {
		_, there, err := e.beatOf(ctx, id)
		if err != nil {
			return err
		}
		if !there {
			break
		}
		if err := pause(ctx, e.opt.beat); err != nil {
			return err
		}
	}
	place, placed, err := e.lookUp(ctx, id)
	if err != nil {
		return err
	}
	if m := e.member(place); !placed || m == nil || m.name != target {
		return fault.New(fault.Busy, "the move was undone by another node")
	}
	return nil
}

// PlanMove tells what Move would do, and does nothing.
func (e *Engine) PlanMove(ctx context.Context, id engine.Shard, target string) (MoveProgress, error) {
	if err := e.gate.enter(); err != nil {
		return MoveProgress{}, err
	}
	defer e.gate.leave()
	to, err := e.named(ctx, target)
	if err != nil {
		return MoveProgress{}, err
	}
	if id < accountShards {
		return MoveProgress{}, errNoAccount
	}
	at := MoveProgress{Shard: id, Target: to.name, Step: "plan"}
	place, placed, err := e.lookUp(ctx, id)
	if err != nil || !placed {
		return at, err
	}
	from, err := e.at(ctx, place)
	if err != nil {
		return at, err
	}
	at.Source = from.name
	at.KeysTotal, at.BytesTotal, err = e.ground(place).weigh(ctx, id)
	return at, err
}

// AbortMove undoes the move of a shard. One that has already changed the shard's place cannot
// be aborted, and is brought to its end.
func (e *Engine) AbortMove(ctx context.Context, id engine.Shard) error {
	if err := e.gate.enter(); err != nil {
		return err
	}
	defer e.gate.leave()
	m := e.newMover(id)
	if err := m.claim(ctx, true); err != nil {
		return err
	}
	aborted := m.step == stepAborting
	if err := e.moving(ctx, m); err != nil {
		return err
	}
	if !aborted {
		return fault.New(fault.Exists, "the account had been moved already; it stays there")
	}
	return nil
}

// Moves tells which moves are under way or wait for a node to go on with them.
func (e *Engine) Moves(ctx context.Context) (list []MoveProgress, err error) {
	if err := e.gate.enter(); err != nil {
		return nil, err
	}
	defer e.gate.leave()
	read, err := e.ground(0).read(ctx, call{stMoves, nil})
	if err != nil {
		return nil, err
	}
	for _, r := range read {
		from, err := e.at(ctx, number(r[1]))
		if err != nil {
			return nil, err
		}
		to, err := e.at(ctx, number(r[2]))
		if err != nil {
			return nil, err
		}
		step := map[int64]string{stepMoving: "copy", stepFlipped: "clean", stepAborting: "undo"}[number(r[3])]
		list = append(list, MoveProgress{Shard: engine.Shard(number(r[0])), Source: from.name, Target: to.name, Step: step})
	}
	return list, nil
}

var errNoAccount = fault.New(fault.Invalid, "only accounts can be moved")

// hintMove has nodes look at a shard whose row a mover has changed.
func (e *Engine) hintMove(id engine.Shard, number int64) {
	g, h := e.member(number), &e.member(number).hints
	h.tell(id)
	if !g.matters(id) {
		return
	}
	h.mu.Lock() // this node too: it was not a commit of its own
	h.heard[id] = struct{}{}
	h.mu.Unlock()
	wake(h.lookMe)
}

func (e *Engine) newMover(id engine.Shard) *mover {
	return &mover{shard: id, home: e.ground(0), now: time.Now, token: e.member(0).token, hint: e.hintMove, each: e.opt.eachStep, unfenced: e.opt.without.freeze, at: MoveProgress{Shard: id}}
}

// mover begins a move, or takes one over that nobody is at. It returns nil if there is nothing
// to do.
func (e *Engine) mover(ctx context.Context, id engine.Shard, target string) (*mover, error) {
	to, err := e.named(ctx, target)
	if err != nil {
		return nil, err
	}
	if id < accountShards {
		return nil, errNoAccount
	}
	m := e.newMover(id)
	beat, there, err := e.beatOf(ctx, id)
	if err != nil {
		return nil, err
	}
	if there {
		if err := e.quiet(ctx, id, beat); err != nil {
			return nil, err
		}
	}
	done, added := false, false
	err = m.home.tx(ctx, []call{{stPlaceRow, []any{int64(id)}}, {stMoveRow, []any{int64(id)}}}, func(read rows) ([]call, error) {
		place, move := read.of(0), read.of(1)
		done, added = false, false
		switch {
		case len(place) == 0: // there is nothing yet; what will be goes there at once
			added = true
			return []call{{stAddPlace, []any{int64(id), to.home}}}, nil
		case len(move) > 0 && number(move[0][1]) != to.home:
			return nil, fault.New(fault.Busy, "the account is being moved to another group")
		case len(move) == 0 && number(place[0][1]) == to.home:
			done = true
			return nil, nil
		}
		term := number(place[0][0]) + 1
		m.term.Store(term)
		m.step = stepMoving
		calls := []call{{stRaiseTerm, []any{int64(id), term}}}
		if len(move) > 0 {
			m.step = number(move[0][2])
			return calls, nil
		}
		return append(calls, call{stAddMove, []any{int64(id), number(place[0][1]), to.home, int64(stepMoving)}}), nil
	})
	switch {
	case err != nil || done:
		return nil, err
	case added: // or another node has just placed it elsewhere: the next look tells
		return e.mover(ctx, id, target)
	}
	return m, nil
}

// quiet returns nil if no node is at a move.
func (e *Engine) quiet(ctx context.Context, id engine.Shard, beat int64) error {
	for range deadBeats + 1 {
		if err := pause(ctx, e.opt.beat); err != nil {
			return err
		}
		now, there, err := e.beatOf(ctx, id)
		if err != nil {
			return err
		}
		if there && now != beat {
			return fault.New(fault.Busy, "another node is moving the account now")
		}
	}
	return nil
}

func (e *Engine) beatOf(ctx context.Context, id engine.Shard) (beat int64, there bool, err error) {
	read, err := e.ground(0).read(ctx, call{stMoveRow, []any{int64(id)}})
	if err != nil || len(read) == 0 {
		return 0, false, err
	}
	return number(read[0][3]), true, nil
}

// moving carries out a move in the mover's term, and shows that it is at it.
func (e *Engine) moving(ctx context.Context, m *mover) error {
	if err := e.findSides(ctx, m); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		e.beats(ctx, m, cancel)
	}()
	err := m.run(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	cancel(nil)
	<-beating
	if errors.Is(err, errNoMove) {
		err = errTaken // by one who has finished it
	}
	if err == nil {
		e.places.forget(m.shard)
	}
	return err
}

// findSides finds the groups of a move.
func (e *Engine) findSides(ctx context.Context, m *mover) error {
	read, err := e.ground(0).read(ctx, call{stMoveRow, []any{int64(m.shard)}})
	if err != nil {
		return err
	}
	if len(read) == 0 {
		return errTaken
	}
	from, err := e.at(ctx, number(read[0][0]))
	if err != nil {
		return err
	}
	to, err := e.at(ctx, number(read[0][1]))
	if err != nil {
		return err
	}
	m.from, m.to = e.ground(from.home), e.ground(to.home)
	m.at.Source, m.at.Target = from.name, to.name
	return nil
}

// beats shows that the mover lives, and ends it when its term is over.
func (e *Engine) beats(ctx context.Context, m *mover, end func(error)) {
	for pause(ctx, e.opt.beat) == nil {
		err := m.home.tx(ctx, []call{{stPlaceRow, []any{int64(m.shard)}}}, func(read rows) ([]call, error) {
			if _, err := m.fence(read.of(0), true); err != nil {
				return nil, err
			}
			return []call{{stBeat, []any{int64(m.shard)}}}, nil
		})
		if errors.Is(err, errTaken) || errors.Is(err, errNoMove) {
			end(errTaken)
			return
		}
	}
}

// tend keeps the list of groups up to date, and goes on with moves whose node is gone.
func (e *Engine) tend(ctx context.Context) {
	type sighting struct {
		beat int64
		n    int
	}
	seen := map[engine.Shard]sighting{}
	one := make(chan struct{}, 1) // move at a time
	defer func() { one <- struct{}{} }()
	for pause(ctx, e.opt.tend) == nil {
		if e.loadGroups(ctx) != nil || len(e.all()) == 1 {
			continue
		}
		if e.lookAtUnsure(ctx); e.opt.Brief {
			continue
		}
		read, err := e.ground(0).read(ctx, call{stMoves, nil})
		if err != nil {
			continue
		}
		now := map[engine.Shard]sighting{}
		for _, r := range read {
			id, s := engine.Shard(number(r[0])), sighting{beat: number(r[4])}
			if old, ok := seen[id]; ok && old.beat == s.beat {
				s.n = old.n + 1
			}
			now[id] = s
			if s.n < deadBeats {
				continue
			}
			select {
			case one <- struct{}{}:
				go func() {
					defer func() { <-one }()
					e.goOn(ctx, id)
				}()
			default:
			}
		}
		seen = now
	}
}

// goOn takes over a move.
func (e *Engine) goOn(ctx context.Context, id engine.Shard) {
	m := e.newMover(id)
	err := m.claim(ctx, false)
	if err == nil {
		err = e.moving(ctx, m)
	}
	if err != nil && ctx.Err() == nil {
		e.opt.Log.Warn("the move of an account is not done yet", "shard", uint64(id), "to", m.at.Target, "err", err)
	}
}

// lookAtUnsure brings those who listen to a shard to where it is.
func (e *Engine) lookAtUnsure(ctx context.Context) {
	list := e.wards.unsure()
	if len(list) == 0 {
		return
	}
	ids := make([]int64, len(list))
	for i, id := range list {
		ids[i] = int64(id)
	}
	read, err := e.ground(0).read(ctx, call{stPlacesOf, []any{ids}})
	if err != nil {
		return
	}
	for _, r := range read {
		if m, err := e.at(ctx, number(r[1])); err == nil {
			e.wards.follow(engine.Shard(number(r[0])), m, true)
		}
	}
}

// pause waits, or returns why not.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
