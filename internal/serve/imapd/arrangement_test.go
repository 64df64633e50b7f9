package imapd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// someMail is a message whose keys and threads are often those of others.
func someMail(r *rand.Rand, n int) []byte {
	_, text := someSortable(r, n)
	head := fmt.Sprintf("Message-ID: <%d@x>\r\n", r.IntN(n+2))
	if r.IntN(2) == 0 {
		head += fmt.Sprintf("References: <%d@x> <%d@x>\r\n", r.IntN(n+2), r.IntN(n+2))
	}
	return append([]byte(head), text...)
}

func someOrder(r *rand.Rand) (by []imap.SortBy) {
	keys := r.Perm(int(imap.SortRelevancy))
	for _, k := range keys[:1+r.IntN(2)] {
		by = append(by, imap.SortBy{Key: imap.SortKey(k), Reverse: r.IntN(2) == 0})
	}
	return by
}

func sessionOn(w *world, pic *store.Picture) *session {
	return &session{srv: w.imap, ctx: w.ctx, acct: w.alice, view: &view{owner: owner{acct: w.alice}, box: pic.Mailbox().ID, pic: pic}}
}

// someOf returns a random part of the messages, now and then all.
func someOf(r *rand.Rand, pic *store.Picture) (set mail.UIDSet) {
	drop := r.IntN(3)
	for _, m := range pic.Messages(store.All()) {
		if drop == 0 || r.IntN(4) >= drop {
			set.Add(m.UID)
		}
	}
	return set
}

// compareArranged holds what SORT and THREAD hand out against what they make of nothing.
func compareArranged(t *testing.T, s *session, r *rand.Rand) {
	t.Helper()
	found := finding{set: someOf(r, s.view.pic)}
	by := someOrder(r)
	got, err := s.sorted(&found, by)
	want, err2 := s.sort(found.set, nil, by)
	if err != nil || err2 != nil || !slices.Equal(got, want) {
		t.Fatalf("%v of %s:\n%v, want\n%v (%v, %v)", by, found.set, got, want, err, err2)
	}
	alg := imap.Threading(r.IntN(3))
	threads, err := s.threaded(found.set, alg)
	plain, err2 := s.thread(found.set, alg)
	if err != nil || err2 != nil || written(threads.arranged) != written(plain.arranged) || !slices.Equal(threads.uids, plain.uids) {
		t.Fatalf("threads %d of %s: %v %v", alg, found.set, err, err2)
	}
}

// An order or threads that were brought forward are those that would be made of nothing,
// for sessions that look at the mailbox as it was, too.
func TestArrangementsLikeNew(t *testing.T) {
	w := newWorld(t)
	w.imap.arranged.least = 1
	r := rand.New(rand.NewPCG(5, 6))
	pics := []*store.Picture{w.picture("INBOX")}
	for n := 1; n < 400; n++ {
		switch pic := pics[len(pics)-1]; r.IntN(4) {
		case 0:
			if pic.Len() > 20 {
				if _, err := w.alice.Expunge(w.ctx, pic.Mailbox().ID, mail.SetOf(pic.UID(1+r.IntN(pic.Len())), pic.UID(pic.Len())), false); err != nil {
					t.Fatal(err)
				}
			}
		default:
			for range 1 + r.IntN(2) {
				w.deliver("INBOX", someMail(r, n), 0)
			}
		}
		pics = append(pics, w.picture("INBOX"))
		s := sessionOn(w, pics[len(pics)-1])
		s.comparator = imap.Comparator(r.IntN(2))
		compareArranged(t, s, r)
		old := pics[len(pics)-1-r.IntN(min(3, len(pics)))]
		if here := s.view.pic; all(old, func(uid mail.UID) bool { _, there := here.Message(uid); return there }) {
			s.view.pic = old // of what is gone there are no keys to compare
			compareArranged(t, s, r)
		}
	}
	if len(w.imap.arranged.kept) < 20 {
		t.Errorf("only %d arrangements are kept", len(w.imap.arranged.kept))
	}
}

func all(p *store.Picture, is func(mail.UID) bool) bool {
	for _, m := range p.Messages(store.All()) {
		if !is(m.UID) {
			return false
		}
	}
	return true
}

// A second look reads nothing, and one after a delivery no more than that takes.
func TestArrangementsAreUsed(t *testing.T) {
	w := newWorld(t)
	w.imap.arranged.least = 1
	r := rand.New(rand.NewPCG(7, 8))
	for n := range 60 {
		w.deliver("INBOX", someMail(r, n), 0)
	}
	s := sessionOn(w, w.picture("INBOX"))
	found := finding{set: s.view.pic.Existing(store.All())}
	by := []imap.SortBy{{Key: imap.SortSubject}}
	order := func() []mail.UID {
		uids, err := s.sorted(&found, by)
		if err != nil {
			t.Fatal(err)
		}
		return uids
	}
	forest := func() *wholeThreads {
		f, err := s.threaded(found.set, imap.References)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if first, again := order(), order(); &first[0] != &again[0] {
		t.Error("an order was made twice")
	}
	if once := forest(); once != forest() {
		t.Error("threads were made twice")
	}
	columns, _ := s.srv.arranged.get(s.arrangementKey("threads of")).(*threadColumns)
	w.deliver("INBOX", someMail(r, 60), 0)
	s.view.pic = w.picture("INBOX")
	old, _ := s.srv.arranged.get(s.arrangementKey(orderName(by))).(*wholeOrder)
	if uids, err := s.rollOrder(old, by); err != nil || len(uids) != 61 {
		t.Errorf("an order was not brought forward: %d of 61 (%v)", len(uids), err)
	}
	if now, err := s.rollColumns(columns); err != nil || now == nil || now.n != 61 {
		t.Errorf("columns were not brought forward: %v", err)
	}
}

// Of sessions that want the same at the same time one makes it. If nothing comes of that
// another does, and nobody waits for ever.
func TestArrangedOnce(t *testing.T) {
	w := newWorld(t)
	w.imap.arranged.least = 1
	r := rand.New(rand.NewPCG(21, 22))
	for n := range 40 {
		w.deliver("INBOX", someMail(r, n), 0)
	}
	const many = 8
	waiting := make(chan bool, 2*many)
	patience := make(chan time.Time)
	w.imap.opt.After = func(time.Duration) <-chan time.Time {
		waiting <- true
		return patience
	}
	pic := w.picture("INBOX")
	by := []imap.SortBy{{Key: imap.SortSubject}}
	first := sessionOn(w, pic)
	key := first.arrangementKey(orderName(by))
	want, err := first.sort(store.All(), nil, by)
	if err != nil {
		t.Fatal(err)
	}
	// others has so many sessions sort once all wait for the first, which lets then happen.
	others := func(ctx context.Context, then func(*making)) (orders [][]mail.UID, failed int) {
		m, mine := w.imap.arranged.begin(key)
		if !mine {
			t.Fatal("somebody is at work still")
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range many {
			wg.Go(func() {
				s := sessionOn(w, pic)
				s.ctx = ctx
				uids, err := s.wholeOrder(key, by)
				mu.Lock()
				defer mu.Unlock()
				if orders = append(orders, uids); err != nil {
					failed++
				}
			})
		}
		for range many {
			<-waiting
		}
		then(m)
		wg.Wait()
		return orders, failed
	}
	made := &wholeOrder{membersOf(pic), want}
	w.imap.arranged.limit = 0 // nothing is kept: it is handed over
	orders, failed := others(w.ctx, func(m *making) { m.made = made; w.imap.arranged.end(key, m) })
	for _, uids := range orders {
		if failed > 0 || &uids[0] != &made.uids[0] {
			t.Error("an order was made twice")
		}
	}
	w.imap.arranged.limit = defaultArrangementBytes
	orders, failed = others(w.ctx, func(m *making) { w.imap.arranged.end(key, m) })
	for _, uids := range orders {
		if failed > 0 || &uids[0] != &orders[0][0] || !slices.Equal(uids, want) {
			t.Error("after a failure an order was not made, or twice")
		}
	}
	w.imap.arranged.expire(time.Now().Add(time.Hour))
	ctx, cancel := context.WithCancel(w.ctx)
	var left *making
	if _, failed = others(ctx, func(m *making) { left = m; cancel() }); failed != many {
		t.Errorf("%d of %d sessions that have ended failed", failed, many)
	}
	w.imap.arranged.end(key, left)
	orders, failed = others(w.ctx, func(m *making) { left = m; close(patience) })
	for _, uids := range orders {
		if failed > 0 || !slices.Equal(uids, want) {
			t.Error("a session waits for a slow one")
		}
	}
	w.imap.arranged.end(key, left)
	if n := len(w.imap.arranged.making); n != 0 {
		t.Errorf("%d arrangements are being made for ever", n)
	}
}

// What is kept stays in its limit, whoever asks at the same time.
func TestArrangementsInTheirLimit(t *testing.T) {
	w := newWorld(t)
	w.imap.arranged.least, w.imap.arranged.limit = 1, 9000
	r := rand.New(rand.NewPCG(9, 10))
	for n := range 80 {
		w.deliver("INBOX", someMail(r, n), 0)
	}
	var pics []*store.Picture
	for n := range 6 {
		w.deliver("INBOX", someMail(r, 80+n), 0)
		pics = append(pics, w.picture("INBOX"))
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(11, uint64(i)))
			s := sessionOn(w, pics[0])
			for range 60 {
				s.view.pic = pics[r.IntN(len(pics))]
				compareArranged(t, s, r)
			}
		})
	}
	wg.Wait()
	c := w.imap.arranged
	var size int64
	for e := c.recent.Front(); e != nil; e = e.Next() {
		size += e.Value.(*keptArrangement).bytes()
	}
	if size != c.size || size > c.limit || size < c.limit/3 || c.recent.Len() != len(c.kept) {
		t.Errorf("%d bytes in %d arrangements are counted as %d, the limit is %d", size, len(c.kept), c.size, c.limit)
	}
}

// What nobody uses any more goes, and the clock stops with the last of it.
func TestArrangementsExpire(t *testing.T) {
	c := newArrangements(0, time.Now)
	a, b := arrangementKey{by: "a"}, arrangementKey{by: "b"}
	c.put(a, &wholeOrder{})
	between := time.Now()
	time.Sleep(time.Millisecond)
	c.put(b, &wholeOrder{})
	c.expire(between)
	if c.get(a) != nil || c.get(b) == nil || c.timer == nil {
		t.Errorf("%d arrangements are left, timer %v", len(c.kept), c.timer)
	}
	time.Sleep(time.Millisecond)
	c.expire(time.Now())
	if c.get(b) != nil || c.size != 0 || c.timer != nil {
		t.Errorf("%d arrangements of %d bytes are left, timer %v", len(c.kept), c.size, c.timer)
	}
}

// Clients of a large mailbox read the same in SORT and THREAD whether or not there is
// something kept.
func TestArrangementsAnswer(t *testing.T) {
	w := newWorld(t)
	w.imap.arranged.least = 1
	r := rand.New(rand.NewPCG(13, 14))
	for n := range 70 {
		w.deliver("INBOX", someMail(r, n), 0)
	}
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	for _, command := range []string{
		"UID SORT (SUBJECT) UTF-8 ALL", "SORT (REVERSE DATE) UTF-8 ALL", "SORT RETURN (PARTIAL 3:9 COUNT MIN) (FROM) UTF-8 ALL",
		"UID SORT (SIZE) UTF-8 UID 1:70 NOT UID 4", "THREAD REFERENCES UTF-8 ALL", "UID THREAD REFS UTF-8 UID 3:60",
	} {
		first, _ := c.command(t, command)
		again, tagged := c.command(t, command)
		if strings.Join(first, "") == "" || !slices.Equal(again, first) || !strings.Contains(tagged, "OK") {
			t.Errorf("%s: %q, and then %q %s", command, first, again, tagged)
		}
	}
}
