package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/carry"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
)

// meanwhile runs something when a copy first shows how far it is.
type meanwhile struct{ do func() }

func (m *meanwhile) Write(p []byte) (int, error) {
	if do := m.do; do != nil {
		m.do = nil
		do()
	}
	return len(p), nil
}

// memorySide is a store in memory with some records, and goes by the name of any engine.
func memorySide(t *testing.T, name, where string, records int) *side {
	t.Helper()
	e, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	for i := range records {
		if err := e.Update(t.Context(), 1000, func(w engine.Writer) error { return w.Put(fmt.Append(nil, i), []byte("mail")) }); err != nil {
			t.Fatal(err)
		}
	}
	return &side{name: name, where: where, engine: e}
}

func copyBetween(t *testing.T, from, to *side, during func()) *storeCopy {
	t.Helper()
	cfg := &conf.Config{Data: conf.Path(t.TempDir())}
	cfg.Cluster.Node, cfg.Cluster.Lease = "mx1", conf.Duration(time.Second)
	return &storeCopy{cfg: cfg, from: from, to: to, screen: &copyScreen{json: true, out: &meanwhile{during}, err: io.Discard}}
}

func open(t *testing.T, s *side) bool {
	t.Helper()
	return mayServe(t.Context(), s.engine, s.name) == nil
}

// A copy that is refused leaves the mark of the one that is under way.
func TestARefusedCopyDoesNotOpenTheSource(t *testing.T) {
	from, to, full := memorySide(t, "postgres", "db", 3), memorySide(t, "pebble", "a", 0), memorySide(t, "pebble", "b", 1)
	first := copyBetween(t, from, to, func() {
		if err := copyBetween(t, from, full, nil).run(t.Context()); err == nil || !strings.Contains(err.Error(), "is not empty") {
			t.Errorf("a copy into a store that is not empty: %v", err)
		}
		if open(t, from) {
			t.Error("servers may work on a store that is being copied")
		}
	})
	if err := first.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if open(t, from) || !open(t, to) {
		t.Errorf("after a copy the source is open: %v, the target: %v", open(t, from), open(t, to))
	}
}

// A copy of a store that was opened again meanwhile is not the one that goes on.
func TestReopenedWhileItIsCopied(t *testing.T) {
	from, to := memorySide(t, "postgres", "db", 3), memorySide(t, "pebble", "a", 0)
	err := copyBetween(t, from, to, func() {
		if err := setMark(t.Context(), from.engine, sourceKey, nil); err != nil {
			t.Error(err)
		}
	}).run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "opened for servers again") {
		t.Errorf("the copy ends with %v", err)
	}
	if !open(t, from) || open(t, to) {
		t.Errorf("the source is open: %v, the target: %v", open(t, from), open(t, to))
	}
	if err := copyBetween(t, from, to, nil).run(t.Context()); err != nil || open(t, from) || !open(t, to) {
		t.Errorf("another run: %v; the source is open: %v, the target: %v", err, open(t, from), open(t, to))
	}
}

// Of two copies of one store at a time one goes on.
func TestTwoCopiesOfOneStore(t *testing.T) {
	from, a, b := memorySide(t, "postgres", "db", 3), memorySide(t, "pebble", "a", 0), memorySide(t, "pebble", "b", 0)
	err := copyBetween(t, from, a, func() {
		if err := copyBetween(t, from, b, nil).run(t.Context()); err != nil {
			t.Error(err)
		}
	}).run(t.Context())
	if err == nil || open(t, from) || open(t, a) || !open(t, b) {
		t.Errorf("the first ends with %v; open: source %v, first %v, second %v", err, open(t, from), open(t, a), open(t, b))
	}
}

// A run that ended after its proof and before its target was opened is gone on with, and
// with no other target.
func TestCutShortAfterTheProof(t *testing.T) {
	from, to, other := memorySide(t, "postgres", "db", 3), memorySide(t, "pebble", "a", 0), memorySide(t, "pebble", "b", 0)
	cut := errors.New("cut short")
	run := func(to *side, proved func(ctx context.Context, c *storeCopy) error) {
		c := copyBetween(t, from, to, nil)
		_, err := carry.Copy(t.Context(), from.engine, to.engine, carry.Options{Source: from.where, Leave: passing, Proved: func(ctx context.Context) error {
			return errors.Join(proved(ctx, c), cut)
		}})
		if err == nil || err.Error() != cut.Error() {
			t.Fatal(err)
		}
	}
	run(other, func(ctx context.Context, _ *storeCopy) error { // whose proof was taken back
		return setMark(ctx, other.engine, provedKey, []byte("another run"))
	})
	run(to, func(ctx context.Context, c *storeCopy) error {
		mark, _, err := c.begin(ctx)
		if err == nil {
			_, err = c.prove(ctx, mark)
		}
		return err
	})
	if open(t, from) || open(t, to) {
		t.Errorf("the source is open: %v, the target: %v", open(t, from), open(t, to))
	}
	if err := copyBetween(t, from, other, nil).run(t.Context()); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a copy to another target: %v", err)
	}
	if err := copyBetween(t, from, to, nil).run(t.Context()); err != nil || open(t, from) || !open(t, to) {
		t.Errorf("another run: %v; the source is open: %v, the target: %v", err, open(t, from), open(t, to))
	}
}

// Whoever only looks hears of an object store that cannot be used, whichever side has it.
func TestALookTriesTheObjectStore(t *testing.T) {
	for _, refusal := range []struct {
		status     int
		code, says string
	}{{403, "SignatureDoesNotMatch", "[blobs]"}, {404, "NoSuchBucket", "bucket bodies"}} {
		asked := 0
		s3 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked++
			w.WriteHeader(refusal.status)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", refusal.code)
		}))
		defer s3.Close()
		cfg := conf.Default()
		cfg.Blobs.Engine, cfg.Blobs.Endpoint, cfg.Blobs.Bucket, cfg.Blobs.AccessKey, cfg.Blobs.SecretKey = "s3", s3.URL, "bodies", "key", "hidden"
		h := &house{cfg: cfg, log: slog.New(slog.DiscardHandler)}
		if _, err := h.openObjects(time.Second); err != nil {
			t.Fatal(err)
		}
		defer h.leave()
		from, to := memorySide(t, "pebble", "a", 3), memorySide(t, "postgres", "db", 0)
		for _, sides := range [][2]*side{{from, to}, {to, from}} {
			c := copyBetween(t, sides[0], nil, nil)
			if sides[1] == to { // else there is no folder yet
				c.to = to
			}
			to.house = nil
			if err := c.look(t.Context()); err != nil {
				t.Errorf("without an object store: %v", err)
			}
			to.house, asked = h, 0
			if err := c.look(t.Context()); err == nil || !strings.Contains(err.Error(), refusal.says) || asked == 0 || strings.Contains(err.Error(), "hidden") {
				t.Errorf("%s: %v", refusal.code, err)
			}
		}
	}
}

// A configuration that names both stores is one for a copy, whichever engine it says.
func TestAConfigurationOfBothStores(t *testing.T) {
	config := filepath.Join(t.TempDir(), "martlet.toml")
	for _, more := range []string{"", "[blobs]\nengine = \"s3\"\nendpoint = \"http://127.0.0.1:1\"\nbucket = \"bodies\"\naccess_key = \"key\"\nsecret_key = \"hidden\"\n"} {
		for _, says := range []string{"", "engine = \"pebble\"\n", "engine = \"postgres\"\n"} {
			text := "hostname = \"mail.example.org\"\n[store]\nurl = \"postgres://martlet:hidden@127.0.0.1:1/m\"\n" + says + more
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, args := range []string{"store copy --from pebble --to postgres", "store reopen pebble"} {
				if got := command(t, "", append(strings.Fields(args), "--config", config)...); got.code != 1 || !strings.Contains(got.err, "there is no store in") {
					t.Errorf("martlet %s with %q: %+v", args, says, got)
				}
			}
		}
	}
	if got := command(t, "", "config", "check", config); got.code != 0 {
		t.Errorf("%+v", got)
	}
}
