package queue

import (
	"bytes"
	"cmp"
	"context"
	"math/bits"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// pick is a group that is due.
type pick struct {
	flight
	lane  string
	epoch int // of its destination's pace
	load  *loaded
}

// dispatch starts attempts for what is due, as far as the limits allow, and returns
// when more will be due.
func (q *Queue) dispatch(ctx context.Context) (next int64, err error) {
	for {
		picks, next, err := q.due(ctx)
		if err != nil || len(picks) == 0 {
			return next, err
		}
		for _, p := range picks {
			q.jobs.Go(func() {
				defer q.land(p)
				q.attempt(ctx, p)
			})
		}
	}
}

// due chooses groups, reads them and marks them as under way, all in one look. It reads
// past at most the lanes and groups that are under way, and so never more than a few
// hundred keys.
func (q *Queue) due(ctx context.Context) (picks []pick, next int64, err error) {
	now := q.now()
	q.mu.Lock()
	q.landed = map[flight]bool{}
	free := q.opt.Workers - len(q.flying)
	q.mu.Unlock()
	if free > 0 { // else an attempt that ends makes us look again
		err = q.eng.View(ctx, q.shard, func(r engine.Reader) (err error) {
			picks, next = nil, 0
			if err := q.duty(ctx).current(r); err != nil {
				return err
			}
			picks, next, err = q.choose(look{r}, now, free)
			return err
		})
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	landed := q.landed
	q.landed = nil
	if err != nil {
		return nil, 0, err
	}
	shut := q.shut
	picks = slices.DeleteFunc(picks, func(p pick) bool { return landed[p.flight] })
	for i := range picks {
		p := &picks[i]
		q.flying[p.flight] = true
		q.busy[p.lane]++
		p.epoch = q.spend(destOf(p.lane), now)
	}
	if q.shut = nil; len(shut) > 0 {
		q.jobs.Go(func() { q.shutOut(ctx, shut, now) })
	}
	return picks, next, nil
}

// heldFor is how long a destination that its schedule holds is not looked at.
const heldFor = 10 * time.Minute

// heldReason is why it waits then.
const heldReason = "its domain is held by a [[queue.schedule]]"

// shutOut lets destinations wait that their schedules hold.
func (q *Queue) shutOut(ctx context.Context, names []string, now int64) {
	err := q.update(ctx, func(t tx) error {
		for _, name := range names {
			t.b.dest(name).change(func(l *lane) {
				l.notBefore, l.reason = now+heldFor.Milliseconds(), heldReason
			})
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		q.opt.Log.Error("a destination cannot be held", "error", err)
	}
}

// choose takes groups of the destinations that are due, in the order of their turns: some
// of each, so that all the free workers have something to do.
func (q *Queue) choose(l look, now int64, free int) (picks []pick, next int64, err error) {
	names, next, err := q.dueDests(l, now, free)
	if err != nil {
		return nil, 0, err
	}
	share := 1
	if len(names) > 0 {
		share = max(1, free/len(names))
	}
	for _, name := range names {
		if len(picks) >= free {
			return picks, next, nil
		}
		found, err := q.dueIn(l, name, now, min(share, free-len(picks)), len(picks))
		if err != nil {
			return nil, 0, err
		}
		picks = append(picks, found...)
	}
	for i := range picks {
		picks[i].load = q.load(l, picks[i].flight, now)
	}
	return picks, next, nil
}

// dueDests returns the destinations that are due and below their limit, oldest first, as
// many as there are workers free, and the time at which the next one is due.
func (q *Queue) dueDests(l look, now int64, free int) (names []string, next int64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// A destination may be due for nothing but what is under way or arriving already.
	enough := free + len(q.busy) + len(q.arriving)
	q.shut = nil
	low, _ := q.heads.from([]byte{famDue})
	end := engine.Key(famDue, uint64(now+2*maxSleep.Milliseconds())) // no need to look further
	err = l.Scan(low, end, false, func(k, _ []byte) bool {
		at, name := int64(engine.Num(k, 0)), string(k[9:])
		if at > now {
			next = earlier(next, at)
			return false
		}
		if q.rules(name).Hold {
			q.shut = append(q.shut, name)
			return len(q.shut) < walkUpdate
		}
		if q.room(name, now) > 0 {
			names = append(names, name)
		} else if p := q.paces[name]; p != nil && p.next > now {
			next = earlier(next, p.next)
		}
		return len(names) < enough
	})
	return names, next, err
}

// earlier is the earlier of two times; 0 is none.
func earlier(a, b int64) int64 {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// dueIn returns groups of a destination that are due, up to its limit. One whose hosts
// were down gets one attempt at a time, to see; and so does every destination once half of
// the workers are busy, so that a few slow ones cannot take them all, or seven eighths if it
// has taken mail lately. chosen is how many groups of others are about to start.
func (q *Queue) dueIn(l look, dest string, now int64, share, chosen int) (picks []pick, err error) {
	rec, ok, err := l.lane(dest)
	if err != nil || !ok {
		return nil, err
	}
	q.mu.Lock()
	room := min(q.room(dest, now), share)
	active, most := 0, q.opt.Workers/2
	if p := q.paces[dest]; p != nil {
		active = p.active
		if p.well >= firstWindow {
			most = q.opt.Workers - (q.opt.Workers+7)/8
		}
	}
	if rec.fails > 0 {
		room = min(room, 1-active)
	} else if more := most - len(q.flying) - chosen; more < room {
		room = min(room, max(more, 1-active))
	}
	q.mu.Unlock()
	least := uint32(0)
	for rest := rec.classes; rest != 0 && len(picks) < room; rest &= rest - 1 { // the most urgent first
		class := rest & -rest
		lanes, _, err := q.dueLanes(l, dest, class, now, room)
		if err != nil {
			return nil, err
		}
		found, err := q.inTurn(l, lanes, now, room-len(picks))
		if err != nil {
			return nil, err
		}
		if picks = append(picks, found...); len(found) > 0 {
			least = class
		}
	}
	if below := rec.classes &^ (2*least - 1); room > 0 && len(picks) == room && below != 0 {
		return q.spare(l, dest, below, now, picks)
	}
	return picks, nil
}

// spareEvery is how many attempts of a destination one comes among that mail has which is less
// urgent than all the others: where there is always more that is urgent than goes out, the
// rest has that share.
const spareEvery = 8

// spare gives the places that are due to the less urgent to the classes below, first to the
// one whose turn has been for longest.
func (q *Queue) spare(l look, dest string, below uint32, now int64, picks []pick) ([]pick, error) {
	q.mu.Lock()
	begun := 0
	if p := q.paces[dest]; p != nil {
		begun = p.begun
	}
	q.mu.Unlock()
	n := (begun+len(picks))/spareEvery - begun/spareEvery
	if n == 0 {
		return picks, nil
	}
	type wait struct {
		lanes []string
		since int64
	}
	var waits []wait
	for rest := below; rest != 0; rest &= rest - 1 {
		lanes, since, err := q.dueLanes(l, dest, rest&-rest, now, n)
		if err != nil {
			return nil, err
		}
		waits = append(waits, wait{lanes, since})
	}
	slices.SortStableFunc(waits, func(a, b wait) int { return cmp.Compare(a.since, b.since) })
	var others []pick
	for _, w := range waits {
		found, err := q.inTurn(l, w.lanes, now, n-len(others))
		if err != nil {
			return nil, err
		}
		others = append(others, found...)
	}
	return append(picks[:len(picks)-len(others)], others...), nil
}

// dueLanes returns lanes of one priority of a destination that are due, in the order of
// their turns, and since when the first one is. Some of them may have nothing that is not
// under way.
func (q *Queue) dueLanes(l look, dest string, class uint32, now int64, room int) (lanes []string, since int64, err error) {
	if class == plain {
		return []string{dest}, 0, nil
	}
	q.mu.Lock()
	enough := room + len(q.arriving)
	if p := q.paces[dest]; p != nil {
		enough += p.active
	}
	q.mu.Unlock()
	prefix := turnsPrefix(dest)
	n := len(prefix)
	prefix = append(prefix, 'a'+byte(bits.TrailingZeros32(class)))
	low, _ := q.heads.from(prefix)
	err = l.Scan(low, engine.After(prefix), false, func(k, _ []byte) bool {
		lane, at := splitTurn(dest, k[n:])
		if at > now {
			return false
		}
		if len(lanes) == 0 {
			since = at
		}
		lanes = append(lanes, lane)
		return len(lanes) < enough
	})
	return lanes, since, err
}

// inTurn takes groups out of lanes, each time from the one that has least under way; of
// equals from the one whose turn it is.
func (q *Queue) inTurn(l look, lanes []string, now int64, room int) (picks []pick, err error) {
	type stream struct {
		groups []pick
		taken  int
	}
	streams := make([]stream, 0, len(lanes))
	each := room // a lane alone may take all
	if len(lanes) > 1 {
		each = max(1, (room+len(lanes)-1)/len(lanes)) + 1
	}
	for _, name := range lanes {
		groups, err := q.dueGroups(l, name, now, min(each, room))
		if err != nil {
			return nil, err
		}
		q.mu.Lock()
		streams = append(streams, stream{groups, q.busy[name]})
		q.mu.Unlock()
	}
	for len(picks) < room {
		best := -1
		for i, s := range streams {
			if len(s.groups) > 0 && (best < 0 || s.taken < streams[best].taken) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		s := &streams[best]
		picks = append(picks, s.groups[0])
		s.groups, s.taken = s.groups[1:], s.taken+1
	}
	return picks, nil
}

// dueGroups returns groups of a lane that are due and not under way.
func (q *Queue) dueGroups(l look, lane string, now int64, most int) (picks []pick, err error) {
	prefix := lanePrefix(lane)
	low, _ := q.heads.from(prefix)
	if bytes.Compare(low, engine.After(prefix)) >= 0 || most <= 0 {
		return nil, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	err = l.Scan(low, engine.After(prefix), false, func(k, _ []byte) bool {
		_, at, id, n := splitWaiting(k)
		if at > now {
			return false
		}
		if f := (flight{id, n}); !q.flying[f] && !q.arriving[id] {
			picks = append(picks, pick{flight: f, lane: lane})
		}
		return len(picks) < most
	})
	return picks, err
}

// land marks the end of an attempt.
func (q *Queue) land(p pick) {
	now := q.now()
	q.mu.Lock()
	delete(q.flying, p.flight)
	if q.landed != nil {
		q.landed[p.flight] = true
	}
	if q.busy[p.lane]--; q.busy[p.lane] == 0 {
		delete(q.busy, p.lane)
	}
	q.pace(destOf(p.lane), now).active--
	q.mu.Unlock()
	q.tick()
}
