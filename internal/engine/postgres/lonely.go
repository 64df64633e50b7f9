package postgres

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
)

// A server whose standbys are gone is silent for whoever commits, and so for whoever asks, as
// one that hangs. It says itself what it waits for. It is asked beside, over a connection of
// its own: this is for those who look for the cause, and nobody waits for it.

// loneliness is what is known of it.
type loneliness struct {
	asking atomic.Bool
	server atomic.Pointer[pgconn.Config] // of the pool's hosts, one that waits for a standby; nil: none
}

// trouble says in a few words why the database is of no use.
func (p *pool) trouble() string {
	if p.lonely.server.Load() != nil {
		return "no standby confirms commits"
	}
	return "the database cannot be reached"
}

func lonelyText(host *pgconn.Config) string {
	return addressOf(host) + " waits for a standby; start one"
}

// wonder finds out whether a commit that was not answered waits for a standby.
func (p *pool) wonder(c *conn) {
	if !p.lonely.asking.CompareAndSwap(false, true) {
		return
	}
	host := c.host
	go func() {
		defer p.lonely.asking.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		defer cancel()
		if waits, err := waitsThere(ctx, host); waits {
			p.lonely.server.Store(host)
		} else {
			p.lonely.unless(host, err)
		}
	}()
}

// unless forgets that a server waits for a standby, since it did not answer. One that refuses a
// connection does: sessions that wait may have taken all that it allows.
func (l *loneliness) unless(host *pgconn.Config, err error) {
	var said *pgconn.PgError
	if !errors.As(err, &said) && !errors.Is(err, errBroken) {
		l.server.CompareAndSwap(host, nil)
	}
}

// lonelySQL looks for commits that wait for long. Everybody may see this of the sessions of his
// own role. Ours need not be among them: it may wait for a row that one of them has locked.
const lonelySQL = "SELECT FROM pg_stat_activity WHERE usename = current_user AND wait_event = 'SyncRep' AND query_start < clock_timestamp() - interval '1 second'"

func waitsThere(ctx context.Context, host *pgconn.Config) (bool, error) {
	c, err := pgconn.ConnectConfig(ctx, host.Copy())
	if err != nil {
		return false, err
	}
	defer c.Close(ctx)
	all, err := c.Exec(ctx, lonelySQL).ReadAll()
	return err == nil && len(all) == 1 && len(all[0].Rows) > 0, err
}
