package main

import (
	"context"
	"fmt"
	"time"

	"github.com/martlet-mail/martlet/internal/bench"
)

// bytes measures what a delivery and a flag leave in the database, of ordinary mail.
func (c *course) bytes(ctx context.Context, s *system) {
	d := s.database
	put := func(name string, v float64) {
		c.put(sample{Part: "bytes", System: s.name, Round: c.round, Case: name, Value: v})
	}
	d.query("CHECKPOINT")
	d.query("SELECT pg_stat_reset()")
	lsn, err := d.query("SELECT pg_current_wal_lsn()")
	if err != nil {
		c.failed("bytes", s.name, "log position", err)
		return
	}
	before := [2]float64{d.number("SELECT count(*) FROM kv"), d.number("SELECT pg_total_relation_size('kv') + pg_total_relation_size('blobs')")}
	t := s.target
	t.Recipients = everybody()
	var r bench.Result
	o := bench.Options{Connections: []int{4}, Duration: 2 * c.duration, Sizes: bench.Corpus, Run: "bytes"}
	if err := bench.Run(ctx, t, o, []string{"lmtp"}, func(got bench.Result) { r = got }); err != nil {
		c.failed("bytes", s.name, "lmtp", err)
		return
	}
	n := float64(r.Operations)
	put("bytes of a message", float64(r.Bytes)/n)
	put("bytes of WAL for a delivery", d.number(fmt.Sprintf("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '%s')", lsn))/n)
	time.Sleep(1500 * time.Millisecond) // what backends have counted is told now and then
	put("rows changed for a delivery", d.number("SELECT n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname = 'kv'")/n)
	put("of these without a change of the index (HOT)", d.number("SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'kv'")/n)
	put("commits for a delivery", d.number("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'shards'")/n)
	d.query("VACUUM ANALYZE")
	put("rows of kv for a message", (d.number("SELECT count(*) FROM kv")-before[0])/n)
	put("bytes in kv for a message, indexes and TOAST included", d.number("SELECT pg_total_relation_size('kv')")/n)
	put("rows of blobs for a message", d.number("SELECT count(*) FROM blobs")/n)
	put("bytes in blobs for a message, index and TOAST included", d.number("SELECT pg_total_relation_size('blobs')")/n)
	put("all bytes in the database for a message", (d.number("SELECT pg_total_relation_size('kv') + pg_total_relation_size('blobs')")-before[1])/n)
}
