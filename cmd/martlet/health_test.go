package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// moody is an engine that is well or is not.
type moody struct {
	keeper
	err error
}

func (m *moody) Healthy() error { return m.err }

var _ engine.Engine = (*moody)(nil)

// A node is not ready at once where its store is its own, and after some seconds where it is
// one that all nodes share; it is ready again as soon as the store is.
func TestReadyGrace(t *testing.T) {
	for name, grace := range map[string]bool{"pebble": false, "postgres": true} {
		e := &moody{}
		h := &house{cfg: conf.Default(), engine: e, log: slog.New(slog.DiscardHandler)}
		h.cfg.Store.Engine = name
		clock := time.Unix(1_800_000_000, 0)
		v := &vitals{house: h, now: func() time.Time { return clock }}
		step := func(forward time.Duration, err error, ready bool) {
			t.Helper()
			clock, e.err = clock.Add(forward), err
			if got := v.ready(); (got == nil) != ready {
				t.Errorf("%s: ready says %v, want ready %v", name, got, ready)
			}
		}
		away := errors.New("away")
		step(0, nil, true)
		step(time.Second, away, grace)
		step(readyAfter-time.Second, away, grace)
		step(time.Second, away, false)
		step(time.Minute, nil, true)
		step(time.Second, away, grace) // counted anew
		step(readyAfter, away, false)
	}
}

// The health pages say how the node is, to trusted networks only, and name nobody who has
// mail.
func TestHealthPages(t *testing.T) {
	config := newConfig(t)
	for _, args := range []string{"domain add example.org", "account add carol@example.org"} {
		if got := command(t, "", append(strings.Fields(args), "--config", config)...); got.code != 0 {
			t.Fatalf("%+v", got)
		}
	}
	inHouse(t, config, func(h http.Handler) {
		get := func(path, peer string) *httptest.ResponseRecorder {
			r, w := httptest.NewRequest("GET", "http://mx.example.org"+path, nil), httptest.NewRecorder()
			r.RemoteAddr = peer
			h.ServeHTTP(w, r)
			return w
		}
		for _, path := range []string{"/health", "/health.json"} {
			if w := get(path, "192.0.2.1:5"); w.Code != http.StatusForbidden {
				t.Errorf("%s tells a stranger: %d", path, w.Code)
			}
			w := get(path, "127.0.0.1:5")
			body := w.Body.String()
			if w.Code != 200 || !strings.Contains(body, "ready") || strings.Contains(body, "carol") || strings.Contains(body, "example.org") {
				t.Errorf("%s: %d\n%s", path, w.Code, body)
			}
			for _, outside := range []string{"http:", "https:", "<script", "src=", "<link"} {
				if strings.Contains(body, outside) {
					t.Errorf("%s has %q", path, outside)
				}
			}
		}
		var is health
		if err := json.Unmarshal(get("/health.json", "[::1]:5").Body.Bytes(), &is); err != nil || is.State != "ready" || is.Store.Engine != "pebble" || is.Node == "" || is.Store.Database != nil {
			t.Errorf("%+v, %v", is, err)
		}
	})
}

// The page says everything that there is to say of a node among others.
func TestHealthPageOfACluster(t *testing.T) {
	cfg := conf.Default()
	h := &house{cfg: cfg, engine: &moody{}, log: slog.New(slog.DiscardHandler)}
	v := newVitals(h, netsrv.New(netsrv.Options{}))
	v.seen, v.at = health{
		Node: "mx1", Version: "1.2", Store: storeHealth{Engine: "postgres", Database: &databaseFacts{Reachable: true, Host: "10.0.0.1:5432", Name: "martlet", LatencyMS: 0.4, Standbys: 2, InStep: 1, Synchronous: true},
			Objects: &objectsFacts{Endpoint: "s3.example.org", Bucket: "bodies", Problem: "it does not answer"}},
		Groups: []groupHealth{{Name: "home", State: "up", Accounts: 3, Database: &databaseFacts{Reachable: true}}, {Name: "two", State: "down", Down: "it cannot be reached"},
			{Name: "three", State: "up", Database: &databaseFacts{Reachable: true, Commit: "on", Names: "FIRST 1 (x)"}}},
		Nodes:  []nodeHealth{{Name: "mx1", State: "up", Here: true, Leases: []string{"queue 0", "reports"}}, {Name: "<mx2>", State: "silent"}},
		Engine: []engineCounter{{"round trips", 17}},
	}, time.Now().Add(time.Hour)
	mux := http.NewServeMux()
	v.pages(mux)
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/health", nil)
	r.RemoteAddr = "127.0.0.1:5"
	mux.ServeHTTP(w, r)
	for _, want := range []string{"mx1 (this one)", "10.0.0.1:5432", "0.4 ms", `<span class="ok">yes</span>, 1 of 2`, "it does not answer", "queue 0, reports", "&lt;mx2&gt;", `<td>two</td>`, "it cannot be reached", `>up</span></td><td><span class="soft">no</span>`, `class="bad">down`, `none confirms commits</span>, which wait for FIRST 1 (x)`, `class="bad">silent`, "round trips"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%q is missing in\n%s", want, w.Body)
		}
	}
}

// All that the engine counts is told, under names of its own.
func TestEngineFigures(t *testing.T) {
	var s postgres.Stats
	all := databaseFigures(&s)
	seen := map[string]bool{}
	for _, f := range all {
		if seen[f.name] || !strings.HasSuffix(f.help, ".") {
			t.Errorf("%q: %q", f.name, f.help)
		}
		seen[f.name] = true
	}
	counters := 0
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue
		}
		counters++
		v.Field(i).Addr().Interface().(*atomic.Int64).Store(1)
	}
	sum := int64(0)
	for _, f := range all {
		sum += f.value()
	}
	if sum != int64(counters) || len(all) != counters {
		t.Errorf("%d figures tell of %d of %d counters", len(all), sum, counters)
	}
}

// What is wrong with a database is said, and no password with it.
func TestDatabaseProblems(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://martlet:hidden@127.0.0.1:1/m?sslmode=disable": "refused",
		"postgres://martlet:hidden%@127.0.0.1/m":                  "not one that can be used",
		"postgres://martlet:hidden@127.0.0.1:x/m":                 "not one that can be used",
	} {
		f := lookAtDatabase(t.Context(), url)
		if f.Reachable || !strings.Contains(f.Problem, want) || strings.Contains(f.Problem, "hidden") {
			t.Errorf("%s: %+v", url, f)
		}
	}
}

// Whoever cannot use its database is told why, and no password.
func TestNoPasswordIsTold(t *testing.T) {
	config := filepath.Join(t.TempDir(), "martlet.toml")
	for _, more := range []string{"", "[blobs]\nengine = \"s3\"\nendpoint = \"http://127.0.0.1:1\"\nbucket = \"bodies\"\naccess_key = \"key\"\nsecret_key = \"hidden\"\n"} {
		text := "hostname = \"mail.example.org\"\ndata = \"data\"\n[store]\nengine = \"postgres\"\nurl = \"postgres://martlet:hidden@127.0.0.1:1/m?sslmode=disable\"\npatience = \"1s\"\n" + more
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for args, says := range map[string]string{"domain list": "refused", "config show": "martlet:********@127.0.0.1:1/m", "store copy --from pebble --to postgres": "there is no store"} {
			got := command(t, "", append(strings.Fields(args), "--config", config)...)
			if !strings.Contains(got.out+got.err, says) || strings.Contains(got.out+got.err, "hidden") {
				t.Errorf("martlet %s: %+v", args, got)
			}
		}
	}
}

// What goes over a network in the clear is warned of.
func TestOpenDatabase(t *testing.T) {
	for at, want := range map[string]bool{
		"postgres://m:x@127.0.0.1/m?sslmode=disable": false, "postgres://m:x@db.example.org/m?sslmode=disable": true, "postgres://m:x@db.example.org/m": true,
		"postgres://m:x@db.example.org/m?sslmode=require": false, "postgres:///m?host=/run/postgresql": false, "postgres://m:x@127.0.0.1,db2/m?sslmode=disable": true,
	} {
		if got := openDatabase(at); got != want {
			t.Errorf("%s: %v, want %v", at, got, want)
		}
	}
	for at, want := range map[string]bool{"http://127.0.0.1:7070": true, "http://localhost": true, "http://s3.example.org": false} {
		if got := localHost(at); got != want {
			t.Errorf("%s: %v, want %v", at, got, want)
		}
	}
}

// A look at a database that is there.
func TestLookAtDatabase(t *testing.T) {
	d := startDatabase(t)
	f := lookAtDatabase(t.Context(), d.url())
	if !f.Reachable || f.Name != "martlet" || f.Synchronous || f.Standbys != 0 || f.LatencyMS <= 0 || !strings.HasPrefix(f.Version, "1") || f.clock.Abs() > f.slack+time.Minute {
		t.Errorf("%+v", f)
	}
}
