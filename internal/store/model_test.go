package store

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// model is the store as a child would write it: every mailbox a map.
type model struct {
	boxes map[string]*modelBox
}

type modelBox struct {
	id      mail.MailboxID
	next    mail.UID
	rows    map[mail.UID]modelRow
	highest mail.ModSeq
}

type modelRow struct {
	text     string
	flags    mail.Flags
	keywords string // sorted, separated by spaces
	mod      mail.ModSeq
}

func (b *modelBox) uids() []mail.UID {
	var list []mail.UID
	for u := range b.rows {
		list = append(list, u)
	}
	slices.Sort(list)
	return list
}

// machine runs random changes on the store and on the model.
type machine struct {
	w      *world   // one of all
	all    []*world // several if there are several nodes
	model  model
	held   map[string]*Picture          // pictures that sessions still hold
	told   map[string]map[mail.UID]bool // what such a session believes
	parcel map[parcelOf]*Parcel
}

type parcelOf struct {
	w    *world
	text string
}

// TestStoreAgainstModel: random changes, then after each one every mailbox is what
// the model says, every held picture leads by Diff to the present one, and verify
// finds nothing.
func TestStoreAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { checkModel(t, rt, []*world{newWorld(rapidT{rt})}) })
}

func checkModel(t *testing.T, rt *rapid.T, all []*world) {
	m := &machine{
		w: all[0], all: all, model: model{boxes: map[string]*modelBox{}},
		held: map[string]*Picture{}, told: map[string]map[mail.UID]bool{}, parcel: map[parcelOf]*Parcel{},
	}
	if rapid.Bool().Draw(rt, "deleted mail is kept") {
		for _, w := range all {
			w.opt.Keep.For = time.Hour
		}
	}
	for _, name := range []string{"INBOX", "Archive", "Sent"} {
		b, err := m.w.boxErr(name)
		if err != nil {
			rt.Fatal(err)
		}
		// Many messages were there: what comes lies on more than one sheet.
		next := b.UIDNext + mail.UID(len(name)-4)*(sheetSize-70)
		m.w.update(t, func(tx *Tx) error {
			box, err := tx.open(b.ID)
			if err == nil {
				box.UIDNext = next
				tx.touch(box)
			}
			return err
		})
		m.model.boxes[name] = &modelBox{id: b.ID, next: next, rows: map[mail.UID]modelRow{}}
		m.model.boxes[name].highest = m.highest(rt, m.model.boxes[name])
	}
	on := m.somewhere
	rt.Repeat(map[string]func(*rapid.T){
		"append": on(m.append), "append2": on(m.append), "flags": on(m.flags), "expunge": on(m.expunge), "transfer": on(m.transfer),
		"create": on(m.create), "delete": on(m.delete), "rename": on(m.rename), "hold": on(m.hold), "age": on(m.age), "forget": on(m.forget), "": on(m.check),
	})
	m.w.verify(rt)
}

// somewhere lets one of the nodes do something.
func (m *machine) somewhere(do func(*rapid.T)) func(*rapid.T) {
	if len(m.all) == 1 {
		return do
	}
	return func(rt *rapid.T) {
		m.w = rapid.SampledFrom(m.all).Draw(rt, "node")
		do(rt)
	}
}

type rapidT struct{ *rapid.T }

func (w *world) boxErr(name string) (m Mailbox, err error) {
	err = w.a.View(ctx, func(s *Snapshot) (err error) { m, err = s.Mailbox(name); return err })
	return m, err
}

func (m *machine) pick(t *rapid.T) (string, *modelBox) {
	var names []string
	for n := range m.model.boxes {
		names = append(names, n)
	}
	sort.Strings(names)
	name := rapid.SampledFrom(names).Draw(t, "mailbox")
	return name, m.model.boxes[name]
}

func (m *machine) set(t *rapid.T, b *modelBox) mail.UIDSet {
	var s mail.UIDSet
	for range rapid.IntRange(1, 3).Draw(t, "ranges") {
		from := rapid.IntRange(max(1, int(b.next)-300), int(b.next)+2).Draw(t, "from")
		s.AddRange(mail.UID(from), mail.UID(from+rapid.IntRange(0, 90).Draw(t, "len")))
	}
	return s
}

var flagsGen = rapid.Custom(func(t *rapid.T) mail.Flags { return mail.Flags(rapid.IntRange(0, 31).Draw(t, "flags")) })
var keywordsGen = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"$A", "$B", "c", "d", "e", "f", "g", "h", "i"}), 0, 3, func(s string) string { return s })

func (m *machine) append(t *rapid.T) {
	_, b := m.pick(t)
	n := rapid.IntRange(1, 40).Draw(t, "n")
	flags, keywords := flagsGen.Draw(t, "flags"), keywordsGen.Draw(t, "keywords")
	text := fmt.Sprintf("Subject: %d\r\n\r\n%s", rapid.IntRange(0, 5).Draw(t, "subject"), strings.Repeat("x", rapid.IntRange(0, 100).Draw(t, "body")))
	p := m.parcel[parcelOf{m.w, text}]
	if p == nil {
		var err error
		if p, err = m.w.Receive(ctx, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		m.parcel[parcelOf{m.w, text}] = p
	}
	err := m.w.a.Update(ctx, func(tx *Tx) error {
		for i := range n {
			uid, err := tx.Append(b.id, NewMessage{Parcel: p, Flags: flags, Keywords: keywords})
			if err != nil {
				return err
			}
			if want := b.next + mail.UID(i); uid != want {
				t.Fatalf("UID %d, want %d", uid, want)
			}
		}
		b.highest = tx.ModSeq()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		b.rows[b.next] = modelRow{text, flags, joined2(keywords), b.highest}
		b.next++
	}
}

func joined2(k []string) string {
	k = slices.Clone(k)
	slices.Sort(k)
	return strings.Join(k, " ")
}

func (m *machine) flags(t *rapid.T) {
	_, b := m.pick(t)
	set := m.set(t, b)
	c := FlagChange{Op: FlagOp(rapid.IntRange(0, 2).Draw(t, "op")), Flags: flagsGen.Draw(t, "flags"), Keywords: keywordsGen.Draw(t, "keywords")}
	if rapid.Bool().Draw(t, "conditional") {
		since := mail.ModSeq(rapid.IntRange(0, int(b.highest)+1).Draw(t, "since"))
		c.UnchangedSince = &since
	}
	var mod mail.ModSeq
	var res FlagResult
	if rapid.Bool().Draw(t, "of any size") {
		r, err := m.w.a.SetFlags(ctx, b.id, set, c)
		if err != nil {
			t.Fatal(err)
		}
		m.flagged(t, b, set, c, r, m.highest(t, b))
		return
	}
	err := m.w.a.Update(ctx, func(tx *Tx) (err error) {
		mod = tx.ModSeq()
		res, err = tx.SetFlags(b.id, set, c)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	m.flagged(t, b, set, c, res, mod)
}

// flagged does in the model what was done with flags as one change.
func (m *machine) flagged(t *rapid.T, b *modelBox, set mail.UIDSet, c FlagChange, res FlagResult, mod mail.ModSeq) {
	var changed, failed []mail.UID
	for _, u := range b.uids() {
		r := b.rows[u]
		if !set.Contains(u) {
			continue
		}
		if c.UnchangedSince != nil && r.mod > *c.UnchangedSince {
			failed = append(failed, u)
			continue
		}
		after := r.apply(c)
		if after != r {
			after.mod = mod
			b.rows[u], b.highest = after, mod
			changed = append(changed, u)
		}
	}
	if c.Op != RemoveFlags && len(c.Keywords) > 0 {
		b.highest = m.highest(t, b) // a new keyword alone changes the mailbox too
	}
	if res.Changed.String() != mail.SetOf(changed...).String() || res.Failed.String() != mail.SetOf(failed...).String() {
		t.Fatalf("changed %v, failed %v; want %v, %v", res.Changed, res.Failed, changed, failed)
	}
}

func (m *machine) highest(t *rapid.T, b *modelBox) mail.ModSeq {
	p, err := m.w.a.Picture(ctx, b.id)
	if err != nil || p.ModSeq() < b.highest {
		t.Fatalf("modseq fell to %d: %v", p.ModSeq(), err)
	}
	return p.ModSeq()
}

func (r modelRow) apply(c FlagChange) modelRow {
	have := map[string]bool{}
	for _, k := range strings.Fields(r.keywords) {
		have[k] = true
	}
	if c.Op == ReplaceFlags {
		r.flags, have = 0, map[string]bool{}
	}
	if c.Op == RemoveFlags {
		r.flags &^= c.Flags
	} else {
		r.flags |= c.Flags
	}
	for _, k := range c.Keywords {
		have[k] = c.Op != RemoveFlags
	}
	var list []string
	for k, on := range have {
		if on {
			list = append(list, k)
		}
	}
	r.keywords = joined2(list)
	return r
}

func (m *machine) expunge(t *rapid.T) {
	_, b := m.pick(t)
	set, only := m.set(t, b), rapid.Bool().Draw(t, "only deleted")
	gone, err := m.w.a.Expunge(ctx, b.id, set, only)
	if err != nil {
		t.Fatal(err)
	}
	var want []mail.UID
	for _, u := range b.uids() {
		if set.Contains(u) && (!only || b.rows[u].flags.Has(mail.Deleted)) {
			want = append(want, u)
			delete(b.rows, u)
		}
	}
	if gone.String() != mail.SetOf(want...).String() {
		t.Fatalf("expunged %v, want %v", gone, want)
	}
	b.highest = m.highest(t, b)
}

func (m *machine) transfer(t *rapid.T) {
	_, from := m.pick(t)
	_, to := m.pick(t)
	set, move := m.set(t, from), rapid.Bool().Draw(t, "move")
	verb := m.w.a.Copy
	if move {
		verb = m.w.a.Move
	}
	moved, err := verb(ctx, from.id, set, to.id)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for _, u := range from.uids() {
		if !set.Contains(u) {
			continue
		}
		if i >= len(moved) || moved[i] != (Moved{u, to.next}) {
			t.Fatalf("moved %v, want %d to %d at %d", moved, u, to.next, i)
		}
		i++
		r := from.rows[u]
		if move {
			delete(from.rows, u)
		}
		to.rows[to.next] = r
		to.next++
	}
	from.highest, to.highest = m.highest(t, from), m.highest(t, to)
	for _, mv := range moved {
		r := to.rows[mv.To]
		r.mod = to.highest
		to.rows[mv.To] = r
	}
}

var namesGen = rapid.SampledFrom([]string{"Archive", "Sent", "x", "x/y", "x/y/z", "w"})

func (m *machine) create(t *rapid.T) {
	name := namesGen.Draw(t, "name")
	err := m.w.a.Update(ctx, func(tx *Tx) error { _, err := tx.CreateMailbox(name, ""); return err })
	if _, exists := m.model.boxes[name]; exists || name == "Archive" || name == "Sent" {
		if !exists && err == nil { // one of the defaults, deleted before
			m.adopt(t, name)
			return
		}
		if !fault.Is(err, fault.Exists) {
			t.Fatalf("create %s: %v", name, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m.adoptUp(t, name)
}

// adoptUp takes up a mailbox that was made and those made above it.
func (m *machine) adoptUp(t *rapid.T, name string) {
	for ; name != "" && m.model.boxes[name] == nil; name = Parent(name) {
		m.adopt(t, name)
	}
}

func (m *machine) adopt(t *rapid.T, name string) {
	b, err := m.w.boxErr(name)
	if err != nil {
		t.Fatal(err)
	}
	m.model.boxes[name] = &modelBox{id: b.ID, next: 1, rows: map[mail.UID]modelRow{}, highest: b.HighestModSeq}
}

func (m *machine) delete(t *rapid.T) {
	name, _ := m.pick(t)
	if name == "INBOX" {
		return
	}
	if err := m.w.a.Update(ctx, func(tx *Tx) error { return tx.DeleteMailbox(name) }); err != nil {
		t.Fatal(err)
	}
	delete(m.model.boxes, name)
	delete(m.held, name)
	if rapid.Bool().Draw(t, "reap") {
		if err := m.w.a.Reap(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *machine) rename(t *rapid.T) {
	from, _ := m.pick(t)
	to := namesGen.Draw(t, "to")
	err := m.w.a.Update(ctx, func(tx *Tx) error { return tx.RenameMailbox(from, to) })
	_, exists := m.model.boxes[to]
	if from == "INBOX" || exists || strings.HasPrefix(to, from+"/") {
		if err == nil {
			t.Fatalf("rename %s to %s worked", from, to)
		}
		return
	}
	if fault.Is(err, fault.Exists) { // a child's new name is taken
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range m.model.boxes {
		if name == from || strings.HasPrefix(name, from+"/") {
			delete(m.model.boxes, name)
			delete(m.held, name)
			defer func() { m.model.boxes[to+strings.TrimPrefix(name, from)] = b }()
		}
	}
	m.adoptUp(t, Parent(to))
}

// age puts a part of a mailbox on record as earlier versions did.
func (m *machine) age(t *rapid.T) {
	_, b := m.pick(t)
	if err := m.w.age(b.id, rapid.Uint64Range(0, sheetOf(b.next)).Draw(t, "sheet")); err != nil {
		t.Fatal(err)
	}
}

// forget drops a picture, as the cache does.
func (m *machine) forget(t *rapid.T) {
	_, b := m.pick(t)
	s := m.w.a.box(b.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.picture = nil
}

// hold makes a session keep the present picture for a while.
func (m *machine) hold(t *rapid.T) {
	name, b := m.pick(t)
	p, err := m.w.a.Picture(ctx, b.id)
	if err != nil {
		t.Fatal(err)
	}
	m.held[name], m.told[name] = p, map[mail.UID]bool{}
	for u := range b.rows {
		m.told[name][u] = true
	}
}

// check compares everything that can be asked with the model.
func (m *machine) check(t *rapid.T) {
	for name, b := range m.model.boxes {
		p, err := m.w.a.Picture(ctx, b.id)
		if err != nil {
			t.Fatal(name, err)
		}
		m.checkPicture(t, name, b, p)
		if old := m.held[name]; old != nil {
			m.checkDiff(t, name, b, old, p)
		}
	}
}

func (m *machine) checkPicture(t *rapid.T, name string, b *modelBox, p *Picture) {
	uids := b.uids()
	if p.Len() != len(uids) || p.Mailbox().UIDNext != b.next || p.ModSeq() != b.highest || p.Mailbox().Name != name {
		t.Fatalf("%s: %d messages, next %d, modseq %d; want %d, %d, %d", name, p.Len(), p.Mailbox().UIDNext, p.ModSeq(), len(uids), b.next, b.highest)
	}
	i, unseen := 0, 0
	for seq, msg := range p.Messages(All()) {
		u := uids[i]
		i++
		r := b.rows[u]
		kw := joined2(p.Keywords(msg))
		if seq != i || msg.UID != u || msg.Flags != r.flags || kw != r.keywords || msg.Size != int64(len(r.text)) || msg.ModSeq != r.mod {
			t.Fatalf("%s: number %d is %+v %q, want %d %+v", name, seq, msg, kw, u, r)
		}
		if s, ok := p.Seq(u); !ok || s != i || p.UID(i) != u {
			t.Fatalf("%s: Seq(%d) = %d, UID(%d) = %d", name, u, s, i, p.UID(i))
		}
		if !r.flags.Has(mail.Seen) {
			if unseen == 0 && p.FirstUnseen() != i {
				t.Fatalf("first unseen %d, want %d", p.FirstUnseen(), i)
			}
			unseen++
		}
	}
	if int(p.Mailbox().Unseen) != unseen {
		t.Fatalf("%d unseen, want %d", p.Mailbox().Unseen, unseen)
	}
	m.checkParts(t, b, p, uids)
}

// checkParts compares answers about some of the messages.
func (m *machine) checkParts(t *rapid.T, b *modelBox, p *Picture, uids []mail.UID) {
	set := m.set(t, b)
	since := mail.ModSeq(rapid.IntRange(0, int(b.highest)).Draw(t, "changed since"))
	var there, changed, yielded mail.UIDSet
	for _, u := range uids {
		if set.Contains(u) {
			there.Add(u)
			if b.rows[u].mod > since {
				changed.Add(u)
			}
		}
	}
	for seq, msg := range p.Messages(set) {
		yielded.Add(msg.UID)
		if one, ok := p.Message(msg.UID); !ok || one != msg || p.UID(seq) != msg.UID {
			t.Fatalf("%+v is %+v by itself", msg, one)
		}
	}
	var marked mail.UIDSet
	for seq, msg := range p.Marks(set) {
		marked.Add(msg.UID)
		one, _ := p.Message(msg.UID)
		want := Message{UID: one.UID, Flags: one.Flags, Keywords: one.Keywords, ModSeq: one.ModSeq}
		if msg != want || p.UID(seq) != msg.UID {
			t.Fatalf("the marks of %+v are %+v", one, msg)
		}
	}
	if !slices.Equal(there, marked) || !slices.Equal(there, p.Existing(set)) || !slices.Equal(there, yielded) || !slices.Equal(changed, p.ChangedSince(set, since)) {
		t.Fatalf("of %v: %v exist, %v were yielded, %v changed since %d; want %v, %v", set, p.Existing(set), yielded, p.ChangedSince(set, since), since, there, changed)
	}
	cut := p.Before(set[0].From)
	n, _ := slices.BinarySearch(uids, set[0].From)
	if cut.Len() != n || n > 0 && cut.UID(n) != uids[n-1] {
		t.Fatalf("%d messages before %d, want %d", cut.Len(), set[0].From, n)
	}
	for seq, msg := range cut.Messages(All()) {
		if one, _ := p.Message(msg.UID); one != msg || msg.UID != uids[seq-1] {
			t.Fatalf("%+v is %+v before it was cut", msg, one)
		}
	}
	if d := Diff(cut, p); !d.Expunged.IsEmpty() || !d.Changed.IsEmpty() || d.Arrived.Len() != len(uids)-n {
		t.Fatalf("%+v lie between %d and the end", d, set[0].From)
	}
	if len(uids) > 0 {
		u := rapid.SampledFrom(uids).Draw(t, "one")
		want, _ := p.Message(u)
		err := m.w.a.View(ctx, func(s *Snapshot) error {
			if got, err := s.Message(b.id, u); err != nil || got != want {
				t.Fatalf("%+v is %+v on record: %v", want, got, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (m *machine) checkDiff(t *rapid.T, name string, b *modelBox, old, now *Picture) {
	d := Diff(old, now)
	have := map[mail.UID]bool{}
	for u := range m.told[name] {
		have[u] = true
	}
	for u := range d.Expunged.All() {
		if !have[u] {
			t.Fatalf("expunged %d was never there", u)
		}
		delete(have, u)
	}
	for u := range d.Arrived.All() {
		have[u] = true
	}
	if len(have) != len(b.rows) {
		t.Fatalf("after the difference %d messages, want %d", len(have), len(b.rows))
	}
	for u, r := range b.rows {
		was, ok := old.Message(u)
		if ok && (was.ModSeq != r.mod) != d.Changed.Contains(u) {
			t.Fatalf("%d: changed %v", u, d.Changed)
		}
	}
	err := m.w.a.View(ctx, func(s *Snapshot) error {
		c, err := s.Changes(b.id, old.ModSeq())
		for u := range d.Expunged.All() {
			if !c.Expunged.Contains(u) {
				t.Fatalf("the log misses that %d was expunged", u)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
