package link

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/disk"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/store"
)

// here is a store with account 1.
type here struct {
	engine engine.Engine
	store  *store.Store
	spool  *disk.Spool
	now    func() time.Time
}

func newHere(t testing.TB, now func() time.Time) *here {
	t.Helper()
	fs := vfs.NewMem()
	eng, err := pebble.Open("data", pebble.Options{FS: fs, MemTableBytes: 4 << 20, Now: now, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	spool := disk.NewSpool(fs, "data")
	s, err := store.Open(eng, store.Options{Now: now, MaxMessage: 4 << 20, Spool: func() (store.SpoolFile, error) { return spool.File() }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); eng.Close() })
	h := &here{eng, s, spool, now}
	if err := s.CreateAccount(t.Context(), 1, store.Quota{}); err != nil {
		t.Fatal(err)
	}
	return h
}

func steady() time.Time { return time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC) }

func (h *here) account() *store.Account { return h.store.Account(1) }

type spot struct {
	box  mail.MailboxID
	name string
	uid  mail.UID
}

// content returns what lies where, sorted, and each message's place.
func (h *here) content(t testing.TB) (out map[string][]string, spots []spot) {
	t.Helper()
	out = map[string][]string{}
	a := h.account()
	var boxes []store.Mailbox
	err := a.View(t.Context(), func(s *store.Snapshot) (err error) {
		boxes, err = s.Mailboxes()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range boxes {
		pic, err := a.Picture(t.Context(), b.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range pic.Messages(store.All()) {
			r, err := a.Open(t.Context(), m.ID, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			text := new(strings.Builder)
			if _, err := fmt.Fprint(text, readAll(r)); err != nil {
				t.Fatal(err)
			}
			r.Close()
			out[b.Name] = append(out[b.Name], line(text.String(), m.Flags, pic.Keywords(m)))
			spots = append(spots, spot{b.ID, b.Name, m.UID})
		}
		sort.Strings(out[b.Name])
	}
	return out, spots
}

func readAll(r interface{ Read([]byte) (int, error) }) string {
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String()
		}
	}
}

func (h *here) verify(t testing.TB) {
	t.Helper()
	if _, err := h.store.Verify(t.Context(), func(p store.Problem) { t.Errorf("verify: %+v", p) }, nil); err != nil {
		t.Error(err)
	}
}

func letter(n int) string {
	return fmt.Sprintf("From: a@example.net\r\nMessage-ID: <%d@example.net>\r\nSubject: letter\r\n\r\ntext %d\r\n", n, n)
}

func everything() *Rule {
	return &Rule{Server: Server{Protocol: "imap", Host: "imap.example.net", Port: 993, Security: "tls"}, User: "carol", BothWays: true, FollowDeletes: true, DeleteAtSource: true}
}

// accord runs rounds until nothing is left to do.
func accord(t testing.TB, h *here, s *side, rule *Rule) (total Report) {
	t.Helper()
	for n := 0; ; n++ {
		r, err := oneRound(t, h, s, rule, nil)
		if err != nil {
			t.Fatal(err)
		}
		total.Brought += r.Brought
		total.Carried += r.Carried
		total.Moved += r.Moved
		total.Followed += r.Followed
		total.Thrown += r.Thrown
		if !r.More && r.Brought+r.Carried+r.Moved+r.Followed+r.Thrown == 0 {
			return total
		}
		if n > 20 {
			t.Fatalf("no end after %d rounds: %+v", n, r)
		}
	}
}

func oneRound(t testing.TB, h *here, s *side, rule *Rule, wrap func(move.Target) move.Target) (Report, error) {
	source := s.open()
	defer source.Close()
	var target move.Target = move.NewLocal(h.store, 1)
	if wrap != nil {
		target = wrap(target)
	}
	r := round{rule: rule, source: source, target: target, mirror: source, now: steady}
	if !rule.carries() {
		r.mirror = nil
	}
	err := r.run(t.Context())
	return r.report, err
}

func same(t testing.TB, what string, got, want map[string][]string) {
	t.Helper()
	for _, name := range []string{"INBOX", "Archive", "Sent", "Work", "Trash"} {
		if !slices.Equal(got[name], want[name]) {
			t.Errorf("%s, %s:\n got %q\nwant %q", what, name, got[name], want[name])
		}
	}
}

func TestOneWay(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX", "Work", "Trash")
	rule := everything()
	rule.BothWays, rule.FollowDeletes, rule.DeleteAtSource = false, false, false
	for i := range 30 {
		s.add([]string{"INBOX", "Work"}[i%2], letter(i), mail.Flags(i%4))
	}
	if r := accord(t, h, s, rule); r.Brought != 30 {
		t.Errorf("%+v", r)
	}
	got, spots := h.content(t)
	same(t, "brought", got, s.content())
	before := s.content()
	// What changes here stays here; what changes there comes here.
	if _, err := h.account().SetFlags(t.Context(), spots[0].box, mail.SetOf(spots[0].uid), store.FlagChange{Op: store.AddFlags, Flags: mail.Flagged}); err != nil {
		t.Fatal(err)
	}
	s.box("INBOX").list[5].flags |= mail.Flagged
	s.mod++
	s.box("INBOX").list[5].mod = s.mod
	s.transfer(s.box("INBOX"), 7, s.box("Work"))
	s.remove(s.box("Work"), 3)
	r := accord(t, h, s, rule)
	if r.Brought != 0 || r.Moved != 1 || r.Followed != 1 || r.Carried != 0 || r.Thrown != 0 {
		t.Errorf("%+v", r)
	}
	got, _ = h.content(t)
	n := 0
	for _, list := range got {
		n += len(list)
	}
	if n != 30 || len(got["Work"]) != 16 || s.changes != 0 {
		t.Errorf("%d messages, %d in Work, %d changes there", n, len(got["Work"]), s.changes)
	}
	_ = before
	h.verify(t)
}

// Each change on one side is on the other after the next round, and nothing comes back.
func TestBothWays(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX", "Archive", "Work", "Trash")
	rule := everything()
	for i := range 10 {
		s.add("INBOX", letter(i), 0)
	}
	accord(t, h, s, rule)
	a := h.account()
	_, spots := h.content(t)
	archive, inbox := h.box(t, "Archive"), spots[0].box
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(a.SetFlags(t.Context(), inbox, mail.SetOf(1, 2), store.FlagChange{Op: store.AddFlags, Flags: mail.Seen, Keywords: []string{"$Forwarded"}}))
	must(a.Move(t.Context(), inbox, mail.SetOf(2, 3), archive))
	must(a.Expunge(t.Context(), inbox, mail.SetOf(4), false))
	b := s.box("INBOX")
	s.Lock()
	s.mod++
	b.list[4].flags, b.list[4].mod = mail.Flagged, s.mod // text 4
	s.transfer(b, 5, s.box("Work"))                      // text 5
	s.remove(b, b.find(b.key(7)))                        // text 6
	s.Unlock()
	r := accord(t, h, s, rule)
	if r.Brought != 0 {
		t.Errorf("%+v", r)
	}
	got, _ := h.content(t)
	want := s.content()
	if len(want["Trash"]) != 1 || len(got["Trash"]) != 1 || !strings.HasPrefix(got["Trash"][0], "text 6") || !strings.HasPrefix(want["Trash"][0], "text 3") {
		t.Errorf("thrown away: here %q, there %q", got["Trash"], want["Trash"])
	}
	delete(got, "Trash")
	delete(want, "Trash")
	same(t, "both", got, want)
	if len(want["Archive"]) != 2 || len(want["Work"]) != 1 || len(want["INBOX"]) != 5 {
		t.Errorf("%q", want)
	}
	changes := s.changes
	accord(t, h, s, rule)
	if s.changes != changes {
		t.Error("something comes back")
	}
	h.verify(t)
}

func (h *here) box(t testing.TB, name string) (id mail.MailboxID) {
	t.Helper()
	err := h.account().View(t.Context(), func(s *store.Snapshot) error {
		m, err := s.Mailbox(name)
		id = m.ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Where both sides have moved a message, the side here wins.
func TestBothMove(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX", "Archive", "Work", "Trash")
	s.add("INBOX", letter(1), 0)
	accord(t, h, s, everything())
	if _, err := h.account().Move(t.Context(), h.box(t, "INBOX"), store.All(), h.box(t, "Archive")); err != nil {
		t.Fatal(err)
	}
	s.transfer(s.box("INBOX"), 0, s.box("Work"))
	accord(t, h, s, everything())
	got, _ := h.content(t)
	same(t, "both moved", got, s.content())
	t.Logf("it lies in %v", got)
	if len(got["Archive"])+len(got["Work"]) != 1 {
		t.Errorf("%q", got)
	}
}

// A mailbox that gets another UIDVALIDITY is read anew, and nothing of it comes twice.
func TestRenewedMailbox(t *testing.T) {
	h, s := newHere(t, steady), newSide("INBOX", "Work", "Trash")
	for i := range 20 {
		s.add("INBOX", letter(i), mail.Seen)
	}
	accord(t, h, s, everything())
	s.renew("INBOX")
	s.add("INBOX", letter(100), 0)
	if r := accord(t, h, s, everything()); r.Brought != 1 || r.Thrown != 0 || r.Carried != 0 {
		t.Errorf("%+v", r)
	}
	got, _ := h.content(t)
	same(t, "renewed", got, s.content())
}

// A mailbox gets another UIDVALIDITY, and the link is stopped when most of it is known again.
func TestRenewedMailboxCutShort(t *testing.T) {
	for at := 1; ; at++ {
		h, s := newHere(t, steady), newSide("INBOX", "Work", "Trash")
		for i := range 20 {
			s.add("INBOX", letter(i), mail.Seen)
		}
		accord(t, h, s, everything())
		s.renew("INBOX")
		calls := 0
		_, err := oneRound(t, h, s, everything(), func(to move.Target) move.Target { return cutTarget{to.(*move.Local), &calls, at} })
		if err == nil {
			if at < 20 {
				t.Errorf("%d calls only", at)
			}
			return
		}
		accord(t, h, s, everything())
		got, _ := h.content(t)
		same(t, fmt.Sprint("renewed, cut at call ", at), got, s.content())
	}
}

// A message that leaves the linked mailboxes and comes back is the one that is here.
func TestThereAndBack(t *testing.T) {
	for _, follow := range []bool{false, true} {
		h, s := newHere(t, steady), newSide("INBOX", "Work", "Trash", "Other")
		rule := everything()
		rule.Mailboxes, rule.FollowDeletes = []string{"INBOX", "Work", "Trash"}, follow
		s.add("INBOX", letter(1), mail.Seen)
		accord(t, h, s, rule)
		s.transfer(s.box("INBOX"), 0, s.box("Other"))
		accord(t, h, s, rule)
		got, _ := h.content(t)
		if where := map[bool]string{false: "INBOX", true: "Trash"}[follow]; len(got[where]) != 1 {
			t.Errorf("%v: %q", follow, got)
		}
		s.transfer(s.box("Other"), 0, s.box("Work"))
		if r := accord(t, h, s, rule); r.Brought != 0 || r.Moved != 1 {
			t.Errorf("%v: %+v", follow, r)
		}
		got, _ = h.content(t)
		same(t, "back", got, s.content())
	}
}

// Messages that move there while the mailboxes are read one after another do not come twice.
func TestMovedWhileReading(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		h, s := newHere(t, steady), newSide("INBOX", "Archive", "Work", "Trash")
		for i := range 8 {
			s.add(s.boxes[rng.IntN(3)].name, letter(i), 0)
		}
		rule := everything()
		accord(t, h, s, rule)
		moves, n := 12, 100
		s.between = func() {
			if moves--; moves < 0 {
				return
			}
			if rng.IntN(4) == 0 {
				n++
				s.add("INBOX", letter(n), 0)
			}
			s.Lock()
			defer s.Unlock()
			from, to := s.boxes[rng.IntN(3)], s.boxes[rng.IntN(3)]
			if len(from.list) > 0 && from != to {
				s.transfer(from, rng.IntN(len(from.list)), to)
			}
		}
		for range 5 {
			if _, err := oneRound(t, h, s, rule, nil); err != nil {
				t.Fatal(err)
			}
		}
		accord(t, h, s, rule)
		got, _ := h.content(t)
		same(t, fmt.Sprint("seed ", seed), got, s.content())
		if len(got["Trash"]) > 0 {
			t.Errorf("seed %d: thrown away: %q", seed, got["Trash"])
		}
	}
}

// plainTarget cannot tie anew: the control of the model.
type plainTarget struct{ move.Target }

// cutTarget fails at a call.
type cutTarget struct {
	*move.Local
	calls *int
	at    int
}

func (c cutTarget) cut() error {
	if *c.calls++; *c.calls == c.at {
		return errBroken
	}
	return nil
}

func (c cutTarget) Put(ctx context.Context, box move.Box, at mail.MailboxID, list []move.Incoming) ([]move.Outcome, error) {
	if err := c.cut(); err != nil {
		return nil, err
	}
	out, err := c.Local.Put(ctx, box, at, list)
	if e := c.cut(); e != nil { // it was done, and nobody learns of it
		return nil, e
	}
	return out, err
}

func (c cutTarget) Change(ctx context.Context, box move.Box, list []move.Change) error {
	if err := c.cut(); err != nil {
		return err
	}
	return c.Local.Change(ctx, box, list)
}

func (c cutTarget) Rename(ctx context.Context, list []move.Renaming) error {
	if err := c.cut(); err != nil {
		return err
	}
	return c.Local.Rename(ctx, list)
}

func (c cutTarget) Release(ctx context.Context, box, to move.Box, list []move.Leaving, throw bool) error {
	if err := c.cut(); err != nil {
		return err
	}
	return c.Local.Release(ctx, box, to, list, throw)
}

func (c cutTarget) SetState(ctx context.Context, box move.Box, state []byte) error {
	if err := c.cut(); err != nil {
		return err
	}
	return c.Local.SetState(ctx, box, state)
}

// model is two sides that people change as they like.
type model struct {
	t    testing.TB
	rng  *rand.Rand
	h    *here
	s    *side
	n    int
	dead map[string]bool // texts that somebody has deleted
}

func (m *model) change() {
	switch m.rng.IntN(10) {
	case 0, 1:
		m.n++
		m.s.add([]string{"INBOX", "Archive", "Work"}[m.rng.IntN(3)], letter(m.n), mail.Flags(m.rng.IntN(8)))
	case 2, 3, 4:
		m.there()
	default:
		m.there()
		m.local()
	}
}

func (m *model) there() {
	s := m.s
	s.Lock()
	defer s.Unlock()
	b := s.boxes[m.rng.IntN(4)]
	if len(b.list) == 0 {
		return
	}
	i := m.rng.IntN(len(b.list))
	msg := b.list[i]
	if msg.flags.Has(mail.Deleted) || s.twice(msg) { // people do not see it, or see two: what they make of these is theirs
		return
	}
	switch m.rng.IntN(6) {
	case 0, 1:
		msg.flags ^= 1 << m.rng.IntN(3)
	case 2:
		if hasWord(msg.words, "$Forwarded") {
			msg.words = nil
		} else {
			msg.words = []string{"$Forwarded"}
		}
	case 3, 4:
		s.transfer(b, i, s.boxes[m.rng.IntN(4)])
		return
	case 5:
		m.dead[strings.Fields(line(msg.text, 0, nil))[1]] = true
		s.remove(b, i)
		return
	}
	s.mod++
	msg.mod = s.mod
}

func (m *model) local() {
	t := m.t
	_, spots := m.h.content(t)
	if len(spots) == 0 {
		return
	}
	p := spots[m.rng.IntN(len(spots))]
	a, set := m.h.account(), mail.SetOf(p.uid)
	var err error
	switch m.rng.IntN(6) {
	case 0, 1, 2:
		op := []store.FlagOp{store.AddFlags, store.RemoveFlags}[m.rng.IntN(2)]
		c := store.FlagChange{Op: op, Flags: 1 << m.rng.IntN(3)}
		if m.rng.IntN(3) == 0 {
			c = store.FlagChange{Op: op, Keywords: []string{"$Forwarded"}}
		}
		_, err = a.SetFlags(t.Context(), p.box, set, c)
	case 3, 4:
		to := m.h.box(t, m.s.boxes[m.rng.IntN(4)].name)
		if to != p.box {
			_, err = a.Move(t.Context(), p.box, set, to)
		}
	case 5:
		pic, e := a.Picture(t.Context(), p.box)
		if e != nil {
			t.Fatal(e)
		}
		msg, _ := pic.Message(p.uid)
		r, e := a.Open(t.Context(), msg.ID, 0, -1)
		if e != nil {
			t.Fatal(e)
		}
		m.dead[strings.Fields(line(readAll(r), 0, nil))[1]] = true
		r.Close()
		_, err = a.Expunge(t.Context(), p.box, set, false)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// verdict looks for what must never be: a message twice on one side, one lost that nobody
// deleted, or sides that differ in anything that nobody deleted: what one has deleted for good,
// the other may have taken back out of its trash.
func (m *model) verdict() (bad []string) {
	got, _ := m.h.content(m.t)
	want := m.s.content()
	for what, side := range map[string]map[string][]string{"here": got, "there": want} {
		seen := map[string]int{}
		for _, list := range side {
			for _, l := range list {
				seen[strings.Fields(l)[1]]++
			}
		}
		for n := 1; n <= m.n; n++ {
			name := fmt.Sprint(n)
			if seen[name] > 1 {
				bad = append(bad, fmt.Sprintf("%s: message %s is there %d times", what, name, seen[name]))
			}
			if seen[name] == 0 && !m.dead[name] {
				bad = append(bad, fmt.Sprintf("%s: message %s is lost", what, name))
			}
		}
	}
	living := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(l string) bool { return m.dead[strings.Fields(l)[1]] })
	}
	for _, name := range []string{"INBOX", "Archive", "Work", "Trash"} {
		if !slices.Equal(living(got[name]), living(want[name])) {
			bad = append(bad, fmt.Sprintf("%s differs: here %q, there %q", name, got[name], want[name]))
		}
	}
	return bad
}

func runModel(t testing.TB, seed uint64, cut bool, wrap func(move.Target) move.Target) []string {
	m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 2)), h: newHere(t, steady), s: newSide("INBOX", "Archive", "Work", "Trash"), dead: map[string]bool{}}
	m.s.noPlus, m.s.copies, m.s.coarse = seed%3 == 2, seed%2 == 1, seed%4 > 1
	m.s.marks = m.s.copies && seed%5 == 1
	// Work is there from the start, so that people here can use it.
	if _, err := oneRound(t, m.h, m.s, everything(), wrap); err != nil {
		t.Fatal(err)
	}
	for range 25 {
		for range m.rng.IntN(8) {
			m.change()
		}
		with := wrap
		if cut {
			if m.rng.IntN(2) == 0 {
				m.s.failAt = m.s.calls + 1 + m.rng.IntN(20)
			} else {
				calls, at := 0, 1+m.rng.IntN(12)
				with = func(t move.Target) move.Target { return cutTarget{t.(*move.Local), &calls, at} }
			}
		}
		if _, err := oneRound(t, m.h, m.s, everything(), with); err != nil && err != errBroken {
			t.Fatal(err)
		}
		m.s.failAt = 0
	}
	for n := 0; ; n++ {
		r, err := oneRound(t, m.h, m.s, everything(), wrap)
		if err != nil {
			t.Fatal(err)
		}
		if !r.More && r.Brought+r.Carried+r.Moved+r.Followed+r.Thrown == 0 {
			break
		}
		if n > 20 {
			return append(m.verdict(), fmt.Sprintf("no end: %+v", r))
		}
	}
	m.h.verify(t)
	return m.verdict()
}

func first(n uint64) (seeds []uint64) {
	for seed := range n {
		seeds = append(seeds, seed)
	}
	return seeds
}

// Two sides with changes by chance agree in the end, without a message twice or lost.
func TestModel(t *testing.T) {
	for seed := range uint64(30) {
		for _, bad := range runModel(t, seed, false, nil) {
			t.Errorf("seed %d: %s", seed, bad)
		}
	}
}

// The same, when most rounds are cut short at some call.
func TestModelCutShort(t *testing.T) {
	// Those behind the first 30: a copy without an answer, and its message moved on before it was
	// seen: here (151, 285, 293), back (693), there from beside a marked one (341, 491, 821).
	for _, seed := range append(first(30), 151, 285, 293, 341, 491, 693, 821) {
		for _, bad := range runModel(t, seed, true, nil) {
			t.Errorf("seed %d: %s", seed, bad)
		}
	}
}

// The control: a target that cannot tie anew must be found out.
func TestModelCanFail(t *testing.T) {
	for seed := range uint64(10) {
		if bad := runModel(t, seed, false, func(t move.Target) move.Target { return plainTarget{t} }); len(bad) > 0 {
			t.Logf("as it must: %s", bad[0])
			return
		}
	}
	t.Error("nothing was found out")
}
