package move

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/turn"
)

// What one commit writes at most, well within what an engine takes.
const (
	groupMessages = 500
	groupBytes    = 4 << 20
	receivers     = 2 // messages that are read at the same time
)

// putting is a Put under way.
type putting struct {
	l       *Local
	box     store.TiedBox
	at      mail.MailboxID
	list    []Incoming
	out     []Outcome
	parcels []*store.Parcel
	stored  []Content // of the parcels
	skip    []bool    // settled before anything was read
}

// Put takes messages in.
func (l *Local) Put(ctx context.Context, box Box, at mail.MailboxID, list []Incoming) ([]Outcome, error) {
	p := &putting{
		l: l, box: tied(box), at: at, list: list, out: make([]Outcome, len(list)),
		parcels: make([]*store.Parcel, len(list)), stored: make([]Content, len(list)), skip: make([]bool, len(list)),
	}
	if err := p.known(ctx, box); err != nil {
		return nil, err
	}
	if err := p.receive(ctx); err != nil {
		return nil, err
	}
	for from := 0; from < len(list); {
		to := p.group(from)
		if err := p.commit(ctx, from, to); err != nil {
			return nil, err
		}
		from = to
	}
	return p.out, nil
}

// known settles what is tied already: it need not be read.
func (p *putting) known(ctx context.Context, box Box) error {
	keys := make([]string, len(p.list))
	for i := range p.list {
		keys[i] = p.list[i].Item.Key
	}
	ties, err := p.l.Ties(ctx, box, keys)
	for i, t := range ties {
		if t != nil {
			p.skip[i], p.out[i] = true, Outcome{UID: t.UID, Before: true, Content: t.Content}
		}
	}
	return err
}

// receive reads the messages.
func (p *putting) receive(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	hand := func(work *turn.Turn, helps bool) {
		ctx := turn.With(ctx, work)
		for i := int(next.Add(1)) - 1; i < len(p.list) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
			if err := p.receiveOne(ctx, i); err != nil {
				cancel(err)
			}
			if helps && work.Over() { // others want the processor: the first hand is enough
				return
			}
			work.Yield()
		}
	}
	var wg sync.WaitGroup
	work := turn.Of(ctx)
	if len(p.list) > 1 {
		if second, ok := work.Beside(); ok {
			wg.Go(func() {
				defer second.Give()
				hand(second, true)
			})
		}
	}
	hand(work, false)
	wg.Wait()
	return context.Cause(ctx)
}

func (p *putting) receiveOne(ctx context.Context, i int) error {
	in := &p.list[i]
	if p.skip[i] {
		return nil
	}
	if most := p.l.store.MaxMessage(); in.Size > most {
		p.refuse(i, fault.Newf(fault.TooLarge, "message is larger than %d bytes", most))
		return nil
	}
	r, err := in.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	parcel, err := p.l.store.Receive(ctx, r)
	if fault.Is(err, fault.TooLarge) {
		p.refuse(i, err)
		return nil
	}
	if err != nil {
		return err
	}
	p.out[i].Content = parcel.Fingerprint()
	plain, err := parcel.WithoutNUL(ctx)
	switch {
	case fault.Is(err, fault.Unsupported): // signed, say: better as it is than not at all
	case err != nil:
		return err
	case plain != parcel:
		parcel, p.out[i].Changed = plain, "parts with NUL bytes are encoded"
	}
	parcel.Prepare()
	p.parcels[i], p.stored[i] = parcel, parcel.Fingerprint()
	return nil
}

func (p *putting) refuse(i int, why error) {
	p.skip[i], p.out[i] = true, Outcome{Refused: fault.Say(why)}
}

// group returns where the messages end that one commit takes, from one on.
func (p *putting) group(from int) (to int) {
	bytes := 0
	for to = from; to < len(p.list) && to-from < groupMessages; to++ {
		if p.parcels[to] == nil {
			continue
		}
		if bytes += p.parcels[to].Records(); bytes > groupBytes && to > from {
			break
		}
	}
	return to
}

// commit appends messages and ties them, as one change.
func (p *putting) commit(ctx context.Context, from, to int) error {
	if !slices.ContainsFunc(p.parcels[from:to], func(q *store.Parcel) bool { return q != nil }) {
		return nil
	}
	settled := slices.Clone(p.out[from:to]) // what reading them has said
	err := p.l.account.Update(p.l.account.Foresee(ctx, "", p.expected(from, to)...), func(tx *store.Tx) error {
		copy(p.out[from:to], settled)
		return p.append(tx, from, to)
	})
	if !fault.Is(err, fault.TooLarge) {
		return err
	}
	copy(p.out[from:to], settled)
	if to-from == 1 {
		p.refuse(from, err)
		p.parcels[from] = nil
		return nil
	}
	middle := (from + to) / 2
	return cmp.Or(p.commit(ctx, from, middle), p.commit(ctx, middle, to))
}

// expected are the messages that are going to be appended.
func (p *putting) expected(from, to int) (list []store.NewMessage) {
	for i := from; i < to; i++ {
		if p.parcels[i] != nil {
			list = append(list, store.NewMessage{Parcel: p.parcels[i]})
		}
	}
	return list
}

func (p *putting) append(tx *store.Tx, from, to int) error {
	w := &writing{putting: p, tx: tx, boxes: map[string]mail.MailboxID{}}
	if err := tx.Expect(p.expected(from, to)); err != nil {
		return err
	}
	box, err := tx.MailboxByID(p.at)
	if err != nil {
		return err
	}
	w.keywords = slices.Clone(box.Keywords)
	for i := from; i < to; i++ {
		if p.parcels[i] == nil {
			continue
		}
		if err := w.one(i); err != nil {
			return err
		}
	}
	return nil
}

// writing is a commit of a putting.
type writing struct {
	*putting
	tx       *store.Tx
	keywords []string // of the mailbox
	boxes    map[string]mail.MailboxID
}

func (w *writing) one(i int) error {
	item, parcel := &w.list[i].Item, w.parcels[i]
	if t, ok, err := w.tx.Tie(w.box, item.Key); err != nil || ok {
		w.out[i] = Outcome{UID: t.UID, Before: true, Content: t.Content}
		return err
	}
	size := parcel.Size()
	q, u := w.tx.Quota()
	if n := int64(1 + len(item.Places)); q.Bytes > 0 && u.Bytes+n*size > q.Bytes || q.Messages > 0 && u.Messages+n > q.Messages {
		w.out[i] = Outcome{Refused: "the account is full; raise its quota: martlet account quota", Later: true}
		return nil
	}
	m := store.NewMessage{Parcel: parcel, Flags: item.Flags, Keywords: w.takeKeywords(i), InternalDate: item.Date}
	if m.InternalDate.IsZero() {
		m.InternalDate = parcel.Message().Date
	}
	tie := store.Tie{
		Key: item.Key, Flags: item.Flags, Keywords: item.Keywords, Size: w.list[i].Size,
		Content: w.out[i].Content, Stored: w.stored[i], Changed: w.out[i].Changed,
	}
	if !item.Date.IsZero() {
		tie.Date = mail.BoundSeconds(item.Date.Unix()) // as Append has it
	}
	t, err := w.tx.AppendTied(w.at, m, item.UID, w.box, tie)
	if fault.Is(err, fault.OverQuota) {
		w.out[i] = Outcome{Refused: fault.Say(err), Later: true}
		return nil
	}
	if err != nil {
		return err
	}
	w.out[i].UID = t.UID
	changed := w.out[i].Changed
	for _, name := range item.Places {
		err := w.copy(t.UID, name)
		if fault.Is(err, fault.OverQuota) || fault.Is(err, fault.Limited) {
			w.note(i, "it is not in a mailbox ("+fault.Say(err)+"): ", []string{name})
		} else if err != nil {
			return err
		}
	}
	if w.out[i].Changed == changed {
		return nil
	}
	t.Changed = w.out[i].Changed // so that the proof tells of it for ever
	return w.tx.PutTie(w.box, t)
}

// takeKeywords returns the keywords of a message as they can be here, and notes what was
// changed of them.
func (w *writing) takeKeywords(i int) (list []string) {
	names := w.list[i].Item.Keywords
	var changed, lost []string
	for _, name := range keywordsHere(names) {
		if !hasFold(w.keywords, name) {
			if len(w.keywords) >= store.MaxKeywords {
				lost = append(lost, name)
				continue
			}
			w.keywords = append(w.keywords, name)
		}
		list = append(list, name)
	}
	for _, name := range names {
		if k := KeywordHere(name); !strings.EqualFold(k, name) {
			changed = append(changed, k)
		}
	}
	w.note(i, "keywords that cannot be are written as ", changed)
	w.note(i, "the mailbox has too many keywords for ", lost)
	return list
}

// note adds to what was changed of a message, when its tie has been made.
func (w *writing) note(i int, what string, names []string) {
	if len(names) == 0 {
		return
	}
	if w.out[i].Changed != "" {
		w.out[i].Changed += "; "
	}
	w.out[i].Changed += what + strings.Join(names[:min(len(names), 5)], ", ")
}

// copy puts a message into a further mailbox.
func (w *writing) copy(uid mail.UID, name string) error {
	id, ok := w.boxes[name]
	if !ok {
		box, err := boxNamed(w.tx, name, "")
		if err == nil {
			err = subscribe(w.tx, box.Name)
		}
		if err != nil {
			return err
		}
		id = box.ID
		w.boxes[name] = id
	}
	if id == w.at {
		return nil
	}
	_, err := w.tx.Copy(w.at, mail.SetOf(uid), id)
	return err
}

func contentOf(r io.Reader) (Content, error) {
	var s Summer
	_, err := io.Copy(&s, r)
	return s.Content(), err
}
