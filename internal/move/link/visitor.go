package link

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// visitor takes the messages of one mailbox.
type visitor struct {
	*round
	box  *box
	last bool                // what was new at the first reading is brought
	hold bool                // what is new is not
	seen map[string]struct{} // keys of all messages; nil: nobody asks

	changes []move.Change
	here    []string // keys of what is here, if it is to be removed there
	batch   []move.Incoming
	bytes   int64
	close   []io.Closer
}

// What a batch holds before it is put.
const (
	batchMessages = 500
	batchBytes    = 8 << 20
	inMemory      = 512 << 10 // of a message; the rest is spooled
)

func (v *visitor) Want(ctx context.Context, items []move.Item) ([]bool, error) {
	v.further()
	keys := make([]string, len(items))
	for i := range items {
		keys[i] = items[i].Key
	}
	ties, err := v.target.Ties(ctx, v.box.id, keys)
	if err != nil {
		return nil, err
	}
	if len(items) > 0 {
		prefix, _, _ := strings.Cut(items[0].Key, ".")
		v.box.prefix = strings.Clone(prefix)
	}
	want := make([]bool, len(items))
	for i, t := range ties {
		item := &items[i]
		if v.seen != nil {
			v.seen[strings.Clone(item.Key)] = struct{}{}
		}
		switch {
		case t != nil:
			v.compare(t, item)
			v.mark(item)
			if t.Message != 0 { // else it is not known whether it is here
				v.keep(item.Key)
			}
		case !v.rule.Since.IsZero() && !item.Date.IsZero() && item.Date.Before(v.rule.Since):
		case v.wasDeclined(v.box, item.Key):
			if !v.last && v.box.first.held == nil { // told of once
				v.refuse(v.box, v.declined[declinedKey(v.box, item.Key)].why)
			}
			v.box.broken = true
		case v.hold:
			v.box.held[strings.Clone(item.Key)] = struct{}{}
		case v.last:
			_, want[i] = v.box.first.held[item.Key]
		default:
			want[i] = true
		}
	}
	if len(v.changes) >= batchMessages {
		err = v.change(ctx)
	}
	return want, err
}

// compare notes what the source has changed of a message since both sides were the same.
func (v *visitor) compare(t *move.Tie, item *move.Item) {
	if t.Message != 0 && (t.Flags&carried != item.Flags&carried || !sameWords(t.Keywords, item.Keywords)) {
		v.changes = append(v.changes, move.Change{Key: strings.Clone(item.Key), Flags: item.Flags & carried, Keywords: slices.Clone(item.Keywords)})
	}
}

// mark notes what is marked there, while copies are looked for.
func (v *visitor) mark(item *move.Item) {
	if !item.Flags.Has(mail.Deleted) || !v.wasAsked(nil) {
		return
	}
	if v.box.marked == nil {
		v.box.marked = map[string]bool{}
	}
	v.box.marked[strings.Clone(item.Key)] = true
}

func (v *visitor) change(ctx context.Context) error {
	err := v.target.Change(ctx, v.box.id, v.changes)
	if err == nil {
		v.report.Followed += int64(len(v.changes))
		v.changes = v.changes[:0]
	}
	return err
}

func (v *visitor) Put(ctx context.Context, item move.Item, r io.Reader) error {
	text, sum, err := v.take(&watched{r: r, further: v.further})
	v.further()
	if err != nil {
		return err
	}
	m, err := v.moved(ctx, v.box, sum.Content())
	if m == nil && err == nil && v.isCopy(v.box, sum.Content(), item.Key) {
		text.drop()
		return nil
	}
	if m != nil || err != nil {
		text.drop()
		if err == nil {
			err = v.rename(ctx, item, m)
		}
		return err
	}
	if v.known && v.often.enough(sum.Content()) {
		text.drop()
		v.refuse(v.box, tooOften)
		v.decline(v.box, strings.Clone(item.Key), tooOften)
		return nil
	}
	if !v.rule.Since.IsZero() && item.Date.IsZero() && text.date().Before(v.rule.Since) {
		text.drop()
		return nil
	}
	if text.file != nil {
		v.close = append(v.close, text.file)
	}
	item.Keywords, item.UID, item.Key = slices.Clone(item.Keywords), 0, strings.Clone(item.Key)
	item.Flags &= carried
	if v.rule.Into != "" {
		item.Places = nil
	}
	v.batch = append(v.batch, move.Incoming{Item: item, Size: sum.Size(), Open: text.open})
	v.bytes += min(sum.Size(), inMemory)
	if len(v.batch) >= batchMessages || v.bytes >= batchBytes || len(v.close) >= 16 {
		return v.put(ctx)
	}
	return nil
}

// rename ties a message that was moved to where it is now, and moves it here, too. If it was
// deleted here, its tie alone goes along.
func (v *visitor) rename(ctx context.Context, item move.Item, m *missing) error {
	m.used = true
	to := v.box.at.ID
	if m.box.at.ID == to {
		to = 0
	} else {
		v.report.Moved++
	}
	err := v.again.Rename(ctx, []move.Renaming{{Box: m.box.id, Key: m.key, To: v.box.id, NewKey: strings.Clone(item.Key), MoveTo: to, Over: m.box.id == v.limbo() || v.box.Role == mail.RoleTrash}})
	if err != nil {
		return err
	}
	return v.target.Change(ctx, v.box.id, []move.Change{{Key: item.Key, Flags: item.Flags & carried, Keywords: slices.Clone(item.Keywords)}})
}

// put hands the batch over.
func (v *visitor) put(ctx context.Context) error {
	if len(v.batch) == 0 {
		return nil
	}
	out, err := v.target.Put(ctx, v.box.id, v.box.at.ID, v.batch)
	for _, c := range v.close {
		_ = c.Close()
	}
	if err != nil {
		return err
	}
	for i, o := range out {
		if o.Refused != "" {
			v.refuse(v.box, o.Refused)
			v.decline(v.box, v.batch[i].Item.Key, o.Refused)
			continue
		}
		if v.keep(v.batch[i].Item.Key); !o.Before {
			v.report.Brought++
			if v.known {
				v.often.came(o.Content)
			}
		}
	}
	v.batch, v.bytes, v.close = v.batch[:0], 0, v.close[:0]
	return nil
}

// Remover is a source whose messages can be removed.
type Remover interface {
	// Remove removes of these messages what is in the account, and the same there as here; the
	// others stay. It tells how many it has removed.
	Remove(ctx context.Context, mailbox string, keys []string) (removed int, err error)
}

// removes tells whether what was brought is removed at the source: of POP3, if asked.
func (r *Rule) removes() bool { return r.DeleteAtSource && r.Server.Protocol == "pop3" }

func (v *visitor) keep(key string) {
	if v.rule.removes() {
		v.here = append(v.here, strings.Clone(key))
	}
}

// clear removes at the source what is durable here.
func (v *visitor) clear(ctx context.Context) error {
	if len(v.here) == 0 {
		return nil
	}
	source, ok := v.source.(Remover)
	if !ok {
		return fault.New(fault.Unsupported, "nothing can be removed at this source")
	}
	n, err := source.Remove(ctx, v.box.Source, v.here)
	v.report.Carried += int64(n)
	return err
}

func (v *visitor) flush(ctx context.Context) error {
	if err := v.put(ctx); err != nil {
		return err
	}
	if len(v.changes) == 0 {
		return nil
	}
	return v.change(ctx)
}

// watched tells of each 64 KB that are read.
type watched struct {
	r       io.Reader
	further func()
	n       int
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if w.n += n; w.n >= 64<<10 {
		w.n = 0
		w.further()
	}
	return n, err
}

func (v *visitor) Skip(_ context.Context, _ move.Item, why error) error {
	v.refuse(v.box, fault.Say(why))
	return nil
}

// Doubt is called when the source may have more than it tells of.
func (v *visitor) Doubt() { v.box.partial = true }

func (v *visitor) Gone(ctx context.Context, keys []string) error {
	if !v.hold { // at the last reading, which has told of it before
		return nil
	}
	ties, err := v.target.Ties(ctx, v.box.id, keys)
	for _, t := range ties {
		if t != nil && t.Message != 0 {
			v.box.gone[t.Key] = t.Content
		}
	}
	return err
}

// GoneOf is Gone of whatever is brought and meant.
func (v *visitor) GoneOf(ctx context.Context, gone func(key string) bool) error {
	if !v.hold {
		return nil
	}
	return v.target.EachTie(ctx, v.box.id, func(t move.Tie, _ *move.Now) error {
		if t.Message != 0 && gone(t.Key) {
			v.box.gone[t.Key] = t.Content
		}
		return nil
	})
}

func (v *visitor) State(_ context.Context, state []byte) error {
	if !v.last {
		v.box.state = slices.Clone(state)
	}
	return nil
}

// sameWords compares sets of keywords.
func sameWords(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !hasWord(b, x) {
			return false
		}
	}
	return true
}

func hasWord(list []string, word string) bool {
	return slices.ContainsFunc(list, func(w string) bool { return strings.EqualFold(w, word) })
}

// carried are the flags that go both ways. \Deleted does not: it is how some programs delete,
// and the other side may have one that expunges.
const carried = mail.Seen | mail.Answered | mail.Flagged | mail.Draft
