package store

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/engine/postgres"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

var databaseRuns = flag.Int("model.database", 4, "how many runs TestStoreAgainstModelOnDatabase makes")

// The model holds on PostgreSQL, with two nodes that each have an engine of their own, with
// room in memory and without.
func TestStoreAgainstModelOnDatabase(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	server := pgtest.Start(t, pgtest.Options{})
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		if n++; n > *databaseRuns {
			return
		}
		url, c := server.Database(t, fmt.Sprint("model", n)), &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
		var all []*world
		for _, cache := range []int64{0, 1} {
			e, err := postgres.Open(context.Background(), postgres.Options{URL: url, Now: c.now, Rand: rand.Reader, Connections: 4, CacheBytes: cache})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			w := worldOn(rapidT{rt}, e, c)
			defer w.Close()
			all = append(all, w)
		}
		defer all[0].a.Attend()()
		checkModel(t, rt, all)
	})
}
