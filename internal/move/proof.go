package move

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Proof compares a mailbox here with what was read of it at the source: every message is read
// out of the store.
type Proof struct {
	Source    string `json:"source"`
	Mailbox   string `json:"mailbox"`
	Messages  int64  `json:"messages"`  // that the source told of, last time
	LeftOut   int64  `json:"left_out"`  // of these, as was asked
	Skipped   int64  `json:"skipped"`   // of these, that could not be brought
	Brought   int64  `json:"brought"`   // ever, from this mailbox
	Here      int64  `json:"here"`      // of these, in the account now
	Bytes     int64  `json:"bytes"`     // of these
	Same      int64  `json:"same"`      // of these, with the bytes that were read at the source
	Changed   int64  `json:"changed"`   // with a change that was told when they came
	Differ    int64  `json:"differ"`    // with other bytes: damaged
	Gone      int64  `json:"gone"`      // deleted here since they came
	Elsewhere int64  `json:"elsewhere"` // moved here since they came
	Flags     int64  `json:"flags"`     // whose flags or keywords are others than at the source: changed here since
	Dates     int64  `json:"dates"`     // whose date is another one
	Lost      int64  `json:"lost"`      // of which nothing is known: what Messages says and the others do not
	Problem   string `json:"problem,omitempty"`
}

// Whole tells whether nothing is wrong.
func (p *Proof) Whole() bool {
	return p.Differ == 0 && p.Dates == 0 && p.Lost == 0 && p.Skipped == 0 && p.Problem == ""
}

// Difference is what is wrong with one message.
type Difference struct {
	Source  string   `json:"source"`
	Mailbox string   `json:"mailbox,omitempty"`
	Key     string   `json:"key"`
	UID     mail.UID `json:"uid,omitempty"`
	Why     string   `json:"why"`
}

// Prove makes the proofs of a report's mailboxes. tell is told of each message that is not as
// it came, but for flags; row of each mailbox.
func Prove(ctx context.Context, to Target, r *Report, tell func(Difference), row func(Proof)) error {
	for i := range r.Mailboxes {
		m := &r.Mailboxes[i]
		if m.Why != "" {
			continue
		}
		p, err := proveOne(ctx, to, m, tell)
		if err != nil {
			return accountGone(ctx, to, err)
		}
		row(p)
	}
	return nil
}

// Unproven is what can be said of a mailbox without reading it: what the import itself found.
func Unproven(m *MailboxReport) Proof {
	return Proof{
		Source: m.Source, Mailbox: m.Mailbox, Messages: m.Messages, LeftOut: m.LeftOut, Skipped: m.Skipped,
		Brought: m.Before + m.Brought, Here: m.Before + m.Brought, Bytes: m.Read, Problem: m.Problem,
	}
}

func proveOne(ctx context.Context, to Target, m *MailboxReport, tell func(Difference)) (Proof, error) {
	p := Proof{Source: m.Source, Mailbox: m.Mailbox, Messages: m.Messages, LeftOut: m.LeftOut, Skipped: m.Skipped, Problem: m.Problem}
	names := map[mail.MailboxID]string{} // of where the messages of a scattered source were put
	if m.scattered {
		places, err := to.Mailboxes(ctx)
		if err != nil {
			return p, err
		}
		for _, at := range places {
			names[at.ID] = at.Name
		}
	}
	err := to.EachTie(Proving(ctx), m.box, func(t Tie, now *Now) error {
		p.Brought++
		put := m.Mailbox
		if m.scattered {
			put = names[t.Mailbox]
		}
		there := Item{Flags: t.Flags, Keywords: t.Keywords, Date: t.Date}
		why := p.compare(&t, now, put, &there)
		if why != "" {
			tell(Difference{Source: m.Source, Mailbox: m.Mailbox, Key: t.Key, UID: t.UID, Why: why})
		}
		return nil
	})
	// Those of the source that neither were left out nor skipped have a tie. Ties of messages
	// that it has no more are among all that there are.
	p.Lost = max(p.Messages-p.LeftOut-p.Skipped-m.tied, 0)
	return p, err
}

// compare counts a message, and says what is wrong with it. there is how it is, or was, at the
// source.
func (p *Proof) compare(t *Tie, now *Now, mailbox string, there *Item) (why string) {
	if now == nil {
		p.Gone++
		return ""
	}
	p.Here++
	p.Bytes += now.Size
	if now.Mailbox != mailbox && mailbox != "" {
		p.Elsewhere++
	}
	switch {
	case now.Content != t.Stored:
		p.Differ++
		why = "its bytes are not those that came"
	case t.Stored == t.Content:
		p.Same++
	}
	if t.Changed != "" {
		p.Changed++
	}
	if now.Flags != there.Flags || !sameKeywords(now.Keywords, there.Keywords) {
		p.Flags++
	}
	if !there.Date.IsZero() && mail.BoundSeconds(there.Date.Unix()) != now.Date.Unix() { // as the store bounds it
		p.Dates++
		why = fmt.Sprintf("its date is %s here, and %s there", now.Date.UTC(), there.Date.UTC())
	}
	return why
}

// Verify reads every message of the source again and compares it with what the store gives
// back now. It needs a Target that is a Prover.
func Verify(ctx context.Context, o Options, tell func(Difference), row func(Proof)) error {
	if err := o.Choice.Check(); err != nil {
		return err
	}
	look, ok := o.Target.(Prover)
	if !ok {
		return fault.New(fault.Unsupported, "the account cannot be read message by message")
	}
	im := &importing{Options: o, report: &Report{}, twins: twins{}}
	defer im.closeSource()
	list, err := im.begin(ctx)
	if err != nil {
		return err
	}
	for i := range list {
		m := &list[i]
		if im.Choice.leavesBox(m) != "" {
			continue
		}
		if m.Unreadable != "" {
			row(Proof{Source: m.Source, Problem: m.Unreadable})
			continue
		}
		p, err := im.verify(ctx, look, m, tell)
		if err != nil {
			return accountGone(ctx, im.Target, err)
		}
		row(p)
	}
	return nil
}

// verify compares one mailbox, from its beginning if the connection is lost.
func (im *importing) verify(ctx context.Context, look Prover, m *Mailbox, tell func(Difference)) (Proof, error) {
	im.failed = 0
	for {
		v := &comparer{im: im, look: look, m: m, box: Box{im.report.Source, m.Source}, tell: tell, p: Proof{Source: m.Source}}
		err := im.openSource(ctx)
		if err == nil {
			err = im.src.Read(ctx, *m, Reading{Identify: im.Choice.SkipDuplicates}, v)
		}
		if err == nil {
			err = v.flush(ctx)
		}
		if v.failed != nil {
			return v.p, v.failed
		}
		if err == nil || ctx.Err() != nil {
			return v.p, ctx.Err()
		}
		im.closeSource()
		if !im.again(ctx, err, m.Source) {
			v.p.Problem = describe(err)
			return v.p, ctx.Err()
		}
	}
}

// comparer is the Visitor of a verification.
type comparer struct {
	im     *importing
	look   Prover
	m      *Mailbox
	box    Box
	tell   func(Difference)
	p      Proof
	list   []read
	failed error
}

// read is a message that was read again.
type read struct {
	item    Item
	size    int64
	content Content
}

func (v *comparer) Want(ctx context.Context, items []Item) ([]bool, error) {
	want := make([]bool, len(items))
	for i := range items {
		v.p.Messages++
		twin := v.im.Choice.SkipDuplicates && v.im.twins.again(v.m.Source, &items[i])
		if want[i] = v.im.Choice.leaves(&items[i]) == "" && !twin; !want[i] {
			v.p.LeftOut++
		}
	}
	v.im.tell(Event{Event: "progress", Source: v.m.Source, Done: v.p.Brought, Total: max(v.m.Messages, v.p.Messages)})
	return want, ctx.Err()
}

func (v *comparer) Put(ctx context.Context, item Item, r io.Reader) error {
	var sum Summer
	if _, err := io.Copy(&sum, r); err != nil {
		return err
	}
	v.list = append(v.list, read{keep(item), sum.Size(), sum.Content()})
	if len(v.list) < batchMessages {
		return v.im.pace.after(ctx, sum.Size())
	}
	return v.flush(ctx)
}

func (v *comparer) flush(ctx context.Context) error {
	keys := make([]string, len(v.list))
	for i := range v.list {
		keys[i] = v.list[i].item.Key
	}
	found, err := v.look.Look(Proving(ctx), v.box, keys)
	if err != nil {
		v.failed = err
		return err
	}
	for i, f := range found {
		v.one(&v.list[i], f)
	}
	v.list = v.list[:0]
	return nil
}

func (v *comparer) one(r *read, f Looked) {
	why := ""
	switch {
	case f.Tie == nil:
		v.p.Lost++
		why = "it was not brought"
	default:
		v.p.Brought++
		why = v.p.compare(f.Tie, f.Now, "", &r.item)
		if f.Now != nil {
			v.p.Mailbox = f.Now.Mailbox
		}
		if why == "" && f.Tie.Content != r.content && f.Tie.Content != (Content{}) { // one that a repair made anew has none
			v.p.Differ++
			why = "its bytes at the source are not those that came"
		}
	}
	if why != "" {
		v.tell(Difference{Source: v.m.Source, Mailbox: v.p.Mailbox, Key: r.item.Key, UID: r.item.UID, Why: why})
	}
}

// Skip notes a message that the source cannot give, if it should be here.
func (v *comparer) Skip(_ context.Context, item Item, why error) error {
	v.p.Skipped++
	v.tell(Difference{Source: v.m.Source, Key: item.Key, UID: item.UID, Why: "the source cannot give it: " + describe(why)})
	return nil
}

func (v *comparer) Gone(context.Context, []string) error { return nil }
func (v *comparer) State(context.Context, []byte) error  { return nil }

// SkippedOf returns the skipped messages of a report, with their mailboxes.
func SkippedOf(r *Report) (list []Difference) {
	for i := range r.Mailboxes {
		m := &r.Mailboxes[i]
		for _, s := range m.Skips {
			list = append(list, Difference{Source: m.Source, Mailbox: m.Mailbox, Key: s.Key, UID: mail.UID(s.UID), Why: s.Why})
		}
	}
	return slices.Clip(list)
}
