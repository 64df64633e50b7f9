package postgres

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Who reads a whole database, or fills it, must know that nobody else works on it. A process that
// was frozen for long, and is taken for one that has ended, would go on when it wakes. So a
// mark shuts the database: each connection looks for it when it begins, and those that were there
// before are ended by the server.
const shutMark = "shut"

// shut is why a connection is not to be used. It is for those who run the server: whom that serves
// is told no more than that the database is shut.
type shut struct{ why string }

func (s *shut) Error() string { return s.why }

// admits holds the mark of a database that is shut against who comes: only processes with a Run
// are let in, and one that has shut it itself only as long as its mark stands.
func (p *pool) admits(mark string) error {
	run, why, _ := strings.Cut(mark, " ")
	if mark == "" || p.opt.Run != "" && (run == p.opt.Run || !p.shuts.Load()) {
		return nil
	}
	return &shut{why}
}

var (
	stUnsetMeta = &statement{"g_unset_meta", "DELETE FROM meta WHERE key = $1::text"}
	stClock     = &statement{"m_clock", "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"}

	// Connections of others that began before a time are ended, and named.
	stEnd = &statement{"m_end", `SELECT COALESCE(application_name, '')::text, pg_terminate_backend(pid)::text FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND backend_type = 'client backend' AND application_name <> $1::text
AND (extract(epoch FROM backend_start) * 1000000)::bigint <= $2::bigint`}
)

// endingTakes is how long a server may take to end connections.
const endingTakes = 10 * time.Second

// Shut keeps all others from the databases of all groups, until Reopen: why tells who runs them, in words that
// follow a colon. When it has returned none of their changes can come any more. Options.Run
// must be given. It may be called again, to say something else. Faults: Busy (a
// connection of another does not end), Unsupported (the database cannot end connections: whoever has
// one goes on), those of the engine.
func (e *Engine) Shut(ctx context.Context, why string) error {
	if err := e.gate.enter(); err != nil {
		return err
	}
	defer e.gate.leave()
	if err := e.loadGroups(ctx); err != nil {
		return err
	}
	var unable error
	for _, m := range e.all() {
		err := e.shutOne(ctx, e.ground(m.home), why)
		if fault.Is(err, fault.Unsupported) { // the others are to be shut all the same
			unable = err
			continue
		}
		if err != nil {
			return err
		}
	}
	return unable
}

func (e *Engine) shutOne(ctx context.Context, g *ground, why string) error {
	mark := call{stSetMeta, []any{shutMark, []byte(e.opt.Run + " " + why)}}
	set := func() error {
		return g.tx(ctx, nil, func(rows) ([]call, error) { return []call{mark}, nil })
	}
	if err := set(); err != nil {
		return err
	}
	g.pool.shuts.Store(true)
	now, err := g.read(ctx, call{stClock, nil})
	if err != nil {
		return err
	}
	if err := g.endOthers(ctx, number(now[0][0])); err != nil {
		return err
	}
	return set() // which waits for the standby, and so for what those who were ended had committed
}

// endOthers ends the connections of others that began before a time, and returns when there are
// none.
func (g *ground) endOthers(ctx context.Context, before int64) error {
	if g.pool.opt.without.ending {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, endingTakes)
	defer cancel()
	for {
		left, err := g.read(ctx, call{stEnd, []any{g.pool.plain.RuntimeParams["application_name"], before}})
		var r *refusal
		if errors.As(err, &r) && strings.HasPrefix(r.code, "42") { // no such function, view or column, or not allowed
			return fault.Wrap(fault.Unsupported, "the database cannot end connections of others", err)
		}
		if err == nil && len(left) == 0 {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			if len(left) == 0 {
				return ctx.Err()
			}
			return fault.Newf(fault.Busy, "a connection of %q to the database does not end; stop that process", left[0][0])
		case <-time.After(firstPause):
		}
	}
}

// Reopen lets others in again, whoever has shut the databases. Where nobody has it does nothing.
func (e *Engine) Reopen(ctx context.Context) error {
	if err := e.gate.enter(); err != nil {
		return err
	}
	defer e.gate.leave()
	if err := e.loadGroups(ctx); err != nil {
		return err
	}
	unset := call{stUnsetMeta, []any{shutMark}}
	for _, m := range e.all() {
		g := e.ground(m.home)
		g.pool.shuts.Store(false)
		if err := g.tx(ctx, nil, func(rows) ([]call, error) { return []call{unset}, nil }); err != nil {
			return err
		}
	}
	return nil
}
