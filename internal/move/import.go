package move

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
)

// Options of an import. Open, Target, Now and Wait must be given.
type Options struct {
	// Open opens the source; again, when its connection was lost.
	Open   func(ctx context.Context) (Source, error)
	Target Target
	Choice Choice
	// Changes: the source is asked for what has changed since the last time, if it can tell.
	Changes bool
	// FollowFlags carries flags that changed at the source over, FollowGone moves what is gone
	// there into the trash. That can only be known with Changes.
	FollowFlags, FollowGone bool

	Now   func() time.Time
	Wait  func(ctx context.Context, d time.Duration) error
	Spool func() (store.SpoolFile, error) // for messages of over a megabyte; nil: memory holds them
	Tell  func(Event)                     // of what happens; nil: nobody. One call at a time
}

// Event is something that happens during an import.
type Event struct {
	Event   string `json:"event"` // mailbox, progress, skipped, changed, waiting, mailbox_done
	Source  string `json:"source,omitempty"`
	Mailbox string `json:"mailbox,omitempty"`
	Key     string `json:"key,omitempty"` // of a message
	Message string `json:"message_id,omitempty"`
	Bytes   int64  `json:"bytes,omitempty"`
	Why     string `json:"why,omitempty"`
	Done    int64  `json:"done,omitempty"`  // messages of the mailbox that have been dealt with
	Total   int64  `json:"total,omitempty"` // messages that it has; 0: not known
}

// Report is what an import did.
type Report struct {
	Source    string          `json:"source"`
	Mailboxes []MailboxReport `json:"mailboxes"`
}

// MailboxReport is what an import did about a mailbox.
type MailboxReport struct {
	Source   string    `json:"source"`  // what it is called there
	Mailbox  string    `json:"mailbox"` // and here
	Kept     bool      `json:"uids_kept"`
	Messages int64     `json:"messages"`          // that the source told of
	Bytes    int64     `json:"bytes"`             // of these, as the source says
	Before   int64     `json:"before"`            // had been brought already
	Brought  int64     `json:"brought"`           // now
	Read     int64     `json:"read"`              // bytes of those
	LeftOut  int64     `json:"left_out"`          // as was asked
	Skipped  int64     `json:"skipped"`           // could not be brought
	Changed  int64     `json:"changed"`           // brought, with a change that was told
	Differs  int64     `json:"differs"`           // brought, and what is stored is not what was read
	Why      string    `json:"why,omitempty"`     // why all of it was left out
	Problem  string    `json:"problem,omitempty"` // why the reading came to no end
	Skips    []Skipped `json:"-"`                 // the first ones

	box       Box
	scattered bool  // its messages go into several mailboxes here
	later     bool  // something may be brought another time
	tied      int64 // of Messages, known to have a tie now
}

// Skipped is a message that could not be brought.
type Skipped struct {
	Key       string `json:"key"`
	UID       uint32 `json:"uid,omitempty"`
	MessageID string `json:"message_id,omitempty"`
	Bytes     int64  `json:"bytes"`
	Why       string `json:"why"`
}

// mostSkips is how many skipped messages of a mailbox are kept; all are told.
const mostSkips = 1000

// importing is an import under way.
type importing struct {
	Options
	src    Source
	listed []Mailbox // by src
	advice Advice
	most   int64 // bytes of a message that the target takes; 0: not known
	report *Report
	twins  twins
	pace   pace
	places map[string]Place // of scattered messages
	full   atomic.Int64     // bytes of the smallest message for which there was no room; 0: there was for all
	failed int              // attempts that brought nothing, one after the other
	told   sync.Mutex
}

// Import brings a source's mail into an account. It goes on where an earlier one stopped, and
// brings nothing twice. The report is there with an error, too, as far as it came.
func Import(ctx context.Context, o Options) (*Report, error) {
	if err := o.Choice.Check(); err != nil {
		return &Report{}, err
	}
	im := &importing{Options: o, report: &Report{}, twins: twins{}, places: map[string]Place{}}
	defer im.closeSource()
	list, err := im.begin(ctx)
	if err != nil {
		return im.report, err
	}
	im.report.Mailboxes = make([]MailboxReport, 0, len(list))
	for i := range list {
		m := &list[i]
		im.report.Mailboxes = append(im.report.Mailboxes, MailboxReport{Source: m.Source, Mailbox: m.Name, box: Box{im.report.Source, m.Source}, scattered: m.Scattered})
		row := &im.report.Mailboxes[i]
		if row.Why = im.Choice.leavesBox(m); row.Why != "" {
			continue
		}
		if m.Unreadable != "" {
			im.fails(m, row, m.Unreadable)
			continue
		}
		if err := im.mailbox(ctx, m, row); err != nil {
			return im.report, err
		}
	}
	return im.report, nil
}

// begin opens the source and lists its mailboxes.
func (im *importing) begin(ctx context.Context) (list []Mailbox, err error) {
	if l, ok := im.Target.(interface {
		MaxMessage(context.Context) (int64, error)
	}); ok {
		if im.most, err = l.MaxMessage(ctx); err != nil {
			return nil, err
		}
	}
	for {
		if err = im.openSource(ctx); err == nil {
			im.report.Source = im.src.ID()
			return im.listed, nil
		}
		if !im.again(ctx, err, "") {
			return nil, err
		}
	}
}

// openSource opens the source, if it is not open, and lists its mailboxes: it reads none that
// it has not listed itself.
func (im *importing) openSource(ctx context.Context) (err error) {
	if im.src != nil {
		return nil
	}
	if im.src, err = im.Open(ctx); err != nil {
		im.src = nil
		return err
	}
	if im.listed, err = im.src.Mailboxes(ctx); err != nil {
		im.closeSource()
		return err
	}
	if a, ok := im.src.(Advised); ok {
		im.advice = a.Advice()
	}
	im.pace = newPace(&im.Options, im.advice)
	return nil
}

func (im *importing) closeSource() {
	if im.src != nil {
		_ = im.src.Close()
		im.src = nil
	}
}

// mailbox brings one mailbox. An error ends the import: what is wrong with this mailbox alone
// is in its row.
func (im *importing) mailbox(ctx context.Context, m *Mailbox, row *MailboxReport) error {
	im.Choice.rename(m)
	var at Place
	if !m.Scattered {
		var err error
		if at, row.Kept, err = im.Target.Open(ctx, im.report.Source, *m); fault.Is(err, fault.OverQuota) { // there are too many
			im.fails(m, row, describe(err))
			return nil
		}
		if err != nil {
			return accountGone(ctx, im.Target, err)
		}
		row.Mailbox = at.Name
	}
	im.tell(Event{Event: "mailbox", Source: m.Source, Mailbox: row.Mailbox, Total: max(m.Messages, 0)})
	im.failed = 0
	for {
		brought := row.Brought
		err := im.openSource(ctx)
		if err == nil {
			err = im.read(ctx, m, at, row)
		}
		var ours *targetError
		switch {
		case err == nil:
			im.tell(Event{Event: "mailbox_done", Source: m.Source, Mailbox: row.Mailbox, Done: row.Messages, Total: row.Messages})
			return nil
		case errors.As(err, &ours) && fault.Is(ours, fault.NotFound) && ctx.Err() == nil:
			if err := accountGone(ctx, im.Target, ours.error); errors.Is(err, ErrAccountGone) {
				return err
			}
			im.fails(m, row, fmt.Sprintf("the mailbox here was deleted meanwhile. What had come into it does not come again by itself, "+
				"the rest does: run it again, after martlet import forget ADDRESS %q %q if all is to come", im.report.Source, m.Source))
			return nil
		case errors.As(err, &ours):
			return accountGone(ctx, im.Target, ours.error)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if row.Brought > brought {
			im.failed = 0
		}
		im.closeSource()
		if !im.again(ctx, err, m.Source) {
			im.fails(m, row, describe(err))
			return ctx.Err()
		}
	}
}

// fails notes that a mailbox does not come, or not all of it. The others do.
func (im *importing) fails(m *Mailbox, row *MailboxReport, why string) {
	row.Problem = why
	im.tell(Event{Event: "mailbox_failed", Source: m.Source, Mailbox: row.Mailbox, Why: why})
}

// ErrAccountGone is the cause of an error if the account is no more.
var ErrAccountGone = errors.New("the account is no more")

// accountGone returns an error of a target: whether a thing is not there because its account
// is not.
func accountGone(ctx context.Context, to Target, err error) error {
	if !fault.Is(err, fault.NotFound) || errors.Is(err, ErrAccountGone) {
		return err
	}
	if _, e := to.Mailboxes(ctx); fault.Is(e, fault.NotFound) {
		return fault.Wrap(fault.NotFound, "the account was removed meanwhile", errors.Join(ErrAccountGone, e))
	}
	return err
}

// read goes through a mailbox once.
func (im *importing) read(ctx context.Context, m *Mailbox, at Place, row *MailboxReport) error {
	how := Reading{Order: im.Choice.order(m, row.Kept, im.advice), Identify: im.Choice.SkipDuplicates}
	if im.Changes && !im.Choice.partial() {
		var err error
		if how.Since, err = im.Target.State(ctx, row.box); err != nil {
			return &targetError{err}
		}
	}
	row.Messages, row.Bytes, row.LeftOut, row.Skipped, row.Skips, row.later, row.tied = 0, 0, 0, 0, nil, false, 0
	f := newFiller(ctx, im, m, at, row)
	err := f.finish(ctx, im.src.Read(ctx, *m, how, f))
	row.Before = max(row.tied-row.Brought, 0)
	return err
}

// Attempts at a source that cannot be reached: they wait for a second, two, four, up to a
// minute.
const (
	mostAttempts = 10
	firstWait    = time.Second
	longestWait  = time.Minute
)

// again waits, and tells whether an error of the source may be another time.
func (im *importing) again(ctx context.Context, err error, mailbox string) bool {
	if ctx.Err() != nil || !mayPass(err) || im.failed >= mostAttempts {
		return false
	}
	d := min(firstWait<<im.failed, longestWait)
	im.failed++
	im.tell(Event{Event: "waiting", Source: mailbox, Why: describe(err) + "; trying again in " + d.String()})
	return im.Wait(ctx, d) == nil
}

// mayPass tells errors of a connection, or of a server that is busy, from others.
func mayPass(err error) bool {
	var e *fault.Error
	if errors.As(err, &e) {
		switch e.Kind {
		case fault.Unavailable, fault.Limited, fault.Busy, fault.Closed:
			return true
		}
		return false
	}
	var n net.Error
	return errors.As(err, &n) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
}

// targetError is an error of the account, not of the source.
type targetError struct{ error }

func (e *targetError) Unwrap() error { return e.error }

func (im *importing) tell(e Event) {
	if im.Tell != nil {
		im.told.Lock()
		im.Tell(e)
		im.told.Unlock()
	}
}

// describe writes an error for the person who imports, who may see causes.
func describe(err error) string {
	var e *fault.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	if e.Cause != nil && !strings.Contains(e.Say, e.Cause.Error()) {
		return e.Say + ": " + e.Cause.Error()
	}
	return e.Say
}
