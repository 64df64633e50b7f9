package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// pool keeps the connections to one database.
//
// When one breaks, none that was there before is used again: the server may have been
// replaced by another, and one that comes back from a long sleep does not know it. Each new
// one begins with a commit of its own: what a dead primary had not yet brought to its
// replica, and a server shows when it has started again, is there for good before anybody
// is told of it.
type pool struct {
	opt   *Options
	stats *Stats
	plain *pgconn.Config

	short chan int // slots of connections that are held for one round trip
	long  chan int // and for longer

	mu         sync.Mutex
	idle       []*conn
	generation uint64
	closed     bool
	down       atomic.Pointer[error] // why the last connection could not be made

	beat  sync.Mutex
	pulse *conn // by which it is known whether the server works; of the lock beat
}

const connectTimeout = 3 * time.Second // to one host

func newPool(opt *Options, stats *Stats) (*pool, error) {
	cfg, err := pgconn.ParseConfig(opt.URL)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "the address of the database is wrong", err)
	}
	// Reading from a replica, or from a primary that was, would show the past.
	cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout > time.Hour {
		cfg.ConnectTimeout = connectTimeout
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = strings.TrimSpace("martlet " + opt.Node)
	}
	p := &pool{opt: opt, stats: stats, plain: cfg}
	some := max(2, opt.Connections*2/3)
	p.short, p.long = make(chan int, some), make(chan int, max(2, opt.Connections-some))
	for i := range cap(p.short) {
		p.short <- i
	}
	for i := range cap(p.long) {
		p.long <- cap(p.short) + i
	}
	return p, nil
}

// take returns a connection, which goes back by give; from: p.short or p.long.
func (p *pool) take(ctx context.Context, from chan int) (*conn, error) {
	var slot int
	select {
	case slot = <-from:
	default:
		select {
		case slot = <-from:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c := p.rested()
	if c == nil {
		var err error
		if c, err = p.connect(ctx, slot); err != nil {
			from <- slot
			return nil, err
		}
	}
	c.slot = slot
	return c, nil
}

// rested returns a connection that waits, nil if there is none.
func (p *pool) rested() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return c
}

// give takes a connection back; one that is broken, or as old as one that broke, goes.
func (p *pool) give(from chan int, c *conn) {
	slot := c.slot // of the next one who takes it, once it is idle
	p.mu.Lock()
	if c.broken != nil {
		p.outdate(c.age)
	}
	kept := c.broken == nil && c.age == p.generation && !p.closed && len(c.out) == 0
	if kept {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	if !kept {
		_ = c.wire.Close()
	}
	from <- slot
}

// outdate is called with the lock.
func (p *pool) outdate(age uint64) {
	if age != p.generation {
		return
	}
	p.generation++
	for _, old := range p.idle {
		_ = old.wire.Close()
	}
	p.idle = p.idle[:0]
}

// current tells whether no connection of those made before it has broken.
func (p *pool) current(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.age == p.generation
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		_ = c.wire.Close()
	}
	p.idle = nil
	p.beat.Lock()
	defer p.beat.Unlock()
	if p.pulse != nil {
		_ = p.pulse.wire.Close()
	}
}

// connect makes a connection and the commit that it begins with.
func (p *pool) connect(ctx context.Context, slot int) (*conn, error) {
	bounded, cancel := context.WithTimeout(ctx, engine.Patience(ctx, p.opt.Patience))
	defer cancel()
	c, err := p.dial(bounded)
	if err == nil {
		err = p.begin(bounded, c, slot)
	}
	if err != nil {
		if c != nil {
			_ = c.wire.Close()
		}
		if ctx.Err() == nil {
			p.down.Store(&err)
		}
		return nil, fmt.Errorf("%w: %w", errReach, err)
	}
	p.down.Store(nil)
	return c, nil
}

// errReach is the cause of what failed before anything was sent.
var errReach = errors.New("no connection to the database")

func (p *pool) dial(ctx context.Context) (*conn, error) {
	p.mu.Lock()
	age := p.generation
	p.mu.Unlock()
	made, err := pgconn.ConnectConfig(ctx, p.plain)
	if err != nil {
		return nil, err
	}
	h, err := made.Hijack()
	if err != nil {
		return nil, err
	}
	p.stats.Connects.Add(1)
	c := &conn{wire: h.Conn, process: h.PID, age: age, prepared: map[*statement]bool{}}
	c.front = pgproto3.NewFrontend(h.Conn, h.Conn)
	return c, nil
}

// session are settings of PostgreSQL that other databases may not know. An answer to them
// is not needed: they keep a dead node's locks from outliving it for long, and see to it
// that a commit waits for what it is to wait for.
var session = []string{
	"SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')",
	"SET default_transaction_isolation = 'read committed'",
	"SET client_connection_check_interval = '5s'",
	"SET tcp_keepalives_idle = 10",
	"SET tcp_keepalives_interval = 3",
	"SET tcp_keepalives_count = 3",
	"SET idle_in_transaction_session_timeout = '5min'",
	"SET statement_timeout = 0",
	"SET lock_timeout = 0",
	"SET plan_cache_mode = force_generic_plan",
	"SET jit = off",
	"SET client_min_messages = warning",
}

var stFence = &statement{"m_fence", `INSERT INTO meta (key, value) VALUES ($1::text, $2::bytea) ON CONFLICT (key) DO UPDATE SET value = excluded.value`}

func (p *pool) begin(ctx context.Context, c *conn, slot int) error {
	end, _ := ctx.Deadline()
	limit := min(p.opt.statement, max(time.Until(end), time.Millisecond))
	if _, err := c.script(limit, session...); err != nil {
		return err
	}
	p.fence(c, slot)
	if _, err := c.run(limit, nil); err != nil {
		return err
	}
	if c.warned {
		return c.breaks(errors.New("the wait for the replica was cancelled"))
	}
	return nil
}

// fence gathers a statement whose commit makes durable what was committed before it.
func (p *pool) fence(c *conn, slot int) {
	c.bind(stFence, 2)
	c.string(fmt.Sprintf("fence %s %d", p.opt.Node, slot))
	c.bytes([]byte{byte(p.generation)})
	c.execute()
}

// retry paces the attempts of one call.
type retry struct {
	ctx      context.Context
	patience time.Duration
	timer    *time.Timer // runs since the call first had to wait
	over     bool
	pause    time.Duration
}

const (
	firstPause = 10 * time.Millisecond
	lastPause  = 250 * time.Millisecond
)

func (p *pool) retry(ctx context.Context) *retry {
	return &retry{ctx: ctx, patience: engine.Patience(ctx, p.opt.Patience), pause: firstPause}
}

// limit returns a channel on which the end of the patience comes, once; whoever gets it
// sets over.
func (r *retry) limit() <-chan time.Time {
	if r.timer == nil {
		r.timer = time.NewTimer(r.patience)
	}
	return r.timer.C
}

// again waits before the next attempt, or returns why there is to be none.
func (r *retry) again(cause error) error {
	if !passes(cause) {
		return fault.Wrap(fault.Unavailable, "the database has failed", cause)
	}
	if !r.over {
		pause := time.NewTimer(r.pause)
		defer pause.Stop()
		r.pause = min(2*r.pause, lastPause)
		select {
		case <-pause.C:
			return nil
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-r.limit():
			r.over = true
		}
	}
	return fault.Wrap(fault.Unavailable, "the database cannot be reached", cause)
}

func (r *retry) stop() {
	if r.timer != nil {
		r.timer.Stop()
	}
}

// passes tells whether an error is one that waiting may mend.
func passes(err error) bool {
	var r *refusal
	if !errors.As(err, &r) || errors.Is(err, errReach) {
		return true
	}
	switch {
	case r.code == "53100": // disk full
		return false
	case strings.HasPrefix(r.code, "40"), strings.HasPrefix(r.code, "53"), strings.HasPrefix(r.code, "57"), strings.HasPrefix(r.code, "08"):
		return true
	case r.code == "25006": // a primary that is none any more
		return true
	case r.code == "26000": // the statement is not prepared: an error came before it
		return true
	}
	return false
}

// read carries out reads, which may be repeated, on any connection: fill gathers statements,
// each sees the rows of one attempt. reset is called before each.
func (p *pool) read(ctx context.Context, fill func(*conn), reset func(), each func(i int, row [][]byte) error) error {
	r := p.retry(ctx)
	defer r.stop()
	for {
		reset()
		err := p.once(ctx, fill, each)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if err := r.again(err); err != nil {
			return err
		}
	}
}

func (p *pool) once(ctx context.Context, fill func(*conn), each func(i int, row [][]byte) error) error {
	c, err := p.take(ctx, p.short)
	if err != nil {
		return err
	}
	defer p.give(p.short, c)
	fill(c)
	_, err = c.run(p.opt.statement, each)
	p.failing(c, err)
	return err
}

// failing looks at what a server says when it is not the primary any more: its connections
// are of no use.
func (p *pool) failing(c *conn, err error) {
	var r *refusal
	if errors.As(err, &r) && r.code == "25006" {
		_ = c.breaks(err)
	}
	if errors.As(err, &r) && (r.code == "XX001" || r.code == "XX002") {
		p.stats.unread.Add(1)
	}
}
