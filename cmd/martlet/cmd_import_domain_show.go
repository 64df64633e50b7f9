package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/move"
)

// domainLine is what is told of an account of a domain that moves.
type domainLine struct {
	Event     string `json:"event"` // account (of a plan), account_done
	Account   string `json:"account"`
	User      string `json:"user"`              // there
	Create    bool   `json:"created,omitempty"` // it is made, or was just now
	Mailboxes int    `json:"mailboxes"`
	Messages  int64  `json:"messages"` // there
	Bytes     int64  `json:"bytes,omitempty"`
	New       int64  `json:"new"` // to be brought, or brought now
	NewBytes  int64  `json:"new_bytes"`
	Here      int64  `json:"here"`
	Skipped   int64  `json:"skipped"`
	Different int64  `json:"different"`
	Whole     bool   `json:"whole"`
	Seconds   int64  `json:"seconds,omitempty"`
	Why       string `json:"why,omitempty"` // what is wrong

	skipped bool // the list wants it so
	sum     *sumLine
}

// domainSum is told of all.
type domainSum struct {
	Event     string `json:"event"` // plan, done
	Domain    string `json:"domain"`
	Accounts  int    `json:"accounts"`
	Whole     int    `json:"whole"`   // accounts of which all is here
	Failed    int    `json:"failed"`  // accounts with something wrong
	Left      int    `json:"skipped"` // accounts that the list leaves out
	Created   int    `json:"created"`
	Messages  int64  `json:"messages"`
	New       int64  `json:"new"`
	NewBytes  int64  `json:"new_bytes"`
	Here      int64  `json:"here"`
	Different int64  `json:"different"`
	Seconds   int64  `json:"seconds,omitempty"`
}

// domainShow tells of the move while it goes on. Its methods may be called at the same time.
type domainShow struct {
	out, err io.Writer
	json     bool

	mu    sync.Mutex
	bar   *progressbar.ProgressBar
	ended int
	total int
	last  time.Time
}

func newDomainShow(cmd *cobra.Command) *domainShow {
	return &domainShow{out: cmd.OutOrStdout(), err: cmd.ErrOrStderr(), json: wantsJSON(cmd)}
}

func (s *domainShow) begin(accounts int) {
	s.total = accounts
	if s.json || !isTerminal(s.err) {
		return
	}
	s.bar = progressbar.NewOptions(max(accounts, 1), progressbar.OptionSetWriter(s.err), progressbar.OptionSetDescription("accounts"),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true), progressbar.OptionShowCount(), progressbar.OptionSetWidth(20), progressbar.OptionThrottle(100*time.Millisecond))
}

// event has the form of move.Options.Tell, with whose it is.
func (s *domainShow) event(w *moving, e move.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Event {
	case "skipped", "changed", "differs", "mailbox_failed", "waiting":
		if s.json {
			printJSON(s.out, struct {
				Account string `json:"account"`
				move.Event
			}{w.address, e})
		} else {
			s.say(fmt.Sprintf("%s: %s: %s %s %s", w.address, e.Source, e.Event, e.Key, e.Why))
		}
	case "progress":
		if now := time.Now(); s.json && now.Sub(s.last) >= time.Second {
			s.last = now
			printJSON(s.out, map[string]any{"event": "progress", "account": w.address, "mailbox": e.Mailbox, "done": e.Done, "total": e.Total, "accounts_done": s.ended, "accounts": s.total})
		}
	}
}

func (s *domainShow) waits(w *moving, why string) {
	if why != "" {
		s.event(w, move.Event{Event: "waiting", Why: why})
	}
}

// say tells a person a line. It needs the lock.
func (s *domainShow) say(text string) {
	if s.bar != nil {
		s.bar.Clear()
	}
	fmt.Fprintf(s.err, "martlet: %s\n", clean(text))
}

func (s *domainShow) done(*moving) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended++; s.bar != nil {
		s.bar.Add(1)
	}
}

// finished tells of an account that is through.
func (s *domainShow) finished(w *moving, l *domainLine) {
	s.done(w)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.json:
		printJSON(s.out, l)
	case l.skipped:
	case l.Why != "":
		s.say(fmt.Sprintf("%s: %s", l.Account, l.Why))
	case s.bar == nil:
		s.say(fmt.Sprintf("%s: %s brought, %s here (%d of %d)", l.Account, counted(l.New, "message"), counted(l.Here, "message"), s.ended, s.total))
	}
}

func (s *domainShow) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		s.bar.Clear()
		s.bar = nil
	}
}

// add counts an account.
func (d *domainSum) add(l *domainLine, planned bool) {
	d.Accounts++
	switch {
	case l.skipped:
		d.Left++
		return
	case l.Why != "" || !planned && !l.Whole:
		d.Failed++
	case !planned:
		d.Whole++
	}
	if l.Create {
		d.Created++
	}
	d.Messages += l.Messages
	d.New += l.New
	d.NewBytes += l.NewBytes
	d.Here += l.Here
	d.Different += l.Different
	d.Seconds += l.Seconds
}

// table shows a plan.
func (s *domainShow) table(all []*moving, lines map[*moving]*domainLine, parallel int) error {
	sum := domainSum{Event: "plan"}
	t := newTable(s.out, "ACCOUNT", "THERE", "", "MESSAGES", "TO BRING", "SIZE", "WHY NOT")
	for _, w := range all {
		l := lines[w]
		sum.add(l, true)
		if s.json {
			if err := printJSON(s.out, l); err != nil {
				return err
			}
			continue
		}
		made := ""
		if l.Create && l.Why == "" {
			made = "new"
		}
		t.row(l.Account, l.User, made, l.Messages, l.New, bytesText(l.NewBytes), l.Why)
	}
	if sum.Seconds /= int64(parallel); s.json {
		return printJSON(s.out, sum)
	}
	if err := t.end("there are no accounts"); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.out, "\n%s, %s new, %d not possible; %s to bring (%s), %s\n", counted(int64(sum.Accounts), "account"), fmt.Sprint(sum.Created), sum.Failed,
		counted(sum.New, "message"), bytesText(sum.NewBytes), move.Duration(sum.Seconds))
	return err
}

// sum tells how it went, and writes the report of all.
func (m *domainMove) sum(all []*moving, lines map[*moving]*domainLine) error {
	sum := domainSum{Event: "done", Domain: m.domain}
	for _, w := range all {
		sum.add(lines[w], false)
	}
	if m.folder != "" {
		if err := m.writeSum(all, lines, &sum); err != nil {
			return failed("the report cannot be written: %v", err)
		}
	}
	if m.show.json {
		if err := printJSON(m.show.out, sum); err != nil {
			return err
		}
	} else if err := domainText(m.show.out, all, lines, &sum); err != nil {
		return err
	}
	if sum.Failed > 0 {
		return failed("%s not whole; the lines above say why. What has come is safe; run the same command again, and it goes on", counted(int64(sum.Failed), "account"))
	}
	return nil
}

func (m *domainMove) writeSum(all []*moving, lines map[*moving]*domainLine, sum *domainSum) (err error) {
	f, err := os.OpenFile(filepath.Join(m.folder, "all.jsonl"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for _, w := range all {
		err = errors.Join(err, printJSON(f, lines[w]))
	}
	if err = errors.Join(err, printJSON(f, sum), f.Close()); err != nil {
		return err
	}
	text, err := os.OpenFile(filepath.Join(m.folder, "all.txt"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(domainText(text, all, lines, sum), text.Close())
}

// domainText is the proof of all for people.
func domainText(w io.Writer, all []*moving, lines map[*moving]*domainLine, sum *domainSum) error {
	t := newTable(w, "ACCOUNT", "MAILBOXES", "MESSAGES", "ARE HERE", "NEW", "", "")
	for _, a := range all {
		l := lines[a]
		mark := "ok"
		switch {
		case l.skipped:
			mark = "left out"
		case l.Why != "" || !l.Whole:
			mark = "NOT WHOLE"
		}
		t.row(l.Account, l.Mailboxes, l.Messages, l.Here, l.New, mark, l.Why)
	}
	if err := t.end("there are no accounts"); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s of %d whole, %d not, %d left out; %s brought now (%s), %s here\n", counted(int64(sum.Whole), "account"), sum.Accounts, sum.Failed, sum.Left,
		counted(sum.New, "message"), bytesText(sum.NewBytes), counted(sum.Here, "message"))
	return err
}
