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
	hosts []*pgconn.Config // the same, one for each host
	first atomic.Int32     // of them, which is asked first

	short chan int      // slots of connections that are held for one round trip
	long  chan int      // and for longer
	rows  chan struct{} // of long, those that may hold rows, or wait for them: Views need others

	mu         sync.Mutex
	idle       []*conn
	generation uint64
	server     string // that the last connection led to
	closed     bool
	reached    atomic.Bool           // a connection has been made
	down       atomic.Pointer[error] // why the last connection could not be made
	lonely     loneliness

	beat  sync.Mutex
	pulse *conn // by which it is known whether the server works; of the lock beat

	surety surety
	shuts  atomic.Bool             // this process has shut the database for others
	meant  func(mark string) error // tells of the mark of a database whether it is the one; nil: any is
}

const connectTimeout = 3 * time.Second // to one host

func newPool(opt *Options, stats *Stats) (*pool, error) {
	cfg, err := pgconn.ParseConfig(opt.URL)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "the address of the database is wrong", err)
	}
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout > time.Hour {
		cfg.ConnectTimeout = connectTimeout
	}
	switch { // the server keeps 63 bytes of it
	case opt.Run != "":
		cfg.RuntimeParams["application_name"] = "martlet " + opt.Run
	case cfg.RuntimeParams["application_name"] == "":
		cfg.RuntimeParams["application_name"] = strings.TrimSpace("martlet " + opt.Node)
	}
	p := &pool{opt: opt, stats: stats, plain: cfg, hosts: hostsOf(cfg)}
	some := max(2, opt.Connections*2/3)
	p.short, p.long = make(chan int, some), make(chan int, max(2, opt.Connections-some))
	for i := range cap(p.short) {
		p.short <- i
	}
	for i := range cap(p.long) {
		p.long <- cap(p.short) + i
	}
	p.rows = make(chan struct{}, cap(p.long)/2)
	for range cap(p.rows) {
		p.rows <- struct{}{}
	}
	return p, nil
}

// take returns a connection, which goes back by give; from: p.short or p.long. It waits for one
// as long as the call is patient.
func (p *pool) take(ctx context.Context, r *retry, from chan int) (*conn, error) {
	var slot int
	select {
	case slot = <-from:
	default:
		select {
		case slot = <-from:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.limit():
			r.over = true
			return nil, errSlot
		}
	}
	c := p.rested()
	if c == nil {
		var err error
		if c, err = p.connect(r.bounded(ctx), slot); err != nil {
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
	p.closed = true
	for _, c := range p.idle {
		_ = c.wire.Close()
	}
	p.idle = nil
	p.mu.Unlock() // whoever has the pulse takes it
	p.beat.Lock()
	defer p.beat.Unlock()
	if p.pulse != nil {
		_ = p.pulse.wire.Close()
	}
	p.surety.close()
}

// connect makes a connection and the commit that it begins with.
func (p *pool) connect(ctx context.Context, slot int) (*conn, error) {
	patience := engine.Patience(ctx, p.opt.Patience)
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tried := ctx
	if patience < min(connectTimeout, p.opt.Patience) { // a server that is well may have had no time to answer
		tried = bounded
	}
	var all []error
	var asked []*pgconn.Config
	first := int(p.first.Load())
	for i := range p.hosts {
		n := (first + i) % len(p.hosts)
		c, err := p.dialTo(bounded, p.hosts[n])
		if err == nil {
			if err = p.begin(bounded, c, slot); err != nil {
				err = fmt.Errorf("%w: %w", errLetIn, err)
			}
		}
		if err == nil {
			p.first.Store(int32(n))
			p.reached.Store(true)
			p.down.Store(nil)
			p.lonely.server.Store(nil)
			return c, nil
		}
		if c != nil {
			_ = c.wire.Close()
		}
		if closed := shutFault(err); closed != nil { // by who works on it: no other will do, and no patience
			p.down.Store(&closed)
			return nil, closed
		}
		if tried.Err() == nil {
			p.lonely.unless(p.hosts[n], err)
		}
		asked = append(asked, p.hosts[n])
		if all = append(all, err); bounded.Err() != nil {
			break
		}
	}
	return nil, p.missed(tried, newUnreached(asked, all, p.lonely.server.Load()))
}

// hostsOf returns a configuration for each host. They are asked one by one: a server that
// takes connections and whose commits are not confirmed, such as a primary that has been
// replaced and does not know it, must not keep us from the one that works.
func hostsOf(cfg *pgconn.Config) (list []*pgconn.Config) {
	all := append([]*pgconn.FallbackConfig{{Host: cfg.Host, Port: cfg.Port, TLSConfig: cfg.TLSConfig}}, cfg.Fallbacks...)
	for _, f := range all {
		if n := len(list); n > 0 && list[n-1].Host == f.Host && list[n-1].Port == f.Port {
			list[n-1].Fallbacks = append(list[n-1].Fallbacks, f) // with TLS, and without
			continue
		}
		one := cfg.Copy()
		one.Host, one.Port, one.TLSConfig, one.Fallbacks = f.Host, f.Port, f.TLSConfig, nil
		list = append(list, one)
	}
	return list
}

// favourite returns how the host is reached that worked last.
func (p *pool) favourite() *pgconn.Config { return p.hosts[int(p.first.Load())%len(p.hosts)] }

// errReach is the cause of what failed before anything was sent.
var errReach = errors.New("no connection to the database")

// dial connects to the first host that takes writes.
func (p *pool) dial(ctx context.Context) (*conn, error) {
	var all []error
	for _, host := range p.hosts {
		c, err := p.dialTo(ctx, host)
		if err == nil {
			return c, nil
		}
		all = append(all, err)
	}
	return nil, p.missed(ctx, newUnreached(p.hosts, all, p.lonely.server.Load()))
}

// whisper makes a connection for hints: to the database that is meant, be it of the primary or
// not.
func (p *pool) whisper(ctx context.Context) (*conn, error) {
	c, err := p.dialTo(ctx, p.favourite())
	if err != nil {
		return nil, err
	}
	if err := p.recognize(c, p.opt.statement); err != nil {
		_ = c.wire.Close()
		return nil, err
	}
	return c, nil
}

func (p *pool) dialTo(ctx context.Context, to *pgconn.Config) (*conn, error) {
	p.mu.Lock()
	age := p.generation
	p.mu.Unlock()
	server, letIn := "", false
	cfg := to.Copy()
	cfg.ValidateConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		letIn = true
		// Reading from a replica, or from a primary that was, would show the past.
		err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, c)
		if err == nil {
			server = serverOf(ctx, c)
		}
		return err
	}
	made, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil && letIn {
		err = fmt.Errorf("%w: %w", errLetIn, err)
	}
	if err != nil {
		return nil, err
	}
	h, err := made.Hijack()
	if err != nil {
		return nil, err
	}
	p.stats.Connects.Add(1)
	c := &conn{wire: h.Conn, host: to, process: h.PID, age: p.meets(server, age), prepared: map[*statement]bool{}}
	c.front = pgproto3.NewFrontend(h.Conn, h.Conn)
	return c, nil
}

// serverOf returns which server it is, of all that have been at this address; "" if it cannot
// say.
func serverOf(ctx context.Context, c *pgconn.PgConn) string {
	all, err := c.Exec(ctx, "SELECT concat(pg_postmaster_start_time(), ' ', inet_server_addr(), ' ', inet_server_port())").ReadAll()
	if err != nil || len(all) != 1 || len(all[0].Rows) != 1 {
		return ""
	}
	return string(all[0].Rows[0][0])
}

// meets notes which server answers. If it is another than before, connections to that one are
// of no use any more. It returns the age of the new connection.
func (p *pool) meets(server string, age uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if server == "" || server == p.server {
		return age
	}
	if p.server != "" {
		p.outdate(p.generation)
		age = p.generation
	}
	p.server = server
	return age
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
	"SET statement_timeout = 0",
	"SET lock_timeout = 0",
	"SET plan_cache_mode = force_generic_plan",
	// A plan is made once, maybe while the tables are small, and has to be good when they are
	// large: always by the index.
	"SET enable_seqscan = off",
	"SET enable_bitmapscan = off",
	"SET enable_hashjoin = off",
	"SET enable_mergejoin = off",
	"SET jit = off",
	"SET client_min_messages = warning",
}

// holding is the setting by which a server ends transactions whose node stands still: its kernel
// answers for it, so that nothing else would. They may hold rows that others wait for.
func holding(d time.Duration) string {
	return fmt.Sprintf("SET idle_in_transaction_session_timeout = %d", d.Milliseconds())
}

// stLinger is for a transaction that only reads: nobody waits for it.
var stLinger = &statement{"m_linger", "SET LOCAL idle_in_transaction_session_timeout = '5min'"}

// stGraze locks a row of meta: the one that the fence of the connection writes, or another if
// that is not there.
var stGraze = &statement{"m_graze", `SELECT key FROM meta WHERE key = $1::text OR key = 'format' ORDER BY key LIMIT 1 FOR UPDATE`}

var stFence = &statement{"m_fence", `INSERT INTO meta (key, value) VALUES ($1::text, $2::bytea) ON CONFLICT (key) DO UPDATE SET value = excluded.value`}

func (p *pool) begin(ctx context.Context, c *conn, slot int) error {
	end, _ := ctx.Deadline()
	limit := min(p.opt.statement, connectTimeout, max(time.Until(end), time.Millisecond))
	list, err := c.script(limit, append([]string{holding(p.opt.hold)}, session...)...)
	if err != nil {
		return err
	}
	c.hurries = list[0] == nil
	if err := p.recognize(c, limit); err != nil {
		return err
	}
	return p.confirm(c, slot, limit)
}

// recognize tells whether a connection leads to the database that is meant, and may be used.
func (p *pool) recognize(c *conn, limit time.Duration) error {
	var marks [2]string
	c.call(stMeta, []any{groupMark})
	c.call(stMeta, []any{shutMark})
	_, err := c.run(limit, func(i int, row [][]byte) error {
		marks[i] = string(row[0])
		return nil
	})
	if err == nil && p.meant != nil {
		err = p.meant(marks[0])
	}
	if err == nil {
		err = p.admits(marks[1])
	}
	return err
}

// fence gathers a statement whose commit makes durable what was committed before it.
func (p *pool) fence(c *conn, slot int) {
	c.bind(stFence, 2)
	c.string(p.fenceKey(slot))
	c.bytes([]byte{byte(c.age)})
	c.execute()
}

func (p *pool) fenceKey(slot int) string { return fmt.Sprintf("fence %s %d", p.opt.Node, slot) }

// once makes one attempt. What it returns is true now, not only on a server that was the
// primary once.
func (p *pool) once(ctx context.Context, r *retry, fill func(*conn), each func(i int, row [][]byte) error) error {
	asked := time.Now()
	c, err := p.take(ctx, r, p.short)
	if err != nil {
		return err
	}
	fill(c)
	_, err = c.run(p.opt.statement, each)
	p.failing(c, err)
	p.give(p.short, c)
	if err == nil {
		err = p.assured(ctx, r, c.age, asked)
	}
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
