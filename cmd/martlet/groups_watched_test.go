package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/internal/doctor"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
)

// Whoever watches a node sees each group: whether it is up, and whether commits there wait for a
// standby. That the store is healthy is said of the home group.
func TestGroupsAreWatched(t *testing.T) {
	t.Parallel()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	first, other := pgtest.Start(t, pgtest.Options{}), pgtest.Start(t, pgtest.Options{})
	first.Database(t, "home")
	other.Database(t, "second")
	url := func(s *pgtest.Server, name string) string {
		return "postgres://postgres:notshown@" + s.Address() + "/" + name + "?sslmode=disable"
	}
	names, err := dnstest.Start("! servfail gmail.com\n")
	if err != nil {
		t.Fatal(err)
	}
	defer names.Close()
	config := filepath.Join(t.TempDir(), "martlet.toml")
	text := fmt.Sprintf("hostname = \"mail.example.org\"\ndata = \"data\"\n[store]\nengine = \"postgres\"\nurl = %q\n[queue]\nresolver = %q\n[doctor]\nntp = []\nblocklists = []\nprobe = []\nsigned = []\ndomain_lists = []\n",
		url(first, "home"), names.Addr())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := command(t, "", "cluster", "add-group", "second", "--url", url(other, "second"), "--config", config); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	lines := doctorOfGroups(t, config)
	for _, check := range []string{"database", "database second", "database-clock second"} {
		if l := lines[check]; l.Status != doctor.OK && l.Status != doctor.Warn { // the machine may be slow
			t.Errorf("%s: %+v", check, l)
		}
	}
	for _, check := range []string{"database-standby", "database-standby second"} {
		if l := lines[check]; l.Status != doctor.Warn || !strings.Contains(l.Fix, "synchronous_standby_names") {
			t.Errorf("%s: %+v", check, l)
		}
	}
	inHouse(t, config, func(h http.Handler) {
		is, figures := watch(t, h)
		if len(is.Groups) != 2 || is.Groups[0].Name != "home" || is.Groups[1].Name != "second" || is.Groups[1].State != "up" || is.Groups[1].Bytes == 0 ||
			is.Groups[1].Database == nil || is.Groups[1].Database.Name != "second" || is.Groups[1].Database.Synchronous {
			t.Errorf("%+v", is.Groups)
		}
		tells(t, figures, `martlet_group_healthy{group="home"} 1`, `martlet_group_healthy{group="second"} 1`, "martlet_store_healthy 1")
		other.Kill()
		for end := time.Now().Add(time.Minute); time.Now().Before(end) && !strings.Contains(figures, `{group="second"} 0`); time.Sleep(100 * time.Millisecond) {
			_, figures = watch(t, h)
		}
		tells(t, figures, `martlet_group_healthy{group="home"} 1`, `martlet_group_healthy{group="second"} 0`, "martlet_store_healthy 1")
		for end := time.Now().Add(time.Minute); time.Now().Before(end) && is.Groups[1].State != "down"; time.Sleep(100 * time.Millisecond) {
			is, _ = watch(t, h)
		}
		if is.State != "ready" || is.Groups[0].State != "up" || is.Groups[1].State != "down" || !strings.Contains(is.Groups[1].Down, "refused") || is.Groups[1].Database.Reachable {
			t.Errorf("%s, %+v", is.State, is.Groups)
		}
	})
	if got := command(t, "", "cluster", "groups", "--config", config); got.code != 0 || !strings.Contains(got.out, "group second is down: ") || !strings.Contains(got.out, "refused") {
		t.Errorf("%+v", got)
	}
	lines = doctorOfGroups(t, config)
	if l := lines["database second"]; l.Status != doctor.Fail || !strings.Contains(l.Why, "group second") || !strings.Contains(l.Why, "refused") || !strings.Contains(l.Fix, "group second") {
		t.Errorf("%+v", l)
	}
	if l := lines["database"]; l.Status != doctor.OK && l.Status != doctor.Warn {
		t.Errorf("%+v", l)
	}
}

// tells holds what /metrics says against what it should.
func tells(t *testing.T, figures string, want ...string) {
	t.Helper()
	for _, line := range want {
		if !strings.Contains(figures, line+"\n") {
			t.Errorf("%s is missing", line)
		}
	}
}

// doctorOfGroups returns what the doctor says of what nodes share, by check.
func doctorOfGroups(t *testing.T, config string) map[string]doctor.Line {
	t.Helper()
	all := map[string]doctor.Line{}
	for line := range strings.Lines(command(t, "", "doctor", "--json", "--config", config).out) {
		var l doctor.Line
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all[l.Check] = l
	}
	return all
}

// watch returns what a node tells of itself.
func watch(t *testing.T, h http.Handler) (is health, figures string) {
	t.Helper()
	get := func(path string) []byte {
		r, w := httptest.NewRequest("GET", "http://mx.example.org"+path, nil), httptest.NewRecorder()
		r.RemoteAddr = "127.0.0.1:5"
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK || strings.Contains(w.Body.String(), "notshown") {
			t.Fatalf("%s: %d\n%s", path, w.Code, w.Body)
		}
		return w.Body.Bytes()
	}
	if err := json.Unmarshal(get("/health.json"), &is); err != nil {
		t.Fatal(err)
	}
	get("/health")
	return is, string(get("/metrics"))
}
