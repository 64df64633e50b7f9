package postgres

import (
	"context"
	"errors"
	"time"
)

// poolShelf is the shelf of a database.
type poolShelf struct{ p *pool }

func (s poolShelf) ask(ctx context.Context, rows func([][]byte) error, st *statement, args ...any) error {
	return s.repeat(ctx, rows, false, st, args)
}

func (s poolShelf) change(ctx context.Context, rows func([][]byte) error, st *statement, args ...any) error {
	return s.repeat(ctx, rows, true, st, args)
}

// repeat runs a statement until its outcome is known.
func (s poolShelf) repeat(ctx context.Context, rows func([][]byte) error, changes bool, st *statement, args []any) error {
	r := s.p.retry(ctx)
	defer r.stop()
	if rows == nil {
		rows = func([][]byte) error { return nil }
	}
	for {
		own, err := s.once(ctx, r, rows, changes, st, args)
		if err == nil || own || ctx.Err() != nil {
			return err
		}
		if err := r.again(err); err != nil {
			return err
		}
	}
}

// bodyRate is how many bytes a second a statement with large parameters is given time for.
const bodyRate = 1 << 20

// once runs a statement. own tells that the error is one of rows.
func (s poolShelf) once(ctx context.Context, r *retry, rows func([][]byte) error, changes bool, st *statement, args []any) (own bool, err error) {
	asked := time.Now()
	c, err := s.p.take(ctx, r, s.p.short)
	if err != nil {
		return false, err
	}
	own, err = s.onConn(c, rows, changes, st, args)
	s.p.give(s.p.short, c)
	if err == nil { // it is true now, not only on a server that was the primary once
		err = s.p.assured(ctx, r, c.age, asked)
	}
	return own, err
}

func (s poolShelf) onConn(c *conn, rows func([][]byte) error, changes bool, st *statement, args []any) (own bool, err error) {
	if err := rows(nil); err != nil {
		return true, err
	}
	s.p.stats.Blobs.Add(1)
	c.call(st, args)
	limit := s.p.opt.statement + time.Duration(len(c.out))*time.Second/bodyRate
	sent := time.Now()
	counts, err := c.run(limit, func(_ int, row [][]byte) error {
		err := rows(row)
		own = own || err != nil
		return err
	})
	s.p.failing(c, err)
	if err != nil {
		return own, err
	}
	if !c.warned {
		if changes && len(counts) == 1 && counts[0] > 0 {
			s.p.surety.confirmed(c.age, sent)
		}
		return false, nil
	}
	// It is done, and the server does not vouch for it: a later commit does for both.
	s.p.fence(c, c.slot)
	if _, err := c.run(s.p.opt.statement, nil); err != nil {
		return false, err
	}
	if c.warned {
		return false, c.breaks(errors.New("the wait for the replica was cancelled"))
	}
	return false, nil
}
