package move

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
)

// What is on its way at most: one batch that is filled, one that waits, one that the target
// takes.
const (
	batchBytes    = 4 << 20
	batchMessages = 500
	batchAge      = time.Second // of a slow source: what came is not to be lost for long
	spoolOver     = 1 << 20     // a larger message is on disk meanwhile
)

// filler is the Visitor of an import: it fills batches and hands them to the target.
type filler struct {
	im    *importing
	m     *Mailbox
	at    Place
	row   *MailboxReport
	batch *batch
	feed  *feed
	done  int64

	changes []Change
	states  []byte
	whole   bool // the source has told all
	former  former
}

// batch is messages on their way.
type batch struct {
	bytes []byte // of the messages that are in memory, one after the other
	list  []onItsWay
	began time.Time // when the first came
}

type onItsWay struct {
	item     Item
	at       Place
	from, to int // in bytes
	file     store.SpoolFile
	size     int64
	content  Content // of what was read
}

func newFiller(ctx context.Context, im *importing, m *Mailbox, at Place, row *MailboxReport) *filler {
	f := &filler{im: im, m: m, at: at, row: row}
	f.feed = newFeed(ctx, f)
	f.batch = f.feed.empty()
	return f
}

// Want says which messages are new.
func (f *filler) Want(ctx context.Context, items []Item) ([]bool, error) {
	keys := make([]string, len(items))
	for i := range items {
		keys[i] = items[i].Key
	}
	ties, err := f.im.Target.Ties(ctx, f.row.box, keys)
	if err != nil {
		return nil, &targetError{err}
	}
	if err := f.renumbered(ctx, items, ties); err != nil {
		return nil, &targetError{err}
	}
	want, done := make([]bool, len(items)), 0
	told := make(map[string]int, len(items))
	for i := range items {
		item := &items[i]
		if first, again := told[item.Key]; again {
			f.toldTwice(&items[first], item)
			continue
		}
		told[item.Key] = i
		f.row.Messages++
		f.row.Bytes += max(item.Size, 0)
		f.known(ties[i])
		want[i] = f.wants(item, ties[i])
		if !want[i] {
			done++
		}
	}
	f.progress(done)
	return want, f.carry(ctx, changesAtOnce)
}

// toldTwice passes over a message that the source tells of twice: it counts once. Another message
// of the same key cannot be brought. As nothing can tell the two apart later, it counts as skipped.
func (f *filler) toldTwice(first, item *Item) {
	if item.Size != first.Size || item.MessageID != first.MessageID || !item.Date.Equal(first.Date) {
		f.row.Messages++
		f.row.Bytes += max(item.Size, 0)
		f.skip(item, sameKey, false)
	}
}

const sameKey = "the source calls another message the same"

// known counts a tie.
func (f *filler) known(t *Tie) {
	if t != nil {
		f.feed.mu.Lock()
		f.row.tied++
		f.feed.mu.Unlock()
	}
}

func (f *filler) wants(item *Item, tie *Tie) bool {
	if tie != nil {
		if f.im.Choice.SkipDuplicates {
			f.im.twins.again(f.m.Source, item)
		}
		if f.im.FollowFlags && !sameMarks(item, tie) {
			f.changes = append(f.changes, Change{Key: item.Key, Flags: item.Flags, Keywords: validNames(item.Keywords)})
		}
		return false
	}
	why := f.im.Choice.leaves(item)
	if why == "" && f.im.Choice.SkipDuplicates && f.im.twins.again(f.m.Source, item) {
		why = "there already, by its Message-ID and size"
	}
	if why != "" {
		f.row.LeftOut++
		return false
	}
	if f.im.most > 0 && item.Size > 2*f.im.most { // sources know sizes roughly
		f.skip(item, "larger than the server takes", false)
		return false
	}
	if full := f.im.full.Load(); full > 0 && item.Size >= full { // it is not even read
		f.skip(item, "the account is full", true)
		return false
	}
	return true
}

func sameMarks(item *Item, tie *Tie) bool {
	return item.Flags == tie.Flags && slices.Equal(slices.Sorted(slices.Values(validNames(item.Keywords))), slices.Sorted(slices.Values(tie.Keywords)))
}

// carry makes changes, if there are many enough.
func (f *filler) carry(ctx context.Context, many int) error {
	if len(f.changes) < many {
		return nil
	}
	err := f.im.Target.Change(ctx, f.row.box, f.changes)
	if f.changes = f.changes[:0]; err != nil {
		return &targetError{err}
	}
	return nil
}

// Put takes a message into the batch.
func (f *filler) Put(ctx context.Context, item Item, r io.Reader) error {
	if err := f.feed.failed(); err != nil {
		return err
	}
	at, err := f.place(ctx, &item)
	if err != nil {
		return err
	}
	if len(item.Keywords) > mostKeywords || len(item.Places) > mostPlaces {
		f.changed(&item, fmt.Sprintf("of its keywords and mailboxes the first %d and %d are kept", mostKeywords, mostPlaces))
	}
	w := onItsWay{item: keep(item), at: at, from: len(f.batch.bytes)}
	if !f.row.Kept {
		w.item.UID = 0
	}
	if err := f.take(r, &w); err != nil {
		f.batch.bytes = f.batch.bytes[:w.from]
		return err
	}
	if old := f.former.take(w.content, item.Key); old != "" {
		f.batch.bytes = f.batch.bytes[:w.from]
		if w.file != nil {
			w.file.Close()
		}
		f.progress(1)
		f.known(&Tie{Key: old})
		f.changes = append(f.changes, Change{Key: old, NewKey: strings.Clone(item.Key)})
		return f.carry(ctx, changesAtOnce)
	}
	if w.file != nil && len(f.batch.list) > 0 { // it goes alone
		if err := f.send(); err != nil {
			w.file.Close()
			return err
		}
	}
	now := f.im.Now()
	if len(f.batch.list) == 0 {
		f.batch.began = now
	}
	f.batch.list = append(f.batch.list, w)
	if w.file != nil || len(f.batch.list) == batchMessages || len(f.batch.bytes) > batchBytes || now.Sub(f.batch.began) >= batchAge {
		if err := f.send(); err != nil {
			return err
		}
	}
	return f.im.pace.after(ctx, w.size)
}

// take reads a message.
func (f *filler) take(r io.Reader, w *onItsWay) error {
	var sum Summer
	b := f.batch.bytes
	for {
		b = slices.Grow(b, 32<<10)
		n, err := r.Read(b[len(b):cap(b)])
		sum.Write(b[len(b) : len(b)+n])
		b = b[:len(b)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if len(b)-w.from > spoolOver && f.im.Spool != nil {
			err := f.spool(b[w.from:], io.TeeReader(r, &sum), w)
			b = b[:w.from]
			if err != nil {
				return err
			}
			break
		}
	}
	f.batch.bytes = b
	w.to, w.size, w.content = len(b), sum.Size(), sum.Content()
	return nil
}

// spool puts the beginning and the rest of a message into a file.
func (f *filler) spool(head []byte, rest io.Reader, w *onItsWay) error {
	file, err := f.im.Spool()
	if err != nil {
		return &targetError{fault.Wrap(fault.Unavailable, "no room for a message on its way", err)}
	}
	_, err = file.Write(head)
	if err == nil {
		_, err = io.Copy(file, rest)
	}
	if err != nil {
		file.Close()
		return err
	}
	w.file = file
	return nil
}

// place returns the mailbox here that a message goes into.
func (f *filler) place(ctx context.Context, item *Item) (Place, error) {
	if !f.m.Scattered {
		return f.at, nil
	}
	name := f.m.Name
	if len(item.Places) > 0 {
		name, item.Places = item.Places[0], item.Places[1:]
	}
	if at, ok := f.im.places[name]; ok {
		return at, nil
	}
	at, _, err := f.im.Target.Open(ctx, f.row.box.Source, Mailbox{Name: NameHere(name), Source: "/" + shortName(name), Subscribed: true})
	if fault.Is(err, fault.OverQuota) && name != f.m.Name { // there are too many
		f.changed(item, "it is not in the mailbox "+name+": "+fault.Say(err))
		item.Places = nil
		return f.place(ctx, item)
	}
	if err != nil {
		return at, &targetError{err}
	}
	f.im.places[name] = at
	return at, nil
}

// shortName is a name that ties can have, for one that may be longer.
func shortName(name string) string {
	const most = 390
	if len(name) > most {
		return shorten(name, most)
	}
	return name
}

// What a message may have at most of what is said about it.
const (
	mostKeywords = 200
	mostPlaces   = 64
)

// keep returns an item that outlives the source's next step.
func keep(item Item) Item {
	item.Keywords = validNames(item.Keywords)
	item.Places = slices.Clone(item.Places[:min(len(item.Places), mostPlaces)])
	item.MessageID = strings.ToValidUTF8(item.MessageID, "?")
	return item
}

// validNames returns names as they can be written down: in UTF-8, not too long, not too many.
func validNames(names []string) []string {
	names = names[:min(len(names), mostKeywords)]
	if len(names) == 0 {
		return nil
	}
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = strings.ToValidUTF8(n[:min(len(n), 2*store.MaxKeyword)], "?")
	}
	return list
}

// send hands the batch to the feed.
func (f *filler) send() error {
	if len(f.batch.list) == 0 {
		return f.feed.failed()
	}
	b := f.batch
	f.batch = f.feed.send(b)
	return f.feed.failed()
}

// Skip notes that the source could not give a message.
func (f *filler) Skip(_ context.Context, item Item, why error) error {
	f.skip(&item, describe(why), mayPass(why))
	return nil
}

// Gone notes that messages are no more at the source.
func (f *filler) Gone(ctx context.Context, keys []string) error {
	if !f.im.FollowGone {
		return nil
	}
	for _, k := range keys {
		f.changes = append(f.changes, Change{Key: k, Gone: true})
	}
	return f.carry(ctx, changesAtOnce)
}

// GoneOf is Gone of whatever is brought and meant.
func (f *filler) GoneOf(ctx context.Context, gone func(key string) bool) error {
	if !f.im.FollowGone {
		return nil
	}
	var keys []string
	err := f.im.Target.EachTie(ctx, f.row.box, func(t Tie, _ *Now) error {
		if gone(t.Key) {
			keys = append(keys, t.Key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return f.Gone(ctx, keys)
}

// State keeps the state until all before it is in.
func (f *filler) State(_ context.Context, state []byte) error {
	f.states, f.whole = bytes.Clone(state), true
	return nil
}

// finish waits until all is in, after the source has been read to its end or to an error.
func (f *filler) finish(ctx context.Context, read error) error {
	if ctx.Err() == nil { // what came before a line broke is not to come again
		_ = f.send()
	}
	put := f.feed.end()
	if put != nil { // why the reading ended, if it was not for its own sake
		return put
	}
	if read == nil {
		read = f.carry(ctx, 1)
	}
	if read != nil {
		return read
	}
	if f.whole && f.im.Changes && !f.row.later && !f.im.Choice.partial() {
		if err := f.im.Target.SetState(ctx, f.row.box, f.states); err != nil {
			return &targetError{err}
		}
	}
	return nil
}

// changed notes what was changed of a message.
func (f *filler) changed(item *Item, why string) {
	f.feed.mu.Lock()
	f.row.Changed++
	f.feed.mu.Unlock()
	f.im.tell(Event{Event: "changed", Source: f.m.Source, Mailbox: f.row.Mailbox, Key: item.Key, Message: item.MessageID, Bytes: item.Size, Why: why})
}

// skip notes a message that is not brought.
func (f *filler) skip(item *Item, why string, later bool) {
	f.feed.mu.Lock()
	defer f.feed.mu.Unlock()
	f.row.Skipped++
	f.row.later = f.row.later || later
	if len(f.row.Skips) < mostSkips {
		f.row.Skips = append(f.row.Skips, Skipped{Key: item.Key, UID: uint32(item.UID), MessageID: item.MessageID, Bytes: item.Size, Why: why})
	}
	f.im.tell(Event{Event: "skipped", Source: f.m.Source, Mailbox: f.row.Mailbox, Key: item.Key, Message: item.MessageID, Bytes: item.Size, Why: why})
}
