package main

import (
	"context"
	_ "embed"
	"errors"
	"html/template"
	"net/http"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// How a node is, for those who look after it: a page for people and the same as JSON. It
// names machines, and nobody who has mail.

// health is what both tell. Its JSON is public interface.
type health struct {
	Node     string          `json:"node"`
	Version  string          `json:"version"`
	State    string          `json:"state"` // ready, draining or not ready
	Problem  string          `json:"problem,omitempty"`
	Time     time.Time       `json:"time"`
	Started  time.Time       `json:"started"`
	Store    storeHealth     `json:"store"`
	Queue    queueHealth     `json:"queue"`
	Sessions sessionsHealth  `json:"sessions"`
	Groups   []groupHealth   `json:"groups,omitempty"` // of databases; none: there is one
	Nodes    []nodeHealth    `json:"nodes,omitempty"`  // that share the store, this one among them
	Engine   []engineCounter `json:"engine,omitempty"`
}

type storeHealth struct {
	Engine   string         `json:"engine"`
	Bytes    int64          `json:"bytes,omitempty"`
	Database *databaseFacts `json:"database,omitempty"`
	Objects  *objectsFacts  `json:"objects,omitempty"` // the object store; none: bodies are in the database
}

type queueHealth struct {
	Messages int    `json:"messages"`
	Held     int    `json:"held"`
	Sending  int    `json:"sending"`
	Problem  string `json:"problem,omitempty"`
}

type sessionsHealth struct {
	Open     int   `json:"open"`
	Accepted int64 `json:"accepted"`
	Refused  int64 `json:"refused"`
}

// groupHealth is one of several databases that accounts are spread over.
type groupHealth struct {
	Name     string         `json:"name"`
	State    string         `json:"state"` // up, standby (it takes no writes) or down
	Accounts int64          `json:"accounts"`
	Bytes    int64          `json:"bytes"`
	Full     bool           `json:"full,omitempty"`     // takes no new accounts
	Down     string         `json:"down,omitempty"`     // why it cannot be used
	Database *databaseFacts `json:"database,omitempty"` // none: it was not seen
}

// nodeHealth is a node as its own beats tell of it.
type nodeHealth struct {
	Name    string    `json:"name"`
	Number  uint64    `json:"number"`
	State   string    `json:"state"`
	Here    bool      `json:"here,omitempty"`
	Version string    `json:"version"`
	Leases  []string  `json:"leases"`
	Last    time.Time `json:"last_beat"`
}

// engineCounter is something that the engine has counted since the start.
type engineCounter struct {
	Name  string `json:"name"`
	Value int64  `json:"value"`
}

// readyAfter is how long a database may be away until a node is told to be not ready: all
// nodes have the same one, and a short gap passes sooner than clients find another node.
const readyAfter = 5 * time.Second

// vitals looks at the house from time to time, and remembers for a moment what it has seen:
// whoever asks often costs no more than whoever asks every two seconds.
type vitals struct {
	house    *house
	sessions *netsrv.Server
	started  time.Time
	now      func() time.Time

	mu   sync.Mutex
	away time.Time // since when the store takes no mail; zero: it does

	looking sync.Mutex
	seen    health
	at      time.Time
}

func newVitals(h *house, sessions *netsrv.Server) *vitals {
	return &vitals{house: h, sessions: sessions, started: time.Now(), now: time.Now}
}

var errDraining = errors.New("the node is draining")

// ready returns nil if clients are welcome here.
func (v *vitals) ready() error {
	if v.house.draining() {
		return errDraining
	}
	err := v.house.engine.Healthy()
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case err == nil:
		v.away = time.Time{}
		return nil
	case v.away.IsZero():
		v.away = v.now()
	}
	if shared(v.house.cfg) && v.now().Sub(v.away) < readyAfter {
		return nil
	}
	return err
}

// watch keeps asking, so that how long the store is away does not depend on who asks.
func (v *vitals) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		_ = v.ready()
	}
}

// healthFresh is how long a look is good for.
const healthFresh = 2 * time.Second

// look returns how the node is.
func (v *vitals) look(ctx context.Context) health {
	v.looking.Lock()
	defer v.looking.Unlock()
	if now := v.now(); v.at.IsZero() || now.Sub(v.at) >= healthFresh {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookWait+time.Second)
		defer cancel()
		v.seen, v.at = v.examine(ctx), now
	}
	h := v.seen
	h.State, h.Problem = "ready", ""
	switch err := v.ready(); {
	case errors.Is(err, errDraining):
		h.State = "draining"
	case err != nil:
		h.State, h.Problem = "not ready", "the store does not take mail"
	}
	return h
}

// examine asks all that there is.
func (v *vitals) examine(ctx context.Context) health {
	h, s := v.house, v.sessions.Stats()
	out := health{
		Node: nodeName(h.cfg), Version: thisBuild().Version, Time: v.now().UTC(), Started: v.started.UTC(),
		Store:    storeHealth{Engine: h.cfg.Store.Engine, Bytes: h.engine.Size()},
		Sessions: sessionsHealth{Open: s.Open, Accepted: s.Accepted, Refused: s.Refused},
		Engine:   h.engineCounters(),
	}
	if shared(h.cfg) {
		var wg sync.WaitGroup
		wg.Go(func() { out.Groups = h.groupsHealth(ctx); out.Store.Database = out.Groups[0].Database })
		wg.Go(func() { out.Store.Objects = h.lookAtObjects(ctx) })
		wg.Go(func() { out.Nodes = h.nodesHealth(ctx) })
		wg.Wait()
		if len(out.Groups) == 1 {
			out.Groups = nil
		}
		if !out.Store.Database.Reachable {
			out.Queue.Problem = "the database is away"
			return out
		}
		h.fillGroups(ctx, out.Groups)
	}
	n, err := h.queue.Count(ctx)
	if err != nil {
		out.Queue.Problem = "the queue cannot be counted"
	}
	out.Queue.Messages, out.Queue.Held, out.Queue.Sending = n.Messages, n.Held, n.Sending
	return out
}

//go:embed health.html
var healthPage string

// pages adds both to what http listeners answer.
func (v *vitals) pages(mux *http.ServeMux) {
	page := template.Must(template.New("health").Funcs(template.FuncMap{"bytes": bytesText}).Parse(healthPage))
	mux.Handle("GET /health", trustedOnly(v.house.cfg.Trusted, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		_ = page.Execute(w, v.look(r.Context())) // the client has gone if this fails
	})))
	mux.Handle("GET /health.json", trustedOnly(v.house.cfg.Trusted, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = printJSON(w, v.look(r.Context()))
	})))
}
