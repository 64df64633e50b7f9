package postgres

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// TestCountOfPlacesIsBounded: how many accounts each group has is found out without a look at all of
// them, wherever their numbers lie. The account behind a leap is of group 1, which is not taken for full.
func TestCountOfPlacesIsBounded(t *testing.T) {
	const many = 40_000
	for name, of := range map[string]string{"one after another": "4294967296 + i", "with a leap": "4294967296 + i + i / 20000 * 262144", "drawn": "4294967296 + (i * 7919::bigint * 1000003) % 9000000000000"} {
		t.Run(name, func(t *testing.T) {
			e := open(t, options(pgtest.Shared(t)))
			c, err := e.member(0).pool.take(t.Context(), nil, e.member(0).pool.long)
			if err != nil {
				t.Fatal(err)
			}
			defer e.member(0).pool.give(e.member(0).pool.long, c)
			run := func(k call) (list [][][]byte, err error) {
				var read rows
				c.call(k.st, k.args)
				_, err = c.run(time.Minute, read.add)
				return read.of(0), err
			}
			fill := &statement{"t_fill", "INSERT INTO places SELECT " + of + ", CASE WHEN i % 4 = 0 THEN 1 ELSE 0 END, 0 FROM generate_series(1, $1::bigint) AS i"}
			seen := &statement{"t_seen", "SELECT (seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables WHERE relname = 'places' AND schemaname = current_schema()"}
			if _, err := run(call{fill, []any{int64(many)}}); err != nil {
				t.Fatal(err)
			}
			if _, err := run(call{stBegin, nil}); err != nil {
				t.Fatal(err)
			}
			loads, err := countPlaces(run, e.member(0).token)
			if err != nil {
				t.Fatal(err)
			}
			looked, err := run(call{seen, nil})
			if err != nil || len(looked) != 1 {
				t.Fatal(looked, err)
			}
			if n := number(looked[0][0]); n == 0 || n > mostCounted+2*samples+2 {
				t.Errorf("%d of %d accounts were looked at", n, many)
			}
			if all := loads[0] + loads[1]; len(loads) != 2 || loads[1]*8 < all || loads[1]*8 > 3*all { // it is a quarter
				t.Errorf("%v", loads)
			}
			if _, err := run(call{stRollback, nil}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestChoosingBesideCount: while accounts are counted, others get a group by what was counted before;
// where nothing was, they wait as long as they are patient.
func TestChoosingBesideCount(t *testing.T) {
	_, b, wire := beside(t)
	if _, err := b.AddGroup(t.Context(), "second", pgtest.Shared(t)); err != nil {
		t.Fatal(err)
	}
	choose := func(ctx context.Context) error { _, err := b.choose(ctx); return err }
	hold := func(again func(*places)) func() {
		b.places.mu.Lock()
		again(&b.places)
		b.places.mu.Unlock()
		caught, release := wire.Hold("loads")
		done := make(chan error, 1)
		go func() { done <- choose(t.Context()) }()
		<-caught
		return func() {
			release()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	release := hold(func(p *places) { p.loads = nil })
	var taken []int
	for p := b.member(0).pool; len(taken) < cap(p.long)-1; { // so that who counts, too, has to wait
		taken = append(taken, <-p.long)
	}
	patientOnly(t, choose)
	for _, slot := range taken {
		b.member(0).pool.long <- slot
	}
	release()
	release = hold(func(p *places) { p.as = time.Time{} })
	if err := ends(t, func() error { return choose(t.Context()) }); err != nil {
		t.Error(err)
	}
	release()
}

// TestPointBehindAllAccounts: a number that was drawn and behind which there is no account any more
// speaks for no group.
func TestPointBehindAllAccounts(t *testing.T) {
	n := func(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }
	read := func(k call) ([][][]byte, error) {
		return [][][]byte{{n(1), n(2), n(1)}, {n(5), nil, nil}, {n(6), nil, nil}}, nil
	}
	loads, err := samplePlaces(read, func() int64 { return 0 }, 0, 2*narrow)
	if err != nil || len(loads) != 1 || loads[1] == 0 {
		t.Errorf("%v, %v", loads, err)
	}
}
