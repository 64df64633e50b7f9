package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/serve/admin"
	"github.com/martlet-mail/martlet/internal/store"
)

// How a domain is brought: several accounts at a time, each with its proof.

func spoolFile() (store.SpoolFile, error) { return tempFile() }

// each does something for all accounts, so many at a time.
func (m *domainMove) each(all []*moving, parallel int, do func(context.Context, *moving)) error {
	ctx := m.cmd.Context()
	work := make(chan *moving)
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for w := range work {
				do(ctx, w)
			}
		})
	}
	for _, w := range all {
		select {
		case work <- w:
		case <-ctx.Done():
		}
	}
	close(work)
	wg.Wait()
	if ctx.Err() != nil {
		m.show.clear()
		return failed("stopped; what has come is safe. Run the same command again, and it goes on")
	}
	return nil
}

// plan shows what would be done.
func (m *domainMove) plan(all []*moving, parallel int) error {
	m.show.begin(len(all))
	lines := make(map[*moving]*domainLine, len(all))
	for _, w := range all {
		lines[w] = &domainLine{Event: "account", Account: w.address, User: w.user, Create: w.create, Why: w.problem}
	}
	err := m.each(all, parallel, func(ctx context.Context, w *moving) {
		l := lines[w]
		if w.problem == "" {
			o := m.options(w)
			if w.create {
				o.Target = nowhere{}
			}
			p, err := move.MakePlan(ctx, o)
			if err != nil {
				l.Why = describe(err)
			} else {
				l.Messages, l.Bytes, l.New, l.NewBytes, l.Seconds = p.Total.Messages, p.Total.Bytes, p.Total.New, p.Total.NewBytes, p.Total.Seconds
				l.Mailboxes = len(p.Mailboxes)
			}
		}
		l.skipped = w.skip
		m.show.done(w)
	})
	m.show.clear()
	if err != nil {
		return err
	}
	return m.show.table(all, lines, parallel)
}

// bring brings all.
func (m *domainMove) bring(all []*moving, parallel int) error {
	lines := make(map[*moving]*domainLine, len(all))
	for _, w := range all {
		lines[w] = &domainLine{Event: "account_done", Account: w.address, User: w.user, Why: w.problem}
	}
	m.show.begin(len(all))
	err := m.each(all, parallel, func(ctx context.Context, w *moving) {
		l := lines[w]
		if l.skipped = w.skip; w.problem == "" {
			m.one(ctx, w, l)
		}
		m.show.finished(w, l)
	})
	if m.made != nil {
		err = errors.Join(err, m.made.Close())
	}
	m.show.clear()
	if err != nil {
		return err
	}
	return m.sum(all, lines)
}

// one makes an account if need be, brings its mail and proves it.
func (m *domainMove) one(ctx context.Context, w *moving, l *domainLine) {
	o := m.options(w)
	if w.create {
		src, err := m.proven(ctx, &o)
		if err == nil {
			if err = m.newAccount(ctx, w); err != nil {
				err = errors.Join(err, src.Close())
			}
		}
		if err != nil {
			l.Why = describe(err)
			return
		}
		l.Create = true
	}
	report := &importReport{sum: sha256.New()}
	if m.folder != "" {
		f, err := os.OpenFile(m.reportName(w), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			l.Why = err.Error()
			return
		}
		report.file = f
	}
	err := m.import1(ctx, w, o, l, report)
	if report.file != nil {
		err = errors.Join(err, report.failed, report.file.Close())
		if err == nil {
			err = writeProofText(strings.TrimSuffix(m.reportName(w), ".jsonl")+".txt", report.rows, l.sum)
		}
	}
	if err != nil && l.Why == "" {
		l.Why = describe(err)
	}
}

// proven makes sure that the mail of an account that is to be made can be read: the import
// begins with the connection that shows it.
func (m *domainMove) proven(ctx context.Context, o *move.Options) (move.Source, error) {
	open := o.Open
	src, err := open(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := src.Mailboxes(ctx); err != nil {
		return nil, errors.Join(err, src.Close())
	}
	first := src
	o.Open = func(ctx context.Context) (move.Source, error) {
		if s := first; s != nil {
			first = nil
			return s, nil
		}
		return open(ctx)
	}
	return src, nil
}

// reportName is the file of an account's proof. An address may have a slash in it, and two
// points.
func (m *domainMove) reportName(w *moving) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("/\\:\x00", r) {
			return '_'
		}
		return r
	}, lowered(w.address))
	return filepath.Join(m.folder, strings.TrimLeft(name, ".")+".jsonl")
}

// import1 brings one account's mail and writes its proof.
func (m *domainMove) import1(ctx context.Context, w *moving, o move.Options, l *domainLine, report *importReport) error {
	done, err := move.Import(ctx, o)
	sum := sumLine{Event: "done", Source: done.Source, Account: w.address, Whole: true}
	for i := range done.Mailboxes {
		r := &done.Mailboxes[i]
		sum.Brought += r.Brought
		sum.Bytes += r.Read
		sum.Different += r.Differs
	}
	l.sum, l.Mailboxes, l.New, l.NewBytes = &sum, len(done.Mailboxes), sum.Brought, sum.Bytes
	if err != nil {
		return err
	}
	for _, d := range move.SkippedOf(done) {
		report.line(differenceLine{"skipped", d})
	}
	if skip, _ := m.cmd.Flags().GetBool("no-proof"); skip {
		for i := range done.Mailboxes {
			if r := &done.Mailboxes[i]; r.Why == "" {
				report.row(move.Unproven(r))
			}
		}
	} else if err := move.Prove(ctx, o.Target, done, report.different, report.row); err != nil {
		return err
	}
	for i := range report.rows {
		p := &report.rows[i]
		sum.Whole = sum.Whole && p.Whole()
		sum.Messages += p.Messages
		sum.Here += p.Here
		sum.Skipped += p.Skipped
		sum.Different += p.Differ + p.Lost
	}
	sum.Whole = sum.Whole && sum.Different == 0
	sum.SHA256 = hex.EncodeToString(report.sum.Sum(nil))
	report.line(sum)
	l.Messages, l.Here, l.Skipped, l.Different, l.Whole = sum.Messages, sum.Here, sum.Skipped, sum.Different, sum.Whole
	if !l.Whole && l.Why == "" {
		l.Why = strings.Join(wrongOf(report.rows), "; ")
	}
	return report.failed
}

// wrongOf says in words what is wrong with mailboxes.
func wrongOf(rows []move.Proof) (why []string) {
	for i := range rows {
		if p := &rows[i]; !p.Whole() {
			why = append(why, p.Source+": "+strings.Join(proofNotes(p), ", "))
		}
		if len(why) == 3 {
			return append(why, "and more")
		}
	}
	return why
}

// newAccount makes an account with what the list says of its password.
func (m *domainMove) newAccount(ctx context.Context, w *moving) error {
	body := map[string]any{"address": w.address, "quota_bytes": w.person.Quota}
	var made string
	switch {
	case w.person.Hash != "":
		body["hash"] = w.person.Hash
	case w.person.Password != "":
		body["password"] = w.person.Password
	case m.made == nil:
		body["waiting"] = true
	default:
		var err error
		if made, err = admin.NewPassword(rand.Reader); err != nil {
			return err
		}
		body["password"] = made
		if err := m.writePassword(w.address, made); err != nil { // before the account is there: it would be lost
			return fmt.Errorf("the new password cannot be written: %w", err)
		}
	}
	return m.client.do(ctx, "POST", "/v1/accounts", body, noLine)
}

func (m *domainMove) writePassword(address, password string) error {
	m.show.mu.Lock()
	defer m.show.mu.Unlock()
	c := csv.NewWriter(m.made)
	if err := c.Write([]string{address, password}); err != nil {
		return err
	}
	c.Flush()
	return errors.Join(c.Error(), m.made.Sync())
}

// nowhere is an account that is not there yet, for the plan.
type nowhere struct{ move.Target }

func (nowhere) Mailboxes(context.Context) ([]move.Place, error) { return nil, nil }

func (nowhere) Ties(_ context.Context, _ move.Box, keys []string) ([]*move.Tie, error) {
	return make([]*move.Tie, len(keys)), nil
}
