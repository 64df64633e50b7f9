package outward

import (
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/account"
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

// begin opens the folder, or makes it one, and finds a place for each mailbox.
func (r *run) begin(list []move.Mailbox) error {
	m, err := ReadManifest(r.Disk)
	switch {
	case err != nil:
		return err
	case m == nil:
		have, err := names(r.Disk, ".")
		if err != nil {
			return err
		}
		have = slices.DeleteFunc(have, func(n string) bool { return n == side || n == ManifestName+".tmp" })
		if len(have) > 0 {
			return fault.Newf(fault.Exists, "the folder is not empty (%q) and holds no export; name an empty or a new one", have[0])
		}
		m = &Manifest{Version: manifestVersion, Form: r.Form, Account: r.Account, Subscriptions: []string{}}
		if r.Form == Mbox {
			m.Quoting = r.Quoting
		}
	case m.Account != r.Account || m.Form != r.Form || r.Form == Mbox && m.Quoting != r.Quoting:
		return fault.Newf(fault.Exists, "the folder holds an export of %s as %s%s; name another one", m.Account, m.Form, m.Quoting)
	}
	fold := folded
	if r.Form == Maildir { // Dovecot shows its folders as they are called: other spellings only if they must be
		one, err := folds(r.Disk)
		if err != nil {
			return err
		}
		if !one {
			fold = strings.Clone
		}
	}
	taken := map[string]bool{fold(side): true}
	for _, e := range m.Mailboxes {
		taken[fold(strings.TrimSuffix(e.Path, mboxEnding(r.Form)))] = true
	}
	for _, b := range list {
		i := slices.IndexFunc(m.Mailboxes, func(e Entry) bool { return e.Mailbox == b.Name && e.UIDValidity == b.UIDValidity })
		if i < 0 {
			i = len(m.Mailboxes)
			m.Mailboxes = append(m.Mailboxes, newEntry(r.Form, b, place(r.Form, b.Name, taken, fold), i))
		}
		e := &m.Mailboxes[i]
		e.Role, e.Subscribed, e.UIDNext, e.Gone = b.Role, b.Subscribed, r.Source.Next(b), false
		r.done.Total += b.Messages
	}
	if len(r.Mailboxes) == 0 {
		for i := range m.Mailboxes {
			e := &m.Mailboxes[i]
			e.Gone = !slices.ContainsFunc(list, func(b move.Mailbox) bool { return e.Mailbox == b.Name && e.UIDValidity == b.UIDValidity })
		}
		m.Subscriptions = append([]string{}, r.Source.Subscriptions()...)
	}
	m.Changed, m.Complete = r.Now().UTC().Truncate(time.Second), false
	r.manifest = m
	return m.write(r.Disk)
}

func mboxEnding(f Form) string {
	if f == Mbox {
		return ".mbox"
	}
	return ""
}

func newEntry(f Form, b move.Mailbox, at string, n int) Entry {
	e := Entry{Mailbox: b.Name, UIDValidity: b.UIDValidity}
	e.Path = at + mboxEnding(f)
	e.Index = path.Join(side, number(n)+".jsonl")
	if f == EML {
		e.Index = path.Join(e.Path, "index.jsonl")
	}
	return e
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
	return &r.manifest.Mailboxes[slices.IndexFunc(r.manifest.Mailboxes, func(e Entry) bool { return e.Mailbox == m.Name && e.UIDValidity == m.UIDValidity })]
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

// How much becomes durable at once.
const (
	batchMessages = 100
	batchBytes    = 16 << 20
)

// visitor takes in what the source tells of a mailbox.
type visitor struct {
	*run
	box     box
	index   *index
	result  *Result
	text    text
	waiting []Line
	held    int64
}

// Want chooses what is not here yet, and changes flags of what is.
func (v *visitor) Want(ctx context.Context, items []move.Item) ([]bool, error) {
	want := make([]bool, len(items))
	for i, it := range items {
		v.result.Messages++
		v.result.Bytes += it.Size
		m := v.index.find(it.UID)
		if m == nil {
			want[i] = it.Broken == ""
			if it.Broken != "" {
				if err := v.Skip(ctx, it, fault.New(fault.Corrupt, it.Broken)); err != nil {
					return nil, err
				}
			}
			continue
		}
		v.done.Messages++
		m.told = true
		if m.gone || m.flags != it.Flags || v.index.words[m.words] != joined(it.Keywords) {
			if err := v.reflag(m, it); err != nil {
				return nil, err
			}
		}
	}
	v.tell()
	return want, nil
}

func (v *visitor) reflag(m *mark, it move.Item) error {
	was, err := v.index.line(m)
	if err != nil {
		return err
	}
	now := was
	now.Flags, now.Keywords = account.FlagNames(it.Flags), it.Keywords
	if err := v.box.reflag(was, now); err != nil {
		return err
	}
	v.result.Reflagged++
	again := Line{UID: it.UID, Flags: now.Flags, Keywords: now.Keywords}
	if m.gone {
		again.Size = was.Size
	}
	return v.wait(again, 0)
}

// expunged notes, when all has been told, what the account has no more. The messages stay in the
// folder; an import of it leaves them out.
func (v *visitor) expunged() error {
	if err := v.settle(); err != nil {
		return err
	}
	rows := v.index.rows
	for i := range rows {
		m := &rows[i]
		if m.told || m.gone {
			continue
		}
		was, err := v.index.line(m)
		if err != nil {
			return err
		}
		if err := v.wait(Line{UID: m.uid, Flags: was.Flags, Keywords: was.Keywords, Size: was.Size, Gone: true}, 0); err != nil {
			return err
		}
	}
	return nil
}

// wait holds a line until what it tells of is durable.
func (v *visitor) wait(l Line, size int64) error {
	if l.Keywords == nil {
		l.Keywords = []string{}
	}
	v.waiting = append(v.waiting, l)
	if v.held += size; len(v.waiting) < batchMessages && v.held < batchBytes {
		return nil
	}
	return v.settle()
}

func (v *visitor) settle() error {
	if len(v.waiting) == 0 {
		return nil
	}
	if err := v.box.settle(); err != nil {
		return err
	}
	err := v.index.add(v.waiting)
	v.waiting, v.held = v.waiting[:0], 0
	return err
}

// Put writes a message.
func (v *visitor) Put(_ context.Context, it move.Item, r io.Reader) error {
	if err := v.text.read(spoolOn(v.Disk), r); err != nil {
		return err
	}
	if v.text.content != it.Content {
		return fault.New(fault.Corrupt, "its bytes are not those that were promised")
	}
	date := it.Date.UTC()
	l := Line{UID: it.UID, Flags: account.FlagNames(it.Flags), Keywords: it.Keywords, Date: &date, Size: v.text.size, Content: hexContent(it.Content)}
	if err := v.box.put(&l, &v.text); err != nil {
		return err
	}
	v.result.Added++
	v.done.Messages++
	v.done.Bytes += l.Size
	v.tell()
	return v.wait(l, l.Size)
}

func (v *visitor) tell() {
	if v.Progress != nil {
		v.done.Mailbox = v.result.Mailbox
		v.Progress(v.done)
	}
}

// Skip notes what cannot be had. What was expunged meanwhile is no loss.
func (v *visitor) Skip(_ context.Context, it move.Item, why error) error {
	v.done.Messages++
	if fault.Is(why, fault.NotFound) {
		v.result.Messages--
		v.result.Bytes -= it.Size
		return nil
	}
	v.result.Skipped++
	v.skip(v.result, it.UID, fault.Say(why))
	return nil
}

// Gone is not told by an account.
func (v *visitor) Gone(context.Context, []string) error { return nil }

// State is none.
func (v *visitor) State(context.Context, []byte) error { return nil }
