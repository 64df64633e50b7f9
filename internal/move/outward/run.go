package outward

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// Options say what is exported, and how.
type Options struct {
	Source    Source
	Account   string // its address
	Disk      Disk
	Form      Form
	Quoting   Quoting  // of mbox; "": QuoteRD
	Mailboxes []string // patterns: "*" is anything, "%" anything within a level; none: all
	Now       func() time.Time
	Progress  func(Progress) // may be nil
	Partly    bool           // the source leaves messages out on purpose
	// NoProof leaves out that everything is read back at the end.
	NoProof bool
}

// Progress is how far an export is.
type Progress struct {
	Mailbox  string
	Messages int64 // done, of all mailboxes
	Total    int64
	Bytes    int64 // written
}

// Report is how an export went.
type Report struct {
	Mailboxes []Result `json:"mailboxes"`
	Skipped   []Skip   `json:"skipped"` // at most MaxSkips
}

// MaxSkips is how many messages a report names.
const MaxSkips = 10000

// Result is how it went with a mailbox.
type Result struct {
	Mailbox   string `json:"mailbox"`
	Path      string `json:"path,omitempty"`
	Messages  int64  `json:"messages"` // that the account has
	Bytes     int64  `json:"bytes"`
	Added     int64  `json:"added"`     // now
	Reflagged int64  `json:"reflagged"` // flags changed now
	Kept      int64  `json:"kept"`      // here, which the account has no more
	Proven    int64  `json:"proven"`    // read back: content and date as at the account
	Differ    int64  `json:"differ"`
	Skipped   int64  `json:"skipped"`
	Error     string `json:"error,omitempty"`
}

// Skip is a message that could not be taken out, or is not here as it is there.
type Skip struct {
	Mailbox string   `json:"mailbox"`
	UID     mail.UID `json:"uid"`
	Why     string   `json:"why"`
}

// Whole tells whether all that the account has is here, and equal.
func (r *Report) Whole() bool {
	return len(r.Skipped) == 0 && !slices.ContainsFunc(r.Mailboxes, func(m Result) bool { return m.Error != "" || m.Differ > 0 || m.Skipped > 0 })
}

// box is a mailbox in one of the forms.
type box interface {
	// put writes a message; it may complete the line.
	put(l *Line, t *text) error
	// reflag changes flags where the form has them.
	reflag(was, now Line) error
	// settle makes durable what was put and reflagged.
	settle() error
	// finish is called at the end of the mailbox.
	finish(e *Entry, x *index) error
	// read returns the bytes of a message as the account has them, or as Raw says.
	read(l *Line) (io.ReadCloser, error)
	close()
}

// openBox opens a mailbox of a folder.
func openBox(d Disk, m *Manifest, e *Entry, x *index) (box, error) {
	switch m.Form {
	case Mbox:
		return openMbox(d, e, x, m.Quoting)
	case Maildir:
		return openMaildir(d, e, x)
	}
	return openEML(d, e, x)
}

// Run exports into a folder.
func Run(ctx context.Context, o Options) (*Report, error) {
	r := &run{Options: o, report: &Report{Mailboxes: []Result{}, Skipped: []Skip{}}}
	if r.Quoting == "" {
		r.Quoting = QuoteRD
	}
	list, err := o.Source.Mailboxes(ctx)
	if err != nil {
		return r.report, err
	}
	if list = slices.DeleteFunc(list, func(m move.Mailbox) bool { return !Matches(o.Mailboxes, m.Name) }); len(list) == 0 {
		return r.report, fault.New(fault.NotFound, "the account has no mailbox of such a name")
	}
	if err := r.begin(list); err != nil {
		return r.report, err
	}
	for _, m := range list {
		if err := r.mailbox(ctx, m); err != nil {
			return r.report, err
		}
	}
	if !o.NoProof { // when all is there: who was stopped on the way wants the rest first
		for i, m := range list {
			if err := r.prove(ctx, m, &r.report.Mailboxes[i]); err != nil {
				return r.report, err
			}
		}
	}
	return r.report, r.end(ctx)
}

// run is an export under way.
type run struct {
	Options
	report   *Report
	manifest *Manifest
	done     Progress
}

// Matches tells whether a name is one of the patterns; none are all names.
func Matches(patterns []string, name string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// matches costs the length of the pattern times that of the name.
func matches(pattern, name string) bool {
	at := make([]bool, len(name)+1) // places of the name that the pattern so far may have come to
	at[0] = true
	for _, c := range []byte(pattern) {
		next := make([]bool, len(at))
		on := false // a wildcard goes on
		for i := range at {
			switch on = on || at[i]; {
			case c == '*', c == '%':
				next[i] = on
				on = on && !(c == '%' && i < len(name) && name[i] == '/')
			default:
				if at[i] && i < len(name) && name[i] == c {
					next[i+1] = true
				}
			}
		}
		at = next
	}
	return at[len(name)]
}

// mailbox exports one. What is wrong with it alone does not end the others.
func (r *run) mailbox(ctx context.Context, m move.Mailbox) error {
	e := r.entry(m)
	r.report.Mailboxes = append(r.report.Mailboxes, Result{Mailbox: m.Name, Path: e.Path})
	res := &r.report.Mailboxes[len(r.report.Mailboxes)-1]
	x, err := openIndex(r.Disk, e.Index)
	if err != nil {
		return err
	}
	defer x.close()
	b, err := openBox(r.Disk, r.manifest, e, x)
	if errors.Is(err, errOthers) { // the other mailboxes are none the worse
		res.Error = fault.Say(err)
		return nil
	}
	if err != nil {
		return err
	}
	defer b.close()
	v := &visitor{run: r, box: b, index: x, result: res}
	defer v.text.close()
	err = r.Source.Read(ctx, m, move.Reading{}, v)
	if err == nil && !r.Partly {
		err = v.expunged()
	}
	if err = errors.Join(err, v.settle()); err != nil {
		if fault.Is(err, fault.NotFound) {
			res.Error = "the mailbox was deleted meanwhile"
			return nil
		}
		return err
	}
	if err := b.finish(e, x); err != nil {
		return err
	}
	e.Messages, e.Bytes = x.live(), x.bytes
	res.Kept = x.gone
	return nil
}

// entry is the place of a mailbox of the account.
func (r *run) entry(m move.Mailbox) *Entry {
	return &r.manifest.Mailboxes[slices.IndexFunc(r.manifest.Mailboxes, func(e Entry) bool { return e.is(m) })]
}

// end writes what there is, and that it is all.
func (r *run) end(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.Form == Maildir {
		if err := writeSubscriptions(r.Disk, r.manifest); err != nil {
			return err
		}
	}
	r.manifest.Complete = len(r.Mailboxes) == 0 && !r.Partly && r.report.Whole()
	return r.manifest.write(r.Disk)
}

func (r *run) skip(res *Result, uid mail.UID, why string) {
	if len(r.report.Skipped) < MaxSkips {
		r.report.Skipped = append(r.report.Skipped, Skip{res.Mailbox, uid, why})
	}
}
