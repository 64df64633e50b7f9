// Package admin is the administration of a server as an HTTP handler: domains,
// accounts, aliases, mailboxes, the queue, verification, backups and sweeping, over the store,
// the directory and the queue.
//
// It has one form for all ways in. A running server answers it on a unix socket in its
// data folder; a command that finds no server opens the data folder and calls the
// handler in-process. So no change needs a restart, and none needs a server.
//
// Requests and answers are JSON; lists and streams are one object a line. The answers
// are what commands print with --json, so the field names are public interface.
//
// The package authenticates nobody: who may open the socket (its user, and root) may
// do everything. It must not be put on a network.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path"
	"time"

	"github.com/martlet-mail/martlet/internal/backup"
	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/link"
	"github.com/martlet-mail/martlet/internal/node"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/report"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/trace"
)

// Options are what the handler works on. All but Version and Log must be given.
type Options struct {
	Store     *store.Store
	Directory *directory.Directory
	Queue     *queue.Queue
	Allowance *queue.Allowance // may be nil
	Trace     *trace.Book      // nil: no stories are kept
	Reports   *report.Book     // nil: there are none
	Links     *link.Links      // nil: there are none
	Groups    Groups           // nil: the store is on one machine
	Node      *node.Node       // nil: the store is shared with nobody
	Files     Files            // nil: nothing is known of files
	Backup    backup.House     // the same, as backups see it
	Names     Names            // zero: nothing is known of the DNS
	// Work takes a turn at the processors for an account, which the context carries, until the
	// function is called: long work for one does not hold up others. nil: there are none.
	Work    func(ctx context.Context, account string) (context.Context, func())
	Version string
	Log     *slog.Logger // nil: discard
	Now     func() time.Time
	Rand    io.Reader // for passwords
	PID     int       // of this process
}

// Files reads every file of the store and reports those that are not as they were written.
type Files func(ctx context.Context, report func(file, what string)) error

// maxBody bounds a request's body, in bytes.
const maxBody = 1 << 20

// New returns the handler.
func New(o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &api{Options: o, started: o.Now()}
	mux := http.NewServeMux()
	for _, calls := range []map[string]handler{
		a.domainCalls(), a.accountCalls(), a.aliasCalls(), a.queueCalls(), a.careCalls(),
		a.moveCalls(), a.linkCalls(), a.groupCalls(), a.nodeCalls(),
	} {
		for pattern, h := range calls {
			mux.Handle(pattern, a.wrap(h))
		}
	}
	mux.Handle("/", a.wrap(func(*request) error {
		return fault.New(fault.NotFound, "no such call; is the server older than this command?")
	}))
	return unclean(mux, a.wrap(func(*request) error {
		return fault.New(fault.NotFound, "there is nothing of that name")
	}))
}

// unclean answers requests whose path leads upwards. The router would send them on to where
// it leads, so that a name such as ../domains/example.org were no name but a path.
func unclean(next, refuse http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path.Clean(r.URL.Path) != r.URL.Path {
			refuse.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

type api struct {
	Options
	started time.Time
}

// handler answers one request. An error that it returns is the answer, or the last
// line of a stream that has begun.
type handler func(*request) error

// request is one call under way.
type request struct {
	*http.Request
	ctx   context.Context
	w     http.ResponseWriter
	whole io.Reader // the body without its bound, for a call that bounds what it keeps of it
	sent  bool
}

func (a *api) wrap(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		whole := r.Body
		r.Body = http.MaxBytesReader(w, whole, maxBody)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store") // answers hold passwords
		req := &request{Request: r, ctx: r.Context(), w: w, whole: whole}
		err := h(req)
		if err == nil {
			return
		}
		if fault.Of(err) == fault.Internal {
			a.Log.Error("administration failed", "call", r.Method+" "+r.URL.Path, "err", err)
		}
		if !req.sent {
			w.WriteHeader(statusOf(fault.Of(err)))
		}
		_ = req.send(failureOf(err)) // the caller has gone if this fails
	})
}

// read decodes the body, which must have no unknown fields.
func (r *request) read(v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fault.Wrap(fault.Invalid, "the request's body is not the JSON expected", err)
	}
	return nil
}

// send writes one line of the answer.
func (r *request) send(v any) error {
	r.sent = true
	e := json.NewEncoder(r.w)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return unsent(err)
	}
	return nil
}

// unsent is the fault of a line that was not sent: the caller has gone, unless there is no
// JSON for it, which is the same however often he asks.
func unsent(err error) error {
	var wrong *json.MarshalerError
	var kind *json.UnsupportedTypeError
	var value *json.UnsupportedValueError
	if errors.As(err, &wrong) || errors.As(err, &kind) || errors.As(err, &value) {
		return fault.Wrap(fault.Internal, "what was asked for cannot be written down", err)
	}
	return fault.Wrap(fault.Closed, "the caller has gone", err)
}

// flush lets a reader of a slow stream see what has been sent.
func (r *request) flush() {
	if f, ok := r.w.(http.Flusher); ok {
		f.Flush()
	}
}

// address reads the address in the path.
func (r *request) address() (mail.Address, error) { return parseAddress(r.PathValue("address")) }

func parseAddress(s string) (mail.Address, error) {
	addr, err := mail.ParseAddress(s)
	if err != nil {
		return addr, fault.New(fault.Invalid, err.Error())
	}
	if addr.Domain == "" {
		return addr, fault.Newf(fault.Invalid, "%q has no domain; write it as name@domain", s)
	}
	return addr, nil
}

func parseDomain(s string) (string, error) {
	name, err := mail.ParseDomain(s)
	if err != nil {
		return "", fault.New(fault.Invalid, err.Error())
	}
	return name, nil
}
