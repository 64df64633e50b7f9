package main

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/engine/postgres"
)

// databaseFacts are what a look at a database tells. Its JSON is public interface.
type databaseFacts struct {
	Reachable bool    `json:"reachable"`
	Host      string  `json:"host,omitempty"` // that answered, of those that the configuration names
	Name      string  `json:"name,omitempty"`
	Version   string  `json:"version,omitempty"`
	LatencyMS float64 `json:"latency_ms,omitempty"` // of one round trip
	ReadOnly  bool    `json:"read_only,omitempty"`  // it is a standby
	Problem   string  `json:"problem,omitempty"`    // why it cannot be reached

	// Synchronous tells whether a commit waits for another machine: the settings say so, and
	// a standby is there.
	Synchronous bool   `json:"synchronous"`
	Commit      string `json:"synchronous_commit,omitempty"`
	Names       string `json:"synchronous_standby_names,omitempty"`
	Standbys    int    `json:"standbys"` // connected
	InStep      int    `json:"synchronous_standbys"`
	Hidden      bool   `json:"standbys_hidden,omitempty"` // this user may not see what they do

	Foreign bool `json:"foreign,omitempty"` // of another make: it replicates in its own way

	clock time.Duration // of the database ahead of ours
	slack time.Duration // within which clock is known
}

// Stalled tells that commits wait for a standby, and that none is there: nothing is taken in.
func (f databaseFacts) Stalled() bool {
	return f.Commit != "off" && f.Commit != "local" && strings.TrimSpace(f.Names) != "" && f.InStep == 0 && !f.Hidden && !f.Foreign
}

// lookWait bounds a look at a database.
const lookWait = 3 * time.Second

// lookAtDatabase looks at the database of a connection string, over a connection of its own.
func lookAtDatabase(ctx context.Context, url string) (f databaseFacts) {
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	f.Problem = func() string {
		c, err := connectTo(ctx, url)
		if err == nil {
			f.Name, f.Host = c.Config().Database, net.JoinHostPort(c.Config().Host, strconv.Itoa(int(c.Config().Port)))
			err = errors.Join(f.measure(ctx, c), f.replication(ctx, c))
			_ = c.Close(ctx)
		}
		f.Reachable = err == nil
		if err == nil {
			return ""
		}
		return plainProblem(ctx, err)
	}()
	return f
}

// doors are how the databases of all groups are reached that this node knows, the home group's
// first.
func (h *house) doors() []postgres.Door {
	if e, ok := h.engine.(*postgres.Engine); ok {
		return e.Doors()
	}
	return []postgres.Door{{Name: postgres.HomeGroup, URL: databaseURL(h.cfg)}}
}

// lookThrough looks at the database of a group. One that answers is of no use if it is another.
func lookThrough(ctx context.Context, d postgres.Door) databaseFacts {
	f := lookAtDatabase(ctx, d.URL)
	if f.Reachable && d.Other {
		f.Reachable, f.Problem = false, oneLine(d.Down.Error())
	}
	return f
}

// connectTo connects as nodes do: of several hosts to the one that takes writes.
func connectTo(ctx context.Context, url string) (*pgx.Conn, error) {
	o, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("its address in [store] url is not one that can be used")
	}
	o.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	if o.ValidateConnect == nil && len(o.Fallbacks) > 0 {
		o.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	o.RuntimeParams["application_name"] = "martlet look"
	return pgx.ConnectConfig(ctx, o)
}

// plainProblem says what is wrong without a word of the connection string.
func plainProblem(ctx context.Context, err error) string {
	var said *pgconn.PgError
	var network *net.OpError
	switch {
	case errors.As(err, &said):
		return oneLine(said.Message)
	case ctx.Err() != nil:
		return "it does not answer within " + lookWait.String()
	case errors.As(err, &network):
		return oneLine(network.Error())
	}
	return oneLine(err.Error())
}

// looks is how often the time of a round trip is taken: the shortest says how far away the
// database is, and others how busy the machines are.
const looks = 3

// measure takes the time of a round trip, and the clock.
func (f *databaseFacts) measure(ctx context.Context, c *pgx.Conn) error {
	if err := c.QueryRow(ctx, "SELECT current_setting('server_version'), pg_is_in_recovery()").Scan(&f.Version, &f.ReadOnly); err != nil {
		return err
	}
	for i := range looks {
		var there time.Time
		began := time.Now()
		if err := c.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&there); err != nil {
			return err
		}
		took := time.Since(began)
		if i > 0 && took/2 >= f.slack {
			continue
		}
		f.LatencyMS = float64(took.Microseconds()) / 1000
		f.clock, f.slack = there.Sub(began.Add(took/2)), took/2
	}
	return nil
}

// replication finds out whether commits wait for another machine.
func (f *databaseFacts) replication(ctx context.Context, c *pgx.Conn) error {
	var unseen int
	err := c.QueryRow(ctx, `SELECT current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
		(SELECT count(*) FROM pg_stat_replication), (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')),
		(SELECT count(*) FROM pg_stat_replication WHERE sync_state IS NULL)`).Scan(&f.Commit, &f.Names, &f.Standbys, &f.InStep, &unseen)
	var said *pgconn.PgError
	if errors.As(err, &said) && said.Code[:2] == "42" { // a database of another make, which replicates in its own way
		f.Commit, f.Foreign = "", true
		return nil
	}
	if err != nil {
		return err
	}
	f.Hidden = unseen > 0
	waits := f.Commit != "off" && f.Commit != "local" && strings.TrimSpace(f.Names) != ""
	f.Synchronous = waits && (f.InStep > 0 || f.Hidden)
	return nil
}

// databaseURL is the connection string of the first database.
func databaseURL(cfg *conf.Config) string { return cfg.Store.URL }
