package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/link"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

// careCalls are the calls about the server as a whole.
func (a *api) careCalls() map[string]handler {
	return map[string]handler{
		"GET /v1/status":   a.status,
		"GET /v1/trace":    a.tellStories,
		"GET /v1/reports":  a.listReports,
		"POST /v1/doctor":  a.examine,
		"POST /v1/verify":  a.verify,
		"POST /v1/backup":  a.backup,
		"POST /v1/restore": a.restore,
		"POST /v1/sweep":   a.sweep,
	}
}

func (a *api) status(r *request) error {
	return r.send(struct {
		Version string    `json:"version"`
		PID     int       `json:"pid"`
		Started time.Time `json:"started"`
	}{a.Version, a.PID, a.started.UTC()})
}

// progressEvery is how often a verification tells how far it is.
const progressEvery = 500 * time.Millisecond

// Lines of a verification: any number with event progress or problem, then one with
// event done.
type (
	progressLine struct {
		Event    string `json:"event"`
		Messages int    `json:"messages"`
		Total    int64  `json:"total_messages"` // about: mail comes and goes meanwhile
		Bytes    int64  `json:"bytes"`
		Problems int    `json:"problems"`
	}
	problemLine struct {
		Event   string   `json:"event"`
		Account string   `json:"account,omitempty"` // left out: the directory, or the queue
		Mailbox string   `json:"mailbox,omitempty"`
		UID     mail.UID `json:"uid,omitempty"`
		Queued  string   `json:"queue_id,omitempty"`
		File    string   `json:"file,omitempty"` // of the store
		What    string   `json:"what"`
	}
	doneLine struct {
		Event     string `json:"event"`
		OK        bool   `json:"ok"`
		Accounts  int    `json:"accounts"`
		Mailboxes int    `json:"mailboxes"`
		Messages  int    `json:"messages"`
		Bodies    int    `json:"bodies"`
		Queued    int    `json:"queued"` // messages in the queue
		Bytes     int64  `json:"bytes"`
		Problems  int    `json:"problems"`
	}
)

// verify checks the files, the directory, then that each account has data, then the queue, and then
// all data. It runs beside everything else.
func (a *api) verify(r *request) error {
	found := 0
	report := func(p problemLine) {
		found++
		p.Event = "problem"
		_ = r.send(p) // if the caller has gone, the request's context ends
		r.flush()
	}
	if err := a.verifyFiles(r.ctx, report); err != nil {
		return err
	}
	names, total, err := a.census(r)
	if err = damage(err, "", report); err != nil {
		return err
	}
	if err := damage(a.verifyDirectory(r.ctx, report), "the directory cannot be read to its end: ", report); err != nil {
		return err
	}
	waiting, err := a.Queue.Verify(r.ctx, func(id queue.ID, what string) { report(problemLine{Queued: id.String(), What: what}) })
	if err = damage(err, "the queue cannot be read to its end: ", report); err != nil {
		return err
	}
	if err := damage(a.verifyLinks(r.ctx, report), "the links cannot be read to their end: ", report); err != nil {
		return err
	}
	progress := func(v store.Verified) error {
		err := r.send(progressLine{"progress", v.Messages, total, v.Bytes, found})
		r.flush()
		return err
	}
	if err := progress(store.Verified{}); err != nil {
		return err
	}
	done, err := a.verifyStore(r, names, report, progress)
	if err = damage(err, "the list of accounts cannot be read to its end: ", report); err != nil {
		return err
	}
	return r.send(doneLine{
		Event: "done", OK: found == 0, Accounts: done.Accounts, Mailboxes: done.Mailboxes, Messages: done.Messages,
		Bodies: done.Bodies, Queued: waiting, Bytes: done.Bytes, Problems: found,
	})
}

// damage reports what could not be read because it is damaged, so that the rest is read, too.
func damage(err error, what string, report func(problemLine)) error {
	if !fault.Is(err, fault.Corrupt) {
		return err
	}
	if what != "" { // else it is told elsewhere
		report(problemLine{What: what + fault.Say(err)})
	}
	return nil
}

func (a *api) verifyFiles(ctx context.Context, report func(problemLine)) error {
	if a.Files == nil {
		return nil
	}
	return a.Files(ctx, func(file, what string) { report(problemLine{File: file, What: what}) })
}

func (a *api) verifyLinks(ctx context.Context, report func(problemLine)) error {
	if a.Links == nil {
		return nil
	}
	_, err := a.Links.Verify(ctx, func(id link.ID, what string) { report(problemLine{What: fmt.Sprintf("link %d: %s", id, what)}) })
	return err
}

// verifyStore reports what is wrong with the data of accounts, and now and then how far it is.
func (a *api) verifyStore(r *request, names map[mail.AccountID]string, report func(problemLine), progress func(store.Verified) error) (store.Verified, error) {
	last := a.Now()
	return a.Store.Verify(r.ctx, func(p store.Problem) {
		name := names[p.Account]
		if name == "" {
			name = a.nameOf(r, p.Account)
		}
		report(problemLine{Account: name, Mailbox: p.Mailbox, UID: p.UID, What: p.What})
	}, func(v store.Verified) {
		if now := a.Now(); now.Sub(last) >= progressEvery {
			last = now
			_ = progress(v)
		}
	})
}

// census counts the messages there are. names holds the first thousands of accounts,
// enough for most servers.
func (a *api) census(r *request) (names map[mail.AccountID]string, total int64, err error) {
	const maxNames = 10_000
	names = make(map[mail.AccountID]string)
	for acct, err := range a.Directory.Accounts(r.ctx, "") {
		if err != nil {
			return nil, 0, err
		}
		if len(names) < maxNames {
			names[acct.ID] = acct.Address.String()
		}
		err = a.Store.Account(acct.ID).View(r.ctx, func(s *store.Snapshot) error {
			_, used := s.Quota()
			total += used.Messages
			return nil
		})
		// What is missing or damaged is told below, with its place.
		if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Corrupt) {
			return nil, 0, err
		}
	}
	return names, total, nil
}

// verifyDirectory reports what is wrong with the directory, and accounts that have no
// data.
func (a *api) verifyDirectory(ctx context.Context, report func(problemLine)) error {
	var live []mail.AccountID
	err := a.Directory.Verify(ctx, func(what string) { report(problemLine{What: what}) },
		func(id mail.AccountID) { live = append(live, id) })
	if err != nil {
		return err
	}
	if err := a.verifyClaims(ctx, report); err != nil {
		return err
	}
	for _, id := range live {
		err := a.Store.Account(id).View(ctx, func(*store.Snapshot) error { return nil })
		if !fault.Is(err, fault.NotFound) {
			continue
		}
		if holds, err := a.Store.Holds(ctx, id); err != nil || holds {
			continue // its own record is lost; the store tells
		}
		if acct, err := a.Directory.AccountByID(ctx, id); err == nil { // not removed meanwhile
			report(problemLine{Account: acct.Address.String(), What: "the account has no data"})
		}
	}
	return ctx.Err()
}

// verifyClaims reports data of accounts that the directory does not know.
func (a *api) verifyClaims(ctx context.Context, report func(problemLine)) error {
	holders, err := a.Store.Holders(ctx)
	if fault.Is(err, fault.Corrupt) {
		return nil // the store tells
	}
	if err != nil {
		return err
	}
	claims, err := a.Directory.Claims(ctx)
	if err != nil {
		return err
	}
	for _, id := range holders {
		if claims[id] {
			continue
		}
		if holds, err := a.Store.Holds(ctx, id); err == nil && !holds { // it was removed meanwhile
			continue
		}
		report(problemLine{What: fmt.Sprintf("account %d has data in the store, and the directory does not know it", id)})
	}
	return ctx.Err()
}

// nameOf names an account that census did not keep.
func (a *api) nameOf(r *request, id mail.AccountID) string {
	if acct, err := a.Directory.AccountByID(r.ctx, id); err == nil {
		return acct.Address.String()
	}
	return "account of no address"
}

func (a *api) sweep(r *request) error {
	s, err := a.Store.Sweep(r.ctx)
	if err != nil {
		return err
	}
	return r.send(struct {
		Accounts int   `json:"accounts"`
		Blobs    int   `json:"blobs"`
		Removed  int   `json:"removed"`
		Bytes    int64 `json:"bytes"`
	}{s.Accounts, s.Blobs, s.Removed, s.Bytes})
}
