package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
)

// format is the version of the tables and of what is in them.
const format = 1

// tables are those of records. Those of blobs are in blobTables.
var tables = []string{
	`CREATE TABLE IF NOT EXISTS meta (key text PRIMARY KEY, value bytea NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS shards (shard bigint PRIMARY KEY, epoch bigint NOT NULL, home bigint NOT NULL, state int NOT NULL,
version bigint NOT NULL, token bigint NOT NULL, recent bytea NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS kv (shard bigint, key bytea, value bytea NOT NULL, PRIMARY KEY (shard, key))`,
}

// tuning is PostgreSQL's own, for tables that have just been made.
var tuning = []string{
	// Rows that are written again and again find room for their next version on their page.
	`ALTER TABLE shards SET (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0)`,
	`ALTER TABLE shards ALTER COLUMN recent SET STORAGE MAIN`,
	`ALTER TABLE kv SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0)`,
	`ALTER TABLE meta SET (fillfactor = 40)`,
	// What is stored is compressed already.
	`ALTER TABLE kv ALTER COLUMN value SET STORAGE EXTERNAL`,
}

var stFormat = &statement{"m_format", `SELECT value FROM meta WHERE key = 'format'`}

// prepare makes the tables where there are none.
func (p *pool) prepare(ctx context.Context) error {
	r := p.retry(ctx)
	defer r.stop()
	for {
		err := p.prepareOnce(ctx)
		var known *fault.Error
		if err == nil || errors.As(err, &known) || ctx.Err() != nil {
			return err
		}
		if err := r.again(err); err != nil {
			return err
		}
	}
}

func (p *pool) prepareOnce(ctx context.Context) error {
	c, err := p.dial(ctx)
	if err != nil {
		return err
	}
	defer c.wire.Close()
	found := int64(-1)
	look := func() error {
		c.bind(stFormat, 0)
		c.execute()
		_, err := c.run(p.opt.statement, func(_ int, row [][]byte) error {
			if found = 0; len(row[0]) == 1 {
				found = int64(row[0][0])
			}
			return nil
		})
		return err
	}
	if err := look(); err != nil && errors.Is(err, errBroken) {
		return err
	}
	if found < 0 {
		if err := p.create(c); err != nil {
			return err
		}
		if err := look(); err != nil {
			return err
		}
	}
	if found != format {
		return fault.Newf(fault.Unsupported, "the database was written by another version: its format is %d, not %d", found, format)
	}
	return nil
}

// create makes the tables. Two nodes may do so at a time: then one of them fails and looks
// again.
func (p *pool) create(c *conn) error {
	failures, err := c.script(p.opt.statement, slices.Concat(tables, groupTables, blobTables)...)
	if err == nil {
		err = errors.Join(failures...)
	}
	if err != nil {
		var r *refusal
		if errors.As(err, &r) && (r.code == "23505" || r.code == "42P07" || r.code == "42710") {
			return fmt.Errorf("%w: another node makes the tables too: %w", errReach, err)
		}
		return err
	}
	if _, err := c.script(p.opt.statement, append(append([]string{}, tuning...), blobTuning...)...); err != nil {
		return err
	}
	failures, err = c.script(p.opt.statement, fmt.Sprintf(`INSERT INTO meta (key, value) VALUES ('format', '\x%02x'::bytea) ON CONFLICT (key) DO NOTHING`, format))
	return errors.Join(append(failures, err)...)
}
