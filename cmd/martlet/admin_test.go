package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// script is what an administrator does, right and wrong.
var script = []string{
	"domain list",
	"domain add example.org",
	"domain add example.org",
	"domain add EXAMPLE.net --json",
	"domain list",
	"domain list --json",
	"account add carol@example.org --json",
	"account add dave@example.org --password-stdin",
	"account add dave@example.org",
	"account add erin@nowhere.example",
	"account add erin",
	"account add erin@example.org --quota 5MB",
	"account list",
	"account list example.net",
	"account list example.org --json",
	"account show erin@example.org",
	"account show erin@example.org --json",
	"account show nobody@example.org",
	"account quota erin@example.org 0",
	"account show erin@example.org --json",
	"account passwd dave@example.org",
	"account passwd nobody@example.org",
	"mailbox list dave@example.org",
	"mailbox list dave@example.org --json",
	"mailbox list nobody@example.org --json",
	"alias list",
	"alias add info@example.org carol@example.org dave@example.net",
	"alias add info@example.org erin@example.org --json",
	"alias add carol@example.org dave@example.org",
	"alias add @example.org carol@example.org",
	"alias add @example.org carol@example.org dave@example.org",
	"alias list",
	"alias list example.org --json",
	"domain list --json",
	"alias remove info@example.org dave@example.net",
	"alias remove info@example.org nobody@example.net",
	"alias remove info@example.org",
	"alias remove info@example.org",
	"alias remove @example.org dave@example.org",
	"alias remove @example.org",
	"alias remove @example.org",
	"queue list",
	"queue list --json",
	"queue show 3kx0v1",
	"queue show ???",
	"queue retry 3kx0v1",
	"queue retry --all",
	"queue hold --all --json",
	"queue drop --all",
	"verify",
	"account remove erin@example.org",
	"account remove erin@example.org",
	"domain remove example.org",
	"domain remove example.net",
	"domain remove example.net --json",
	"verify --json",
}

var varies = regexp.MustCompile(`[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]+Z)?|password: \S+|"password":"\S+"|"uidvalidity":[0-9]+|[0-9]{6}[a-z]{5}-(ed|rsa)`)

// play runs the script and returns everything that was printed.
func play(t *testing.T, config string) []string {
	t.Helper()
	var all []string
	for _, line := range script {
		got := command(t, "secret of dave\n", append(strings.Fields(line), "--config", config)...)
		text := fmt.Sprintf("martlet %s\n%s%s= %d", line, got.out, got.err, got.code)
		text = strings.ReplaceAll(text, filepath.Dir(config), "DIR")
		all = append(all, varies.ReplaceAllString(text, "~"))
	}
	return all
}

// TestOnlineIsOffline: the same commands have the same answers and effects, whether a
// server runs or not.
func TestOnlineIsOffline(t *testing.T) {
	offline, online := newConfig(t), newConfig(t)
	startHouse(t, online)
	cfg, _, err := loadConfigFile(online)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := dialServer(context.Background(), cfg); c == nil || err != nil {
		t.Fatalf("the server does not answer: %v", err)
	}
	a, b := play(t, offline), play(t, online)
	failures := 0
	for i := range a {
		// The one difference there must be: without a server there is no data at first.
		if i == 0 && strings.Contains(a[i], "there is no data") && strings.Contains(b[i], "there are no domains") {
			continue
		}
		if a[i] != b[i] {
			t.Errorf("offline\n%s\nonline\n%s", a[i], b[i])
		}
		if !strings.HasSuffix(a[i], "= 0") {
			failures++
		}
	}
	if failures < 10 || failures > 20 {
		t.Errorf("%d of %d commands failed; the script wants both kinds", failures, len(a))
	}
	if t.Failed() {
		return
	}
	t.Log(strings.Join(b, "\n"))
}

// startHouse serves a configuration in this process until the test ends, and returns
// the ports of its listeners.
func startHouse(t *testing.T, config string) map[string]int {
	t.Helper()
	return serveHouse(t, config, slog.New(slog.DiscardHandler), renewal{})
}

// serveHouse is startHouse with a log, and with a pace for certificates.
func serveHouse(t *testing.T, config string, log *slog.Logger, pace renewal) map[string]int {
	t.Helper()
	_, ports := runHouse(t, config, log, pace)
	return ports
}

// runHouse is serveHouse that hands out the house, too.
func runHouse(t *testing.T, config string, log *slog.Logger, pace renewal) (*house, map[string]int) {
	t.Helper()
	cfg, _, err := loadConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	doors, err := openDoors(cfg.Listen)
	if err != nil {
		t.Fatal(err)
	}
	h, err := openToServe(context.Background(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	h.renewal = pace
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- h.serve(ctx, doors, func() error { close(ready); return nil }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return h, ports(doors)
}

// TestInProcess: the transport without a socket streams, keeps the status, and lets go
// when the caller does.
func TestInProcess(t *testing.T) {
	step := make(chan struct{})
	gone := make(chan error, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stream", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, `{"n":1}`)
		<-step
		fmt.Fprintln(w, `{"n":2}`)
	})
	mux.HandleFunc("GET /endless", func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := fmt.Fprintln(w, `{"n":1}`); err != nil {
				gone <- err
				return
			}
		}
	})
	mux.HandleFunc("GET /broken", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, `{"n":1}`)
		fmt.Fprintln(w, `{"error":"it broke","kind":"corrupt"}`)
	})
	c := &client{http: &http.Client{Transport: inProcess{mux}}}
	var seen []string
	err := c.do(context.Background(), "GET", "/stream", nil, func(line json.RawMessage) error {
		seen = append(seen, string(line))
		if len(seen) == 1 {
			close(step) // the second line cannot have been written before the first was read
		}
		return nil
	})
	if err != nil || fmt.Sprint(seen) != `[{"n":1} {"n":2}]` {
		t.Errorf("stream: %v, %v", seen, err)
	}
	stop := fmt.Errorf("enough")
	if err := c.do(context.Background(), "GET", "/endless", nil, func(json.RawMessage) error { return stop }); err != stop {
		t.Errorf("endless: %v", err)
	}
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		t.Error("the handler still writes to a caller that has gone")
	}
	if err := c.do(context.Background(), "GET", "/broken", nil, nil); err == nil || describe(err) != "it broke" {
		t.Errorf("broken: %v", err)
	}
	if err := c.do(context.Background(), "GET", "/nowhere", nil, nil); err == nil {
		t.Error("a missing page is no error")
	}
}
