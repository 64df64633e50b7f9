package former

import (
	"context"
	"encoding/json"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/imapsource"
)

// Fetching is who fetches mail from former servers, with the password of a login and for as
// long as it takes. Nothing secret is kept: what was cut short, by a restart say, goes on at
// the next login with the password, and so does what has come since.
type Fetching struct {
	Targets func(id mail.AccountID) move.Target
	Spool   move.Options // of which Now, Wait and Spool count
	Version string       // of Martlet
	Places  int          // mailboxes that are fetched at a time
	// Link makes a link that keeps an account in step with its former server; nil: accounts of
	// domains that want one are fetched like others.
	Link func(ctx context.Context, account directory.Account, at Server, user, password string) error
}

// again is how old the last look at a former server must be before a login has it looked at
// once more.
const again = 15 * time.Minute

// fetcher is the fetching under way.
type fetcher struct {
	Fetching
	s      *Servers
	places chan struct{}
	ctx    context.Context
	stop   context.CancelFunc
	all    sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	going   map[mail.AccountID]bool
	resting map[mail.AccountID]time.Time // when there is to be no look before
}

// progress is what is kept of it in the account.
type progress struct {
	Server string    `json:"server"`
	User   string    `json:"user"`
	State  string    `json:"state"` // fetching, fetched, linked, refused
	Last   time.Time `json:"last"`  // when a look at all of it came to its end
	Why    string    `json:"why,omitempty"`
	// Version is of the password that has arrived: no other is for that server. nil: an
	// earlier version of Martlet has not noted it.
	Version *uint64 `json:"version,omitempty"`
}

// States of it.
const (
	fetching = "fetching"
	fetched  = "fetched"
	linked   = "linked"  // a link does it
	refused  = "refused" // the password is not taken there any more: it is not tried again
)

// progressBox is under which name it is kept.
var progressBox = move.Box{Source: "first-login"}

func newFetcher(ctx context.Context, s *Servers, f Fetching) *fetcher {
	ctx, stop := context.WithCancel(ctx)
	return &fetcher{Fetching: f, s: s, places: make(chan struct{}, max(1, f.Places)), ctx: ctx, stop: stop,
		going: map[mail.AccountID]bool{}, resting: map[mail.AccountID]time.Time{}}
}

// close ends what is under way, and waits for it.
func (f *fetcher) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.stop()
	f.all.Wait()
}

// job is one account's.
type job struct {
	account directory.Account
	at      directory.Origin
	user    string
	with    directory.Typed
	first   bool
}

// start begins a job, unless it is under way or there is nothing to do for a while.
func (f *fetcher) start(j job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, now := j.account.ID, f.s.opt.Now()
	until := f.resting[id]
	if f.closed || f.going[id] || !j.first && now.Before(until) && until.Sub(now) <= again {
		return
	}
	if len(f.resting) > 100_000 {
		clear(f.resting)
	}
	f.going[id], f.resting[id] = true, now.Add(again)
	f.all.Go(func() {
		defer func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.going, id)
		}()
		defer f.survive(id)
		f.run(j)
	})
}

// survive has a defect of the program end a job, and not the server.
func (f *fetcher) survive(id mail.AccountID) {
	if p := recover(); p != nil {
		f.s.opt.Log.Error("fetching mail met a defect of the program; it is tried again at a later login", "id", id, "panic", p, "stack", string(debug.Stack()))
	}
}

// run fetches an account's mail, if it is one that has come by a first login.
func (f *fetcher) run(j job) {
	log := f.s.opt.Log.With("account", j.account.Address.String(), "server", j.at.Server)
	to := f.Targets(j.account.ID)
	p, due, err := f.due(to, j)
	if err != nil || !due {
		if err != nil {
			log.Warn("what is to be fetched could not be looked up", "err", err)
		}
		return
	}
	if err := f.keep(to, p); err != nil {
		log.Warn("mail is not fetched", "err", err)
		return
	}
	select {
	case f.places <- struct{}{}:
		defer func() { <-f.places }()
	case <-f.ctx.Done():
		return
	}
	if j.at.Link && f.Link != nil && j.first {
		f.link(log, to, j, p)
		return
	}
	if p.State != fetched {
		log.Info("fetching mail")
	}
	report, err := f.bring(to, j, p.State == fetched, log)
	switch {
	case f.ctx.Err() != nil:
		log.Info("fetching mail is cut short; it goes on at the next login")
		return
	case imapc.ProblemOf(err) == imapc.BadLogin:
		p.State, p.Why = refused, "the password is not taken there any more"
	case err != nil:
		log.Warn("mail could not be fetched; it is tried again at the next login", "err", err)
		return
	default:
		p.State, p.Last, p.Why = fetched, f.s.opt.Now(), ""
	}
	if err := f.keep(to, p); err != nil {
		log.Warn("that mail was fetched could not be noted", "err", err)
	}
	tell(log, report, p)
}

// link has a link do it.
func (f *fetcher) link(log *slog.Logger, to move.Target, j job, p progress) {
	at, err := ParseServer(j.at.Server)
	if err == nil {
		err = f.Link(f.ctx, j.account, at, j.user, j.with.Password)
	}
	if err != nil {
		log.Warn("no link could be made; the mail is fetched at the next login", "err", err)
		return
	}
	p.State = linked
	if err := f.keep(to, p); err != nil {
		log.Warn("that a link was made could not be noted", "err", err)
	}
	log.Info("linked")
}

// due tells whether there is something to do for an account whose owner has logged in.
func (f *fetcher) due(to move.Target, j job) (p progress, due bool, err error) {
	b, err := to.State(f.ctx, progressBox)
	if err != nil {
		return p, false, err
	}
	if b == nil { // not before; and if it has not come by a first login, its password is not for others
		return progress{Server: j.at.Server, User: j.user, State: fetching, Version: &j.with.Version}, j.first, nil
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, false, err
	}
	if p.Server != j.at.Server || p.User != j.user || p.State == linked {
		return p, false, nil
	}
	same := p.Version != nil && *p.Version == j.with.Version
	if p.State == refused && (same || !j.first) {
		return p, false, nil
	}
	if p.State == refused { // with another password, which is right there
		p.State, p.Why = fetching, ""
	}
	if j.first {
		p.Version = &j.with.Version
	}
	if p.Version == nil || *p.Version != j.with.Version { // it was made here since
		return p, false, nil
	}
	age := f.s.opt.Now().Sub(p.Last)
	return p, p.State != fetched || age >= again || age < 0, nil
}

func (f *fetcher) keep(to move.Target, p progress) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return to.SetState(f.ctx, progressBox, b)
}

// bring imports the account.
func (f *fetcher) bring(to move.Target, j job, changes bool, log *slog.Logger) (*move.Report, error) {
	opt := f.Spool
	opt.Target, opt.Changes = to, changes
	opt.Open = func(context.Context) (move.Source, error) {
		return f.s.source(j, f.Version, opt.Wait, log)
	}
	opt.Tell = func(e move.Event) {
		if e.Event == "waiting" {
			log.Info("fetching waits", "mailbox", e.Source, "why", e.Why)
		}
	}
	return move.Import(f.ctx, opt)
}

// source is the account at its former server.
func (s *Servers) source(j job, version string, wait func(context.Context, time.Duration) error, log *slog.Logger) (move.Source, error) {
	o, err := s.imap(j.at.Server)
	if err != nil {
		return nil, err
	}
	o.Timeout, o.Compress, o.Version = time.Minute, imapc.CompressFar, version
	return imapsource.New(imapsource.Options{
		IMAP: o, User: j.user, Wait: wait, Patience: time.Hour,
		Tell: func(why string) {
			if why != "" {
				log.Info("fetching waits", "why", why)
			}
		},
		Credentials: func(context.Context) (imapc.Credentials, error) {
			return imapc.Credentials{User: j.user, Password: j.with.Password}, nil
		},
	}), nil
}
