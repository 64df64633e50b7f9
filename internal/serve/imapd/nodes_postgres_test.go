package imapd

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/store"
)

var (
	databaseRuns = flag.Int("sessions.database", 2, "how many runs TestSessionsAgreeOnDatabase makes")
	databaseAll  = flag.Bool("transcripts.database", false, "run all transcripts of several clients on a database, not some")
)

// onDatabases are the transcripts that run on a database in any case.
var onDatabases = map[string]bool{
	"idle": true, "expunge_waits": true, "qresync": true, "three_clients": true, "notify": true, "context_notify": true, "deleted": true,
	"shared_write": true, "delete_selected": true, "metadata": true, "store": true,
}

// onDatabase returns a world of three nodes, each with an engine of its own, on one database.
func onDatabase(t testing.TB, server *pgtest.Server, name string, keep store.Keep) *world {
	t.Helper()
	url := server.Database(t, name)
	var engines []engine.Engine
	for i := range 3 {
		e, err := postgres.Open(context.Background(), postgres.Options{
			URL: url, Now: time.Now, Rand: rand.Reader, Connections: 4, Node: fmt.Sprint("node", i), Patience: patience,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		engines = append(engines, e)
	}
	return worldOf(t, engines, keep)
}

func needsDatabase(t *testing.T) *pgtest.Server {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	return pgtest.Start(t, pgtest.Options{})
}

// The transcripts in which several clients meet, on PostgreSQL, each client on a node of its
// own.
func TestTranscriptsOnDatabase(t *testing.T) {
	server := needsDatabase(t)
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts:", err)
	}
	n := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\nB> ") || strings.Contains(string(text), "\nremove ") {
			continue
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if !onDatabases[name] && !*databaseAll {
			continue
		}
		n++
		t.Run(name, func(t *testing.T) {
			keep := store.Keep{}
			if strings.Contains(string(text), "\nkeep\n") {
				keep.For = 30 * 24 * time.Hour
			}
			w := onDatabase(t, server, "t"+fmt.Sprint(n), keep)
			w.recents = recentElsewhere[name]
			w.run(file)
		})
	}
	if n < 10 {
		t.Errorf("only %d transcripts have several clients", n)
	}
}

// The sessions of a story agree on PostgreSQL as they do elsewhere.
func TestSessionsAgreeOnDatabase(t *testing.T) {
	server := needsDatabase(t)
	for i := range uint64(*databaseRuns) {
		seed := *sessionSeed + i
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			keep := store.Keep{}
			if seed%2 == 1 {
				keep.For = 30 * 24 * time.Hour
			}
			s := &story{
				t: t, w: onDatabase(t, server, fmt.Sprint("s", seed), keep), keep: keep.For > 0,
				rng:  mrand.New(mrand.NewPCG(seed, 3)),
				file: filepath.Join(os.TempDir(), fmt.Sprintf("martlet-database-%d.txt", seed)),
			}
			s.play(2+s.rng.IntN(9), 120)
			if lost := s.lost(); s.keep && lost != 0 {
				s.failf("%d messages are neither in a mailbox nor kept", lost)
			}
		})
	}
}

// What commands cost of round trips to the database, of an account that others may change.
func TestTripsOnDatabase(t *testing.T) {
	w := onDatabase(t, needsDatabase(t), "trips", store.Keep{})
	for i := range 20 {
		w.deliver("INBOX", message(fmt.Sprint("m", i)), 0)
	}
	stats := w.others[0].eng.(*postgres.Engine).Stats()
	trips := func() int64 {
		return stats.Reads.Load() + stats.Proofs.Load() - stats.Looks.Load() + stats.Snapshots.Load() + stats.Loads.Load() + stats.RowLocks.Load() + stats.Blobs.Load()
	}
	c, other := w.login("A", ""), w.login("C", "") // on one node
	other.command(t, "SELECT INBOX")
	for _, one := range []struct {
		command string
		most    int64
	}{
		{"SELECT INBOX", 1}, {"NOOP", 1}, {"FETCH 1:* (UID FLAGS)", 1}, {"UID FETCH 5 (ENVELOPE BODY.PEEK[])", 1}, {"UID SEARCH UNSEEN", 1},
		{`STORE 3 +FLAGS (\Flagged)`, 2}, {`UID STORE 4 +FLAGS.SILENT (\Seen)`, 2}, {"STATUS Archive (MESSAGES UNSEEN)", 2}, {"UID COPY 7 Archive", 4},
		{"UID MOVE 8 Archive", 4}, {`LIST "" *`, 4},
	} {
		least := int64(100)
		for range 3 { // the first fills what a node remembers; a look that nobody asked for may come between
			if one.command == "SELECT INBOX" {
				c.command(t, "UNSELECT")
			}
			before := trips()
			if _, tagged := c.command(t, one.command); !strings.HasPrefix(tagged, "zz OK") {
				t.Fatal(tagged)
			}
			least = min(least, trips()-before)
		}
		t.Logf("%-40s %d", one.command, least)
		if least > one.most {
			t.Errorf("%s takes %d round trips, the bound is %d", one.command, least, one.most)
		}
	}
}
