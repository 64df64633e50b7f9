package move

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// memory is a source in memory.
type memory struct {
	boxes []memoryBox
	cut   int // messages after which its connection is lost, each time it is opened; 0: never
	opens int
	left  int
	files bool   // it is files
	id    string // "": memory
	knows bool   // it has listed its mailboxes since it was opened
}

type memoryBox struct {
	Mailbox
	mail   []memoryMail
	broken error // of a reading
}

type memoryMail struct {
	Item
	text   string
	cannot error
	lost   bool // the source says nothing of it when it is wanted
}

func (s *memory) open(context.Context) (Source, error) {
	s.opens++
	s.left, s.knows = s.cut, false
	return s, nil
}

func (s *memory) ID() string     { return cmp.Or(s.id, "memory") }
func (s *memory) Advice() Advice { return Advice{Files: s.files} }
func (s *memory) Close() error   { return nil }

func (s *memory) Mailboxes(context.Context) (list []Mailbox, err error) {
	s.knows = true
	for _, b := range s.boxes {
		b.Messages = int64(len(b.mail))
		list = append(list, b.Mailbox)
	}
	return list, nil
}

func (s *memory) Read(ctx context.Context, m Mailbox, how Reading, v Visitor) error {
	i := slices.IndexFunc(s.boxes, func(b memoryBox) bool { return b.Source == m.Source })
	if !s.knows {
		return fault.New(fault.NotFound, "there is no such mailbox")
	}
	if err := s.boxes[i].broken; err != nil {
		return err
	}
	list := s.boxes[i].mail
	blocks := slices.Collect(slices.Chunk(list, MaxItems))
	if how.Order == NewestFirst {
		slices.Reverse(blocks)
	}
	for _, block := range blocks {
		items := make([]Item, len(block))
		for i := range block {
			items[i] = block[i].Item
		}
		want, err := v.Want(ctx, items)
		if err != nil {
			return err
		}
		for i, m := range block {
			if !want[i] || m.lost {
				continue
			}
			if s.cut > 0 {
				if s.left--; s.left < 0 {
					return &net.OpError{Op: "read", Err: errors.New("connection reset")}
				}
			}
			if m.cannot != nil {
				err = v.Skip(ctx, items[i], m.cannot)
			} else {
				err = v.Put(ctx, items[i], strings.NewReader(m.text))
			}
			if err != nil {
				return err
			}
		}
	}
	return v.State(ctx, []byte("state"))
}

// add adds a message to a mailbox of the source.
func (b *memoryBox) add(text string, item Item) {
	n := len(b.mail) + 1
	if item.Key == "" {
		item.Key = fmt.Sprint(b.UIDValidity, ".", n)
	}
	if item.UID == 0 && b.UIDValidity != 0 {
		item.UID = mail.UID(n * 3)
	}
	if item.Size == 0 {
		item.Size = int64(len(text))
	}
	b.mail = append(b.mail, memoryMail{Item: item, text: text})
}

func newMemory(messages int) *memory {
	s := &memory{}
	for i, m := range []Mailbox{
		{Name: "INBOX", Source: "INBOX", Role: mail.RoleInbox, UIDValidity: 71},
		{Name: "Sent Items", Source: "Sent Items", Role: mail.RoleSent},
		{Name: "Work/50%", Source: "Work.50%", UIDValidity: 71, Subscribed: true},
	} {
		b := memoryBox{Mailbox: m}
		for n := range messages {
			b.add(letter(100*i+n), Item{Flags: mail.Flags(n % 32), Keywords: []string{"$Forwarded", fmt.Sprint("k", n%3)}[:n%3],
				Date: time.Unix(1_500_000_000+int64(n), 0), MessageID: fmt.Sprint(100*i+n, "@example.org")})
		}
		s.boxes = append(s.boxes, b)
	}
	return s
}

func noWait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func (w *world) options(s *memory) Options {
	return Options{Open: s.open, Target: w.Local, Now: func() time.Time { return time.Unix(0, 0) }, Wait: noWait}
}

// proves fails unless all that the source has is here once, as it is there.
func (w *world) proves(t testing.TB, o Options, r *Report) (list []Proof) {
	t.Helper()
	tell := func(d Difference) { t.Errorf("%+v", d) }
	row := func(p Proof) {
		if list = append(list, p); !p.Whole() {
			t.Errorf("not whole: %+v", p)
		}
	}
	if err := Prove(ctx, o.Target, r, tell, row); err != nil {
		t.Error(err)
	}
	if err := Verify(ctx, o, tell, row); err != nil {
		t.Error(err)
	}
	w.verify(t)
	return list
}

func TestImport(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := newMemory(40)
	o := w.options(s)
	plan, err := MakePlan(ctx, o)
	if err != nil || plan.Total.New != 120 || plan.Mailboxes[1].Mailbox != "Sent" || plan.Mailboxes[2].Mailbox != "Work/50=25" || !plan.Mailboxes[2].Made || !plan.Mailboxes[0].Kept {
		t.Fatalf("%+v %v", plan, err)
	}
	for round := range 2 {
		r, err := Import(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range r.Mailboxes {
			want := MailboxReport{Source: m.Source, Mailbox: []string{"INBOX", "Sent", "Work/50=25"}[i], Kept: i != 1, Messages: 40, Bytes: m.Bytes, Before: int64(40 * round), Brought: int64(40 - 40*round), Read: m.Read, box: m.box, tied: 40}
			if !equalRows(m, want) {
				t.Errorf("round %d: %+v", round, m)
			}
		}
		w.proves(t, o, r)
	}
	if p := w.place(t, "INBOX"); p.Messages != 40 || p.UIDValidity != 71 || p.UIDNext != 121 {
		t.Errorf("%+v", p)
	}
	// Something comes, and the flags of something change: the one is brought, the other if asked.
	s.boxes[0].add(letter(7000), Item{})
	s.boxes[0].mail[3].Flags, s.boxes[0].mail[3].Keywords = mail.Seen|mail.Draft, []string{"new"}
	o.FollowFlags = true
	r, err := Import(ctx, o)
	if err != nil || r.Mailboxes[0].Brought != 1 || r.Mailboxes[0].Before != 40 {
		t.Errorf("%+v %v", r, err)
	}
	for _, p := range w.proves(t, o, r) {
		if p.Flags != 0 {
			t.Errorf("%+v", p)
		}
	}
	// What has changed at the source since is seen when it is read again.
	s.boxes[1].mail[2].Flags ^= mail.Seen
	s.boxes[1].mail[3].Keywords = []string{"another"}
	s.boxes[1].mail[4].Date = s.boxes[1].mail[4].Date.Add(time.Second)
	var again Proof
	var told []Difference
	if err := Verify(ctx, o, func(d Difference) { told = append(told, d) }, func(p Proof) {
		if p.Source == "Sent Items" {
			again = p
		}
	}); err != nil {
		t.Fatal(err)
	}
	if again.Flags != 2 || again.Dates != 1 || again.Same != 40 || again.Whole() || len(told) != 1 || told[0].Key != "0.5" {
		t.Errorf("%+v %+v", again, told)
	}
}

// What came before and is at the source no more does not stand for what is missing.
func TestProofCountsWhatIsThere(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := newMemory(10)
	o := w.options(s)
	if _, err := Import(ctx, o); err != nil {
		t.Fatal(err)
	}
	b := &s.boxes[1]
	b.mail = b.mail[5:]
	for i := range 3 {
		b.add(letter(5000+i), Item{Key: fmt.Sprint("new", i)})
	}
	b.mail[6].lost = true
	r, err := Import(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	var lost []int64
	if err := Prove(ctx, o.Target, r, func(d Difference) { t.Errorf("%+v", d) }, func(p Proof) { lost = append(lost, p.Lost) }); err != nil {
		t.Fatal(err)
	}
	if m := r.Mailboxes[1]; !slices.Equal(lost, []int64{0, 1, 0}) || m.Messages != 8 || m.Brought != 2 || m.Before != 5 {
		t.Errorf("missing are %d: %+v", lost, m)
	}
}

// A key that the source tells of twice is one message, or two of which one cannot come: what came
// before and is gone there does not stand for that.
func TestProofOfKeysToldTwice(t *testing.T) {
	for _, c := range []struct {
		what             string
		far              bool // behind other messages
		text             string
		messages, missed int64
	}{
		{"the same", false, letter(5000), 1, 0}, {"another", false, letter(5001) + "more", 2, 1},
		{"the same, later", true, letter(5000), 2, 0}, {"another, later", true, letter(5001) + "more", 2, 1},
	} {
		w := newWorld(t, store.Quota{})
		s := newMemory(10)
		o := w.options(s)
		if _, err := Import(ctx, o); err != nil {
			t.Fatal(err)
		}
		b := &s.boxes[1]
		b.mail = nil
		b.add(letter(5000), Item{Key: "k"})
		if c.far {
			for i := range int64(MaxItems) {
				b.add("", Item{Key: fmt.Sprint("far", i)})
			}
			c.messages += int64(MaxItems)
		}
		b.add(c.text, Item{Key: "k"})
		b.add(letter(6000), Item{Key: "lost"})
		b.mail[len(b.mail)-1].lost = true
		rounds := 2
		if c.far {
			rounds = 1 // what was told long before is not remembered
		}
		for range rounds {
			r, err := Import(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			if err := Prove(ctx, o.Target, r, func(d Difference) { t.Errorf("%+v", d) }, func(p Proof) {
				// Far behind the first, another one is taken for it if the first is in the account already.
				told := p.Skipped == c.missed || c.far && p.Skipped == 0
				if p.Source == "Sent Items" && (p.Messages != c.messages+1 || !told || p.Lost != 1) {
					t.Errorf("%s: %+v", c.what, p)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A message that is expunged between the look at it and the reading is not a damaged one.
func TestProofOfWhatIsExpungedMeanwhile(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := newMemory(0)
	for i := range 2 {
		s.boxes[1].add(letter(i)+strings.Repeat("abcdefghijklmnopqrstuvwxyz\r\n", 10_000), Item{})
	}
	r, err := Import(ctx, w.options(s))
	if err != nil {
		t.Fatal(err)
	}
	found, err := w.someTies(Proving(ctx), r.Mailboxes[1].box, "")
	if err != nil || len(found) != 2 {
		t.Fatal(err, len(found))
	}
	if _, err := w.Store.Account(1).Expunge(ctx, found[0].tie.Mailbox, mail.SetOf(found[0].tie.UID), false); err != nil {
		t.Fatal(err)
	}
	if err := w.prove(Proving(ctx), found); err != nil || found[0].now != nil || found[1].now == nil || found[1].now.Content != found[1].tie.Stored {
		t.Errorf("%+v %v", found, err)
	}
}

func equalRows(a, b MailboxReport) bool {
	a.Skips, b.Skips = nil, nil
	return fmt.Sprint(a) == fmt.Sprint(b)
}

// A lost connection is opened again, and costs no message and makes none twice.
func TestImportOverABadLine(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := newMemory(40)
	s.cut = 7
	o := w.options(s)
	waits := 0
	o.Tell = func(e Event) {
		if e.Event == "waiting" {
			waits++
		}
	}
	r, err := Import(ctx, o)
	if err != nil || waits < 3 {
		t.Fatal(err, waits)
	}
	for i := range r.Mailboxes {
		if m := &r.Mailboxes[i]; m.Brought != 40 || m.Problem != "" {
			t.Errorf("%+v", m)
		}
	}
	s.cut = 0
	w.proves(t, o, r)
	// One that never works is given up, and the others are not.
	s.boxes[1].add(letter(1), Item{})
	s.cut, s.boxes[1].mail[40].cannot = 0, nil
	broken := o
	broken.Open = func(ctx context.Context) (Source, error) {
		return nil, fault.New(fault.Unauthenticated, "wrong password")
	}
	if _, err := Import(ctx, broken); !fault.Is(err, fault.Unauthenticated) {
		t.Error(err)
	}
}

func TestImportTellsWhatItDoesNotBring(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := newMemory(3)
	b := &s.boxes[0]
	b.add(strings.Repeat("x", 5<<20), Item{Key: "large"})
	b.add("", Item{Key: "huge", Size: 1 << 40})
	b.add(letter(9), Item{Key: "cannot"})
	b.mail[5].cannot = fault.New(fault.Corrupt, "its bytes are not there")
	b.add("Content-Type: text/plain\r\n\r\n\x00", Item{Key: "nul"})
	many := Item{Key: "many"}
	for i := range 300 {
		many.Keywords, many.Places = append(many.Keywords, fmt.Sprint("k", i)), append(many.Places, "INBOX")
	}
	b.add(letter(10), many)
	o := w.options(s)
	var told []string
	o.Tell = func(e Event) {
		if e.Event == "skipped" || e.Event == "changed" {
			told = append(told, e.Event+" "+e.Key+" "+e.Why)
		}
	}
	r, err := Import(ctx, o)
	want := []string{
		"changed many of its keywords and mailboxes the first 200 and 64 are kept", "changed nul parts with NUL bytes are encoded", "skipped cannot its bytes are not there", "skipped huge larger than the server takes", "skipped large message is larger than 4194304 bytes",
	}
	slices.Sort(told)
	if row := r.Mailboxes[0]; err != nil || !slices.Equal(told, want) || row.Skipped != 3 || row.Changed != 2 || row.Brought != 5 || row.Before != 0 || len(SkippedOf(r)) != 3 {
		t.Errorf("%q %+v %v", told, row, err)
	}
	s.boxes[0].mail = slices.Delete(s.boxes[0].mail, 3, 6)
	r.Mailboxes[0].Skipped = 0
	r.Mailboxes[0].Messages = 5
	for _, p := range w.proves(t, o, r)[:1] {
		if p.Changed != 1 || p.Same != 4 || p.Flags != 0 {
			t.Errorf("%+v", p)
		}
	}
}

// An account that is full is told of, and what has no room is not read for nothing.
func TestImportIntoAFullAccount(t *testing.T) {
	w := newWorld(t, store.Quota{Messages: 600})
	s := newMemory(0)
	for i := range 3000 {
		s.boxes[0].add(letter(10_000+i), Item{})
	}
	o := w.options(s)
	r, err := Import(ctx, o)
	row := &r.Mailboxes[0]
	if err != nil || row.Brought != 600 || row.Skipped != 2400 || !row.later || len(row.Skips) != mostSkips || w.place(t, "INBOX").Messages != 600 {
		t.Errorf("%+v %v", *row, err)
	}
	// With room again the rest comes.
	if err := w.Store.Account(1).Update(ctx, func(tx *store.Tx) error { tx.SetQuota(store.Quota{}); return nil }); err != nil {
		t.Fatal(err)
	}
	if r, err = Import(ctx, o); err != nil || r.Mailboxes[0].Brought != 2400 {
		t.Errorf("%+v %v", r.Mailboxes[0], err)
	}
	w.proves(t, o, r)
}

// A mailbox that is deleted here in the middle does not keep others from coming.
func TestImportIntoADeletedMailbox(t *testing.T) {
	w := newWorld(t, store.Quota{})
	o := w.options(newMemory(10))
	o.Tell = func(e Event) {
		if e.Event == "mailbox" && e.Mailbox == "Sent" {
			if err := w.Store.Account(1).Update(ctx, func(tx *store.Tx) error { return tx.DeleteMailbox("Sent") }); err != nil {
				t.Error(err)
			}
		}
	}
	r, err := Import(ctx, o)
	if err != nil || r.Mailboxes[1].Problem == "" || r.Mailboxes[2].Brought != 10 {
		t.Errorf("%+v %v", r, err)
	}
	o.Tell = nil
	if r, err = Import(ctx, o); err != nil || r.Mailboxes[1].Brought != 10 {
		t.Errorf("%+v %v", r, err)
	}
	w.proves(t, o, r)
}

func TestChoice(t *testing.T) {
	for _, c := range []struct {
		c    Choice
		want string // messages in each mailbox
	}{
		{Choice{Mailboxes: []string{"inbox"}}, "INBOX 10"},
		{Choice{Mailboxes: []string{"work/*"}}, "Work/50=25 10"},
		{Choice{Mailboxes: []string{"W*"}}, "Work/50=25 10"},
		{Choice{Exclude: []string{"*o*"}}, "Sent 10"},
		{Choice{KeepNames: true, Exclude: []string{"Work*"}}, "INBOX 10 Sent Items 10"},
		{Choice{Map: map[string]string{"INBOX": "Old/In", "Sent Items": "Old/Out"}}, "Old/In 10 Old/Out 10 Work/50=25 10"},
		{Choice{Since: time.Unix(1_500_000_007, 0)}, "INBOX 3 Sent 3 Work/50=25 3"},
		{Choice{Before: time.Unix(1_500_000_007, 0)}, "INBOX 7 Sent 7 Work/50=25 7"},
		{Choice{MaxSize: int64(len(letter(100)) - 1)}, "INBOX 10"},
	} {
		w := newWorld(t, store.Quota{})
		o := w.options(newMemory(10))
		o.Choice = c.c
		plan, err := MakePlan(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Import(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		var planned int64
		for i, m := range plan.Mailboxes {
			if planned += m.New; m.Mailbox != r.Mailboxes[i].Mailbox && !m.LeftOut || m.New != r.Mailboxes[i].Brought {
				t.Errorf("%+v was planned, and it was %+v", m, r.Mailboxes[i])
			}
		}
		var got []string
		places, _ := w.Mailboxes(ctx)
		for _, p := range places {
			if p.Messages > 0 {
				got = append(got, fmt.Sprint(p.Name, " ", p.Messages))
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %q, not %q", c.c, got, c.want)
		}
		w.proves(t, o, r)
	}
	for _, bad := range []Choice{{Order: "oldest"}, {Mailboxes: []string{"["}}, {Since: time.Unix(2, 0), Before: time.Unix(1, 0)}} {
		if _, err := Import(ctx, Options{Choice: bad}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestDuplicates(t *testing.T) {
	s := newMemory(5)
	s.boxes[1].mail = append(s.boxes[1].mail, s.boxes[0].mail[:3]...)
	for _, skip := range []bool{false, true} {
		w := newWorld(t, store.Quota{})
		o := w.options(s)
		o.Choice.SkipDuplicates = skip
		plan, err := MakePlan(ctx, o)
		if err != nil || plan.Total.Duplicates != 3 {
			t.Fatal(plan, err)
		}
		for range 2 {
			r, err := Import(ctx, o)
			if want := map[bool]uint32{true: 5, false: 8}[skip]; err != nil || w.place(t, "Sent").Messages != want {
				t.Errorf("%v %+v", err, w.place(t, "Sent"))
			}
			w.proves(t, o, r)
		}
	}
}

// A mailbox that is read again, as its line was cut, has no twins of its own first reading.
func TestDuplicatesOverABadLine(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := newMemory(20)
	s.boxes[1].mail = append(s.boxes[1].mail, s.boxes[0].mail[:3]...)
	s.boxes[1].add(letter(100), Item{MessageID: "100@example.org", Key: "twin"}) // of one of the same mailbox
	s.cut = 7
	o := w.options(s)
	o.Choice.SkipDuplicates = true
	r, err := Import(ctx, o)
	if err != nil || s.opens < 3 {
		t.Fatal(err, s.opens)
	}
	for i, left := range []int64{0, 4, 0} {
		if m := &r.Mailboxes[i]; m.Brought != 20 || m.LeftOut != left || m.Problem != "" {
			t.Errorf("%+v", m)
		}
	}
	s.cut = 0
	for i, p := range w.proves(t, o, r) {
		if left := []int64{0, 4, 0}[i%3]; p.Brought != 20 || p.LeftOut != left {
			t.Errorf("%+v", p)
		}
	}
	// The reading again of a verification is cut, too: no attempt counts what another has told.
	s.cut, s.opens = 15, 0
	cuts := 0
	o.Wait = func(context.Context, time.Duration) error {
		if cuts++; cuts == 2 {
			s.cut = 0
		}
		return nil
	}
	var rows []Proof
	if err := Verify(ctx, o, func(d Difference) { t.Errorf("%+v", d) }, func(p Proof) { rows = append(rows, p) }); err != nil || cuts < 2 {
		t.Fatal(err, cuts)
	}
	for i, p := range rows {
		if left := []int64{0, 4, 0}[i]; p.Brought != 20 || p.LeftOut != left || !p.Whole() {
			t.Errorf("%+v", p)
		}
	}
}

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		m     Mailbox
		kept  bool
		a     Advice
		order string
		want  Order
	}{
		{Mailbox{Messages: 20_000}, false, Advice{}, "", SourceOrder},
		{Mailbox{Messages: 20_001}, false, Advice{}, "auto", NewestFirst},
		{Mailbox{Messages: 20_001}, true, Advice{}, "newest", SourceOrder},
		{Mailbox{Messages: 20_001}, false, Advice{Files: true}, "newest", SourceOrder},
		{Mailbox{Messages: 20_001}, false, Advice{Throttles: true}, "source", SourceOrder},
		{Mailbox{Messages: 1}, false, Advice{Throttles: true}, "", NewestFirst},
		{Mailbox{Messages: -1}, false, Advice{}, "newest", NewestFirst},
	} {
		if got := (&Choice{Order: c.order}).order(&c.m, c.kept, c.a); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	// Newest first is the block of the newest first, and each as it is at the source.
	w := newWorld(t, store.Quota{})
	s := &memory{boxes: []memoryBox{{Mailbox: Mailbox{Name: "INBOX", Source: "INBOX"}}}}
	for i := range 2500 {
		s.boxes[0].add(letter(i), Item{})
	}
	o := w.options(s)
	o.Choice.Order = "newest"
	if _, err := Import(ctx, o); err != nil {
		t.Fatal(err)
	}
	list, err := w.Ties(ctx, Box{"memory", "INBOX"}, []string{"0.2001", "0.2500", "0.1001", "0.2000", "0.1", "0.1000"})
	if err != nil {
		t.Fatal(err)
	}
	var uids []mail.UID
	for _, tie := range list {
		uids = append(uids, tie.UID)
	}
	if !slices.Equal(uids, []mail.UID{1, 500, 501, 1500, 1501, 2500}) {
		t.Error(uids)
	}
}

// Large messages go alone, from a file, and those in memory are bounded.
func TestImportOfLargeMessages(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := newMemory(0)
	var want []Content
	for i := range 12 {
		text := letter(i) + strings.Repeat(fmt.Sprint(i, "-"), 100_000*(i+1))
		s.boxes[0].add(text, Item{})
		want = append(want, contentOfText(text))
	}
	o := w.options(s)
	files := 0
	o.Spool = func() (store.SpoolFile, error) { files++; return &memoryFile{}, nil }
	r, err := Import(ctx, o)
	if err != nil || files == 0 {
		t.Fatal(err, files)
	}
	w.proves(t, o, r)
	ties, err := w.Ties(ctx, r.Mailboxes[0].box, []string{"71.1", "71.12"})
	if err != nil || ties[0].Content != want[0] || ties[1].Content != want[11] {
		t.Error(ties, err)
	}
}

type memoryFile struct{ b []byte }

func (f *memoryFile) Write(b []byte) (int, error) { f.b = append(f.b, b...); return len(b), nil }
func (f *memoryFile) ReadAt(b []byte, at int64) (int, error) {
	return bytes.NewReader(f.b).ReadAt(b, at)
}
func (f *memoryFile) Close() error { return nil }

// An archive is one stream; its messages say where they lie.
func TestImportOfAScatteredMailbox(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := &memory{boxes: []memoryBox{{Mailbox: Mailbox{Name: "Archive", Source: "all", Scattered: true}}}}
	for i := range 30 {
		s.boxes[0].add(letter(i), Item{Places: [][]string{{"INBOX", "a"}, nil, {"a"}}[i%3]})
	}
	o := w.options(s)
	proves := func(elsewhere int64) {
		t.Helper()
		r, err := Import(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		list := w.proves(t, o, r)
		for _, p := range list {
			if p.Brought != 30 {
				t.Errorf("%+v", p)
			}
		}
		if list[0].Elsewhere != elsewhere {
			t.Errorf("%d messages were moved here, told are %d", elsewhere, list[0].Elsewhere)
		}
	}
	proves(0)
	proves(0)
	if a, b, c := w.place(t, "INBOX").Messages, w.place(t, "a").Messages, w.place(t, "Archive").Messages; a != 10 || b != 20 || c != 10 {
		t.Error(a, b, c)
	}
	if _, err := w.Store.Account(1).Move(ctx, w.place(t, "Archive").ID, mail.SetOf(1), w.place(t, "Sent").ID); err != nil {
		t.Fatal(err)
	}
	proves(1)
}

// A mailbox that is damaged, or that cannot be read at all, is told, by plan, import, proof and
// verification, and keeps no other from being brought.
func TestImportOfDamagedMailboxes(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := newMemory(5)
	s.boxes[0].broken = fault.New(fault.Corrupt, "the file is damaged")
	s.boxes = append([]memoryBox{{Mailbox: Mailbox{Name: "locked", Source: "locked", Unreadable: "permission denied"}}}, s.boxes...)
	s.boxes = append(s.boxes, memoryBox{Mailbox: Mailbox{Name: "view", Source: "view", Skip: "it is a view"}})
	o := w.options(s)
	failed := 0
	o.Tell = func(e Event) {
		if e.Event == "mailbox_failed" {
			failed++
		}
	}
	want := []string{"permission denied", "the file is damaged", "", ""}
	plan, err := MakePlan(ctx, o)
	if err != nil || plan.Total.New != 10 {
		t.Fatalf("%+v %v", plan, err)
	}
	r, err := Import(ctx, o)
	if err != nil || failed != 2 {
		t.Fatal(err, failed)
	}
	for i, why := range want {
		if m := &r.Mailboxes[i]; plan.Mailboxes[i].Problem != why || m.Problem != why || why == "" && m.Brought != 5 {
			t.Errorf("%+v\n%+v", plan.Mailboxes[i], m)
		}
	}
	var rows []Proof
	row := func(p Proof) { rows = append(rows, p) }
	none := func(d Difference) { t.Errorf("%+v", d) }
	if err := errors.Join(Prove(ctx, o.Target, r, none, row), Verify(ctx, o, none, row)); err != nil || len(rows) != 8 {
		t.Fatal(err, len(rows))
	}
	for i, p := range rows {
		if why := want[i%4]; p.Problem != why || p.Whole() != (why == "") || why == "" && p.Same != 5 {
			t.Errorf("%+v", p)
		}
	}
}

// The proof finds what is wrong: it must be able to fail.
func TestProofCanFail(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := newMemory(5)
	o := w.options(s)
	r, err := Import(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	acct := w.Store.Account(1)
	inbox := w.place(t, "INBOX")
	if _, err := acct.Expunge(ctx, inbox.ID, mail.SetOf(3), false); err != nil {
		t.Fatal(err)
	}
	if _, err := acct.SetFlags(ctx, inbox.ID, mail.SetOf(6), store.FlagChange{Op: store.AddFlags, Keywords: []string{"mine"}}); err != nil {
		t.Fatal(err)
	}
	if err := acct.Update(ctx, func(tx *store.Tx) error {
		tie, _, err := tx.Tie(tied(r.Mailboxes[1].box), "0.2")
		if err != nil {
			return err
		}
		tie.Content[0]++
		tie.Stored = tie.Content
		tie.Date++
		return tx.PutTie(tied(r.Mailboxes[1].box), tie)
	}); err != nil {
		t.Fatal(err)
	}
	r.Mailboxes[2].Messages++
	var rows []Proof
	told := 0
	if err := Prove(ctx, o.Target, r, func(Difference) { told++ }, func(p Proof) { rows = append(rows, p) }); err != nil {
		t.Fatal(err)
	}
	if p := rows[0]; !p.Whole() || p.Gone != 1 || p.Flags != 1 || p.Here != 4 {
		t.Errorf("%+v", p)
	}
	if p := rows[1]; p.Whole() || p.Differ != 1 || p.Dates != 1 || p.Same != 4 || told != 1 {
		t.Errorf("%+v", p)
	}
	if p := rows[2]; p.Whole() || p.Lost != 1 {
		t.Errorf("%+v", p)
	}
	// What is another message at the source now.
	s.boxes[0].mail[4].text += "more"
	s.boxes[2].add(letter(1), Item{Key: "new"})
	rows, told = nil, 0
	if err := Verify(ctx, o, func(Difference) { told++ }, func(p Proof) { rows = append(rows, p) }); err != nil {
		t.Fatal(err)
	}
	if rows[0].Differ != 1 || rows[2].Lost != 1 || told != 3 {
		t.Errorf("%+v %d", rows, told)
	}
}

// A date beyond what can be told, and a tie that a repair made anew, are no differences.
func TestVerifyOfWhatIsKnownInPart(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := newMemory(5)
	s.boxes[0].mail[1].Date = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)
	s.boxes[0].mail[2].Date = time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)
	o := w.options(s)
	r, err := Import(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	w.proves(t, o, r)
	box := tied(r.Mailboxes[1].box)
	if err := w.Store.Account(1).Update(ctx, func(tx *store.Tx) error { return tx.PutTie(box, store.Tie{Key: "0.2"}) }); err != nil {
		t.Fatal(err)
	}
	for _, p := range w.proves(t, o, r) {
		if p.LeftOut != 0 || p.Brought != 5 || p.Source == "Sent Items" && (p.Gone != 1 || p.Same != 4) {
			t.Errorf("%+v", p)
		}
	}
}

func TestPace(t *testing.T) {
	now := time.Unix(0, 0)
	var slept time.Duration
	o := Options{Now: func() time.Time { return now }, Wait: func(_ context.Context, d time.Duration) error {
		slept += d
		now = now.Add(d)
		return nil
	}}
	for _, c := range []struct {
		choice Choice
		advice Advice
		want   time.Duration
	}{
		{Choice{}, Advice{}, 0},
		{Choice{Bytes: 1000}, Advice{}, 10 * time.Second},
		{Choice{}, Advice{Bytes: 1000}, 10 * time.Second},
		{Choice{Bytes: 1000, Messages: 1}, Advice{Messages: 500}, 100 * time.Second},
	} {
		slept, o.Choice = 0, c.choice
		p := newPace(&o, c.advice)
		for range 100 {
			if err := p.after(ctx, 100); err != nil {
				t.Fatal(err)
			}
		}
		if slept != c.want {
			t.Errorf("%+v: %v", c, slept)
		}
	}
}

var _ io.ReaderAt = (*memoryFile)(nil)

// ending is a target of which something goes or is full.
type ending struct {
	Target
	puts      int // that succeed
	onPut     func() error
	openFails func(m Mailbox) error
	mailboxes error
}

func (e *ending) Mailboxes(ctx context.Context) ([]Place, error) {
	if e.mailboxes != nil {
		return nil, e.mailboxes
	}
	return e.Target.Mailboxes(ctx)
}

func (e *ending) Open(ctx context.Context, source string, m Mailbox) (Place, bool, error) {
	if e.openFails != nil {
		if err := e.openFails(m); err != nil {
			return Place{}, false, err
		}
	}
	return e.Target.Open(ctx, source, m)
}

func (e *ending) Put(ctx context.Context, box Box, at mail.MailboxID, list []Incoming) ([]Outcome, error) {
	if e.puts--; e.puts < 0 && e.onPut != nil {
		if err := e.onPut(); err != nil {
			return nil, err
		}
	}
	return e.Target.Put(ctx, box, at, list)
}

// A mailbox that is deleted here while mail comes into it does not end the import, and it is
// said how what had come is had again; an account that goes ends it.
func TestImportIntoWhatGoes(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := newMemory(600)
	o := w.options(s)
	to := &ending{Target: o.Target, puts: 2}
	to.onPut = func() error {
		to.onPut = nil
		_, err := w.Store.Account(1).DeleteMailbox(ctx, "Work/50=25")
		return err
	}
	s.boxes = s.boxes[1:] // each of two batches
	o.Target = to
	r, err := Import(ctx, o)
	if err != nil || r.Mailboxes[0].Problem != "" || !strings.Contains(r.Mailboxes[1].Problem, `martlet import forget ADDRESS "memory" "Work.50%"`) {
		t.Fatalf("%+v %v", r.Mailboxes, err)
	}
	none := fault.New(fault.NotFound, "there is no account")
	s.boxes[0].add(letter(9000), Item{})
	to.puts, to.mailboxes, to.onPut = 0, none, func() error { return none }
	if _, err := Import(ctx, o); !errors.Is(err, ErrAccountGone) || !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if err := Prove(ctx, &failing{to, none}, r, nil, nil); !errors.Is(err, ErrAccountGone) {
		t.Error(err)
	}
}

type failing struct {
	Target
	err error
}

func (f *failing) EachTie(context.Context, Box, func(Tie, *Now) error) error { return f.err }

// Where no more mailboxes can be made, the others are filled.
func TestImportIntoTooManyMailboxes(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := newMemory(3)
	s.boxes = append(s.boxes, memoryBox{Mailbox: Mailbox{Name: "Archive", Source: "all", Scattered: true}})
	s.boxes[3].add(letter(900), Item{Places: []string{"label", "INBOX"}})
	o := w.options(s)
	changed := ""
	o.Tell = func(e Event) {
		if e.Event == "changed" {
			changed += e.Why
		}
	}
	o.Target = &ending{Target: o.Target, openFails: func(m Mailbox) error {
		if m.Name == "Work/50=25" || m.Name == "label" {
			return fault.New(fault.OverQuota, "too many mailboxes")
		}
		return nil
	}}
	r, err := Import(ctx, o)
	if err != nil || r.Mailboxes[1].Brought != 3 || r.Mailboxes[2].Problem != "too many mailboxes" || r.Mailboxes[3].Brought != 1 || w.place(t, "Archive").Messages != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	if changed != "it is not in the mailbox label: too many mailboxes" {
		t.Error(changed)
	}
}

// A label that a message could not be given is told by each proof.
func TestProofTellsOfPlacesThatFailed(t *testing.T) {
	w := newWorld(t, store.Quota{})
	full := &memory{boxes: []memoryBox{{Mailbox: Mailbox{Name: "full", Source: "full"}}}}
	for i := range 6 { // of keywords
		item := Item{}
		for k := range 190 {
			item.Keywords = append(item.Keywords, fmt.Sprint("k", i*190+k))
		}
		full.boxes[0].add(letter(i), item)
	}
	if _, err := Import(ctx, w.options(full)); err != nil {
		t.Fatal(err)
	}
	s := &memory{boxes: []memoryBox{{Mailbox: Mailbox{Name: "INBOX", Source: "INBOX", Role: mail.RoleInbox}}}}
	s.boxes[0].add(letter(101), Item{})
	s.boxes[0].add(letter(102), Item{Keywords: []string{"another"}, Places: []string{"full"}})
	o := w.options(s)
	for range 2 {
		r, err := Import(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		if p := w.proves(t, o, r)[0]; p.Changed != 1 || p.Same != 2 {
			t.Errorf("%+v", p)
		}
	}
	ties, err := w.Ties(ctx, Box{"memory", "INBOX"}, []string{"0.1", "0.2"})
	if err != nil || ties[0].Changed != "" || !strings.HasPrefix(ties[1].Changed, "it is not in a mailbox") {
		t.Errorf("%+v %+v %v", ties[0], ties[1], err)
	}
}

// Neither files nor POP3 have UIDVALIDITYs, whatever their keys are like: of two messages that
// are the same bytes none is taken for the other.
func TestKeysLikeNumbers(t *testing.T) {
	for _, files := range []bool{false, true} {
		w := newWorld(t, store.Quota{})
		s := newMemory(0)
		s.files, s.id = files, map[bool]string{false: "pop3:carol@example.org", true: "maildir:x"}[files]
		o := w.options(s)
		for i := range 3 {
			s.boxes[1].add(letter(1), Item{Key: fmt.Sprint(100+i, ".1")})
			r, err := Import(ctx, o)
			if err != nil || r.Mailboxes[1].Brought != 1 || w.place(t, "Sent").Messages != uint32(i+1) {
				t.Fatalf("%+v %v", r, err)
			}
		}
	}
}

// The plan of mailboxes that are to be exactly as they were says where they will be.
func TestPlanOfExactMailboxes(t *testing.T) {
	w := newWorld(t, store.Quota{})
	s := &memory{}
	for _, m := range []Mailbox{
		{Name: "Gesendet", Source: "Gesendet", Role: mail.RoleSent, Exact: true},
		{Name: "Junk", Source: "Junk", Role: mail.RoleTrash, Exact: true},
		{Name: "Trash", Source: "Trash", Exact: true},
		{Name: "Drafts", Source: "Drafts", Role: mail.RoleDrafts, Exact: true},
	} {
		b := memoryBox{Mailbox: m}
		b.add(letter(len(s.boxes)), Item{})
		s.boxes = append(s.boxes, b)
	}
	o := w.options(s)
	plan, err := MakePlan(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Import(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range r.Mailboxes {
		if p := plan.Mailboxes[i]; p.Mailbox != m.Mailbox || p.Made {
			t.Errorf("%s was to go into %s (made: %v), and went into %s", m.Source, p.Mailbox, p.Made, m.Mailbox)
		}
	}
}
