package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/martlet-mail/martlet/internal/fault"
)

// What a move does to the rows that say where and how a shard is. Each function is one
// transaction, and may have been carried out before by a mover that was killed.

var (
	stBareTerm = &statement{"g_bare_term", "INSERT INTO terms (shard, term) VALUES ($1::bigint, 0) ON CONFLICT (shard) DO NOTHING"}
	stTerm     = &statement{"g_term", "SELECT term FROM terms WHERE shard = $1::bigint FOR UPDATE"}
	stSetTerm  = &statement{"g_set_term", "INSERT INTO terms (shard, term) VALUES ($1::bigint, $2::bigint) ON CONFLICT (shard) DO UPDATE SET term = excluded.term"}
	stRow      = &statement{"g_row", "SELECT epoch, home, state, version, recent FROM shards WHERE shard = $1::bigint FOR UPDATE"}
	stPlaceRow = &statement{"g_place_row", "SELECT term, place FROM places WHERE shard = $1::bigint FOR UPDATE"}
	stMoveRow  = &statement{"g_move_row", "SELECT source, target, step, beat FROM moves WHERE shard = $1::bigint"}
	stSetRow   = &statement{"g_set_row", `INSERT INTO shards (shard, epoch, home, state, version, token, recent) VALUES ($1::bigint, $2::bigint, $3::bigint, $4::bigint, $5::bigint, $6::bigint, $7::bytea)
		ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch, home = excluded.home, state = excluded.state, version = excluded.version, token = excluded.token, recent = excluded.recent`}
	stNewRow      = &statement{"g_new_row", "INSERT INTO shards (shard, epoch, home, state, version, token, recent) VALUES ($1::bigint, $2::bigint, $3::bigint, $4::bigint, $5::bigint, $6::bigint, $7::bytea)"}
	stSetPlace    = &statement{"g_set_place", "UPDATE places SET place = $2::bigint WHERE shard = $1::bigint"}
	stSetStep     = &statement{"g_set_step", "UPDATE moves SET step = $2::bigint WHERE shard = $1::bigint"}
	stRaiseTerm   = &statement{"g_raise_term", "UPDATE places SET term = $2::bigint WHERE shard = $1::bigint"}
	stForgetMove  = &statement{"g_forget_move", "DELETE FROM moves WHERE shard = $1::bigint"}
	stNoJournal   = &statement{"g_no_journal", "DELETE FROM journal WHERE shard = $1::bigint"}
	stFollowed    = &statement{"g_followed", "DELETE FROM journal WHERE shard = $1::bigint AND (version < $2::bigint OR version = $2::bigint AND n <= $3::bigint)"}
	stFirstKeys   = &statement{"g_first_keys", "SELECT key, length(key) + length(value) FROM kv WHERE shard = $1::bigint AND key >= $2::bytea ORDER BY key LIMIT 2000"}
	stLessKeys    = &statement{"g_less_keys", "DELETE FROM kv WHERE shard = $1::bigint AND key <= $2::bytea"}
	stFirstTold   = &statement{"g_first_told", "SELECT version FROM journal WHERE shard = $1::bigint ORDER BY version LIMIT 2000"}
	stLessJournal = &statement{"g_less_journal", "DELETE FROM journal WHERE shard = $1::bigint AND version <= $2::bigint"}
)

// shardRow is a shard's row in a group.
type shardRow struct {
	there                       bool
	epoch, home, state, version int64
	recent                      []byte
}

// set writes a row as the next version of what it was: whoever knew that one fails. Where there
// was none, nothing was locked: if a node has made one since, the transaction is begun again.
func (m *mover) set(r shardRow) []call {
	token := m.token()
	r.version++
	st := stSetRow
	if !r.there {
		st = stNewRow
	}
	return []call{{st, []any{int64(m.shard), r.epoch, r.home, r.state, r.version, token, trail(token, touched{}, r.recent)}}}
}

var errState = fault.New(fault.Corrupt, "the groups do not agree on where the account is: was one of them restored alone?")

// atRow is a transaction in a group, on the shard's row, under the mover's term.
func (m *mover) atRow(ctx context.Context, name string, g *ground, fn func(r shardRow) ([]call, error)) error {
	return m.named(ctx, name, func() error {
		home := g.pool == m.home.pool
		// A row that is not there cannot be locked: the term's is made first.
		first := []call{{stBareTerm, []any{int64(m.shard)}}, {stTerm, []any{int64(m.shard)}}, {stRow, []any{int64(m.shard)}}}
		if home { // there is the term that counts, with the place
			first = []call{{stPlaceRow, []any{int64(m.shard)}}, {stRow, []any{int64(m.shard)}}}
		}
		row := len(first) - 1
		return g.tx(ctx, first, func(read rows) ([]call, error) {
			before, err := m.fence(read.of(row-1), home)
			if err != nil {
				return nil, err
			}
			var r shardRow
			for _, v := range read.of(row) {
				r = shardRow{true, number(v[0]), number(v[1]), number(v[2]), number(v[3]), v[4]}
			}
			calls, err := fn(r)
			return append(before, calls...), err
		})
	})
}

// atHome is a transaction on the shard's place and move.
func (m *mover) atHome(ctx context.Context, name string, fn func(step int64) ([]call, error)) error {
	return m.named(ctx, name, func() error {
		return m.home.tx(ctx, []call{{stPlaceRow, []any{int64(m.shard)}}, {stMoveRow, []any{int64(m.shard)}}}, func(read rows) ([]call, error) {
			if _, err := m.fence(read.of(0), true); err != nil {
				return nil, err
			}
			var step int64
			for _, v := range read.of(1) {
				step = number(v[2])
			}
			return fn(step)
		})
	})
}

// fence holds the term that a transaction has locked against the mover's. A mover whose term
// is over gets no further.
func (m *mover) fence(read [][][]byte, home bool) ([]call, error) {
	own, term, found := m.term.Load(), int64(-1), len(read) > 0
	if found {
		term = number(read[0][0])
	}
	switch {
	case home && !found:
		return nil, errNoMove
	case term > own || home && term != own:
		return nil, errTaken
	case term < own:
		return []call{{stSetTerm, []any{int64(m.shard), own}}}, nil
	}
	return nil, nil
}

// named names a transaction, in errors and to tests.
func (m *mover) named(ctx context.Context, name string, tx func() error) error {
	if m.each != nil {
		if err := m.each("before " + name); err != nil {
			return err
		}
	}
	err := tx()
	if err == nil && m.each != nil {
		return m.each("after " + name)
	}
	var known *fault.Error
	if err != nil && !errors.As(err, &known) && ctx.Err() == nil && !errors.Is(err, errHalt) {
		err = fault.Wrap(fault.Unavailable, fmt.Sprintf("moving the account failed at: %s", name), err)
	}
	return err
}

// prepare makes the target's row, and has the source keep a journal.
func (m *mover) prepare(ctx context.Context) error {
	err := m.atRow(ctx, "incoming", m.to, func(r shardRow) ([]call, error) {
		switch {
		case r.there && r.state == stateIncoming:
			return nil, nil
		case r.there && r.state != stateMoved:
			return nil, errState
		}
		r.state, r.home = stateIncoming, m.to.id
		return m.set(r), nil
	})
	if err != nil {
		return err
	}
	err = m.atRow(ctx, "journal", m.from, func(r shardRow) ([]call, error) {
		var first []call
		switch {
		case r.there && r.state == stateJournal:
			return nil, nil
		case r.there && (r.state >= stateMoved || r.home != m.from.id):
			return nil, errState
		case r.there && r.state == stateFrozen: // by a mover that was killed; its journal goes on
			r.epoch++
		default:
			first = []call{{stNoJournal, []any{int64(m.shard)}}}
		}
		if !r.there {
			r.epoch, r.home = 1, m.from.id
		}
		r.state = stateJournal
		return append(first, m.set(r)...), nil
	})
	if err == nil {
		m.hint(m.shard, m.from.id)
	}
	return err
}

// freeze ends all changes of the source.
func (m *mover) freeze(ctx context.Context) error {
	if m.unfenced {
		return nil
	}
	return m.change(ctx, "freeze", stateJournal, stateFrozen)
}

// thaw lets the source be changed again.
func (m *mover) thaw(ctx context.Context) error {
	return m.change(ctx, "thaw", stateFrozen, stateJournal)
}

// change brings the source from one state to another, with a new epoch.
func (m *mover) change(ctx context.Context, name string, old, state int64) error {
	return m.atRow(ctx, name, m.from, func(r shardRow) ([]call, error) {
		switch {
		case r.there && r.state == state:
			return nil, nil
		case !r.there || r.state != old:
			return nil, errState
		}
		r.epoch++
		r.state = state
		return m.set(r), nil
	})
}

// flip changes the place: the commit of the move.
func (m *mover) flip(ctx context.Context) error {
	return m.atHome(ctx, "flip", func(step int64) ([]call, error) {
		switch step {
		case stepFlipped:
			return nil, nil
		case stepMoving:
			return []call{{stSetPlace, []any{int64(m.shard), m.to.id}}, {stSetStep, []any{int64(m.shard), int64(stepFlipped)}}}, nil
		}
		return nil, errTaken
	})
}

// markMoved marks the source as moved and returns its row.
func (m *mover) markMoved(ctx context.Context) (row shardRow, err error) {
	err = m.atRow(ctx, "moved", m.from, func(r shardRow) ([]call, error) {
		row = r
		if r.state == stateMoved || m.unfenced {
			return nil, nil
		}
		if r.state != stateFrozen {
			return nil, errState
		}
		row.state, row.home = stateMoved, m.to.id
		return m.set(row), nil
	})
	return row, err
}

// goLive has the target take the source's part, one epoch later.
func (m *mover) goLive(ctx context.Context, source shardRow) error {
	return m.atRow(ctx, "live", m.to, func(r shardRow) ([]call, error) {
		if r.there && r.state < stateMoved {
			return nil, nil // it was live already
		}
		if r.state != stateIncoming {
			return nil, errState
		}
		return m.set(shardRow{there: true, epoch: max(r.epoch, source.epoch) + 1, home: m.to.id, state: stateLive, version: source.version, recent: source.recent}), nil
	})
}

// revive makes the source live again.
func (m *mover) revive(ctx context.Context) error {
	return m.atRow(ctx, "revive", m.from, func(r shardRow) ([]call, error) {
		switch {
		case !r.there || r.state == stateLive:
			return nil, nil
		case r.state >= stateMoved:
			return nil, errState
		}
		r.epoch++
		r.state = stateLive
		return m.set(r), nil
	})
}

// markUnused leaves the target's row as that of a shard which lives elsewhere.
func (m *mover) markUnused(ctx context.Context) error {
	return m.atRow(ctx, "unused", m.to, func(r shardRow) ([]call, error) {
		if !r.there || r.state != stateIncoming {
			return nil, nil
		}
		r.state, r.home = stateMoved, m.from.id
		return m.set(r), nil
	})
}

// remove removes what a side still has of the shard, some at a time, while it is in the
// given state.
func (m *mover) remove(ctx context.Context, g *ground, state int64) error {
	if m.unfenced {
		return nil
	}
	from := []byte{}
	err := m.removeSome(ctx, g, state, func() (call, bool, error) {
		read, err := g.read(ctx, call{stFirstKeys, []any{int64(m.shard), from}})
		if err != nil || len(read) == 0 {
			return call{}, false, err
		}
		if len(from) > 0 {
			m.say() // of those that are gone
		}
		from = read[len(read)-1][0]
		m.at.Keys += int64(len(read))
		for _, r := range read {
			m.at.Bytes += number(r[1])
		}
		return call{stLessKeys, []any{int64(m.shard), from}}, true, nil
	})
	if err != nil {
		return err
	}
	m.say()
	return m.removeJournal(ctx, g, state)
}

func (m *mover) removeJournal(ctx context.Context, g *ground, state int64) error {
	return m.removeSome(ctx, g, state, func() (call, bool, error) {
		read, err := g.read(ctx, call{stFirstTold, []any{int64(m.shard)}})
		if err != nil || len(read) == 0 {
			return call{}, false, err
		}
		return call{stLessJournal, []any{int64(m.shard), number(read[len(read)-1][0])}}, true, nil
	})
}

// removeSome carries out what next returns, until there is no more, or the side is in another
// state.
func (m *mover) removeSome(ctx context.Context, g *ground, state int64, next func() (less call, more bool, err error)) error {
	for {
		less, more, err := next()
		if err != nil || !more {
			return err
		}
		ours := true
		err = m.atRow(ctx, "remove", g, func(r shardRow) ([]call, error) {
			if ours = r.there && r.state == state; !ours {
				return nil, nil
			}
			return []call{less}, nil
		})
		if err != nil || !ours {
			return err
		}
		m.say()
	}
}

// forget ends the move.
func (m *mover) forget(ctx context.Context) error {
	return m.atHome(ctx, "forget", func(int64) ([]call, error) { return []call{{stForgetMove, []any{int64(m.shard)}}}, nil })
}

// claim begins a new term: the last mover's is over. With abort, a move that has not flipped
// yet is to be undone.
func (m *mover) claim(ctx context.Context, abort bool) error {
	return m.named(ctx, "claim", func() error {
		return m.home.tx(ctx, []call{{stPlaceRow, []any{int64(m.shard)}}, {stMoveRow, []any{int64(m.shard)}}}, func(read rows) ([]call, error) {
			place, move := read.of(0), read.of(1)
			if len(place) == 0 || len(move) == 0 {
				return nil, errNoMove
			}
			term := number(place[0][0]) + 1
			m.term.Store(term)
			m.step = number(move[0][2])
			calls := []call{{stRaiseTerm, []any{int64(m.shard), term}}}
			if abort && m.step == stepMoving {
				m.step = stepAborting
				calls = append(calls, call{stSetStep, []any{int64(m.shard), int64(stepAborting)}})
			}
			return calls, nil
		})
	})
}
