package imapd

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
	"github.com/martlet-mail/martlet/internal/turn"
)

// letter returns the n-th of many messages that are all a little different.
func letter(n int) []byte {
	rnd := rand.New(rand.NewPCG(7, uint64(n)))
	words := func(count int) string {
		var b strings.Builder
		for range count {
			fmt.Fprintf(&b, "%c%c%c%d ", 'a'+rnd.IntN(26), 'a'+rnd.IntN(26), []rune("äéßxyz")[rnd.IntN(6)], rnd.IntN(50))
		}
		return b.String()
	}
	head := fmt.Sprintf("From: (no. %d) p%d@example.org (Ärger %d)\r\nTo: \"B %d\" <b@example.net>\r\nSubject: =?utf-8?q?caf=C3=A9_%d?= %s\r\n",
		n, n, n, n, n, words(2))
	if n%7 == 3 {
		head = strings.Replace(head, "Subject", "X-Subject", 1)
	}
	if n%5 == 0 { // of which the keys know one
		head += "SUBJECT: another " + words(2) + "\r\n"
	}
	text := words(10 + rnd.IntN(60))
	switch n % 4 {
	case 0:
		return []byte(head + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
			base64.StdEncoding.EncodeToString([]byte(text)) + "\r\n")
	case 1:
		return []byte(head + "Content-Type: message/rfc822\r\n\r\nSubject: inner " + words(2) + "\r\n\r\n" + text + "\r\n")
	case 2:
		return []byte(head + "Content-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\n\r\n" + text + "\r\n--q\r\nContent-Type: image/png\r\n\r\n" +
			words(5) + "\r\n--q--\r\n")
	}
	return []byte(head + "\r\n" + strings.Repeat(text+"\r\n", 1+n%3*10))
}

// question returns a random search for pieces of the letters.
func question(rnd *rand.Rand, texts []string) imap.SearchKey {
	k := imap.SearchKey{Text: texts[rnd.IntN(len(texts))], Field: []string{"Subject", "From"}[rnd.IntN(2)]}
	switch rnd.IntN(8) {
	case 0:
		return imap.SearchKey{Op: imap.SearchNot, Keys: []imap.SearchKey{question(rnd, texts)}}
	case 1:
		return imap.SearchKey{Op: imap.SearchOr, Keys: []imap.SearchKey{question(rnd, texts), question(rnd, texts)}}
	case 2:
		return imap.SearchKey{Op: imap.SearchAnd, Keys: []imap.SearchKey{question(rnd, texts), question(rnd, texts)}}
	case 3:
		k.Op = imap.SearchHeader
	case 4:
		k.Op = imap.SearchAddress
	case 5:
		k.Op = imap.SearchBody
	default:
		k.Op = imap.SearchText
	}
	return k
}

// Searches with notes and keys find what searches without them find; what is noted goes with
// the message.
func TestNotesChangeNothing(t *testing.T) {
	w := newWorld(t)
	const many = 120
	for n := range many {
		w.deliver("INBOX", letter(n), 0)
	}
	s := &session{srv: w.imap, ctx: w.ctx, acct: w.alice}
	v := &view{owner: owner{acct: w.alice}, pic: w.picture("INBOX")}
	rnd := rand.New(rand.NewPCG(1, 2))
	texts := []string{"café", "CAFE\u0301", "ÄRGER 77", "ärger 3 <p3@", "(no. 3)", "subject: inner", "inner", "é", ""}
	for range 60 {
		m := string(letter(rnd.IntN(many)))
		at := rnd.IntN(len(m))
		texts = append(texts, strings.ToValidUTF8(m[at:min(at+1+rnd.IntN(12), len(m))], ""))
	}
	keys := []imap.SearchKey{{Op: imap.SearchText, Text: "nowhere"}}
	for _, text := range texts[:9] {
		for _, op := range []imap.SearchOp{imap.SearchHeader, imap.SearchAddress, imap.SearchBody, imap.SearchText} {
			keys = append(keys, imap.SearchKey{Op: op, Field: "From", Text: text}, imap.SearchKey{Op: op, Field: "subject", Text: text})
		}
	}
	for range 120 {
		keys = append(keys, question(rnd, texts))
	}
	hits := 0
	for _, key := range keys {
		plain := &search{s: s, v: v, among: store.All()}
		var err error
		if plain.root, err = plain.compile(&key); err != nil {
			t.Fatal(err)
		}
		plain.sifts, plain.keyed = false, false
		if err := plain.run(); err != nil {
			t.Fatal(err)
		}
		found, err := s.find(v, &key)
		if want := mail.SetOf(plain.found...); err != nil || found.set.String() != want.String() {
			t.Fatalf("%+v: found %s, want %s (%v)", key, found.set, want, err)
		}
		hits += len(plain.found)
	}
	if n := notes(t, w, many); n != many || hits == 0 {
		t.Errorf("%d messages are noted, %d were found", n, hits)
	}
	var half mail.UIDSet
	half.AddRange(1, many/2)
	if _, err := w.alice.Expunge(w.ctx, v.pic.Mailbox().ID, half, false); err != nil {
		t.Fatal(err)
	}
	if n := notes(t, w, many); n != many/2 {
		t.Errorf("%d notes of %d messages", n, many/2)
	}
}

// notes counts the messages of which something is noted.
func notes(t *testing.T, w *world, many int) (n int) {
	t.Helper()
	ids := make([]mail.MessageID, many)
	for i := range ids {
		ids[i] = mail.MessageID(i + 1)
	}
	err := w.alice.View(w.ctx, func(snap *store.Snapshot) error {
		n = 0
		return snap.EachGrams(ids, func(_ int, _ []byte, ok bool) error {
			if ok {
				n++
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A search that was made before reads hardly a message.
func TestNotesSaveReading(t *testing.T) {
	w := newWorld(t)
	const many = 200
	for n := range many {
		w.deliver("INBOX", letter(n), 0)
	}
	s := &session{srv: w.imap, ctx: w.ctx, acct: w.alice}
	v := &view{owner: owner{acct: w.alice}, pic: w.picture("INBOX")}
	key := imap.SearchKey{Op: imap.SearchText, Text: "nowhere to be found"}
	if _, err := s.find(v, &key); err != nil {
		t.Fatal(err)
	}
	q := &search{s: s, v: v, among: store.All()}
	q.root, _ = q.compile(&key)
	var all []*candidate
	for _, m := range v.pic.Messages(store.All()) {
		all = append(all, &candidate{m: m})
	}
	if rest, err := q.sieve(all); err != nil || len(rest) > many/20 {
		t.Errorf("%d of %d messages would be read (%v)", len(rest), many, err)
	}
}

func FuzzGrams(f *testing.F) {
	f.Add("HELLO, WORLD", 3, 5)
	f.Add("AB", 0, 2)
	f.Add(strings.Repeat("ABCÄ", 5000), 7, 900)
	f.Fuzz(func(t *testing.T, text string, at, n int) {
		var g gramSet
		g.reset(int64(at) * int64(n)) // anything at all
		g.add([]byte(text))
		b := g.encode(nil)
		filter, rest := cutFilter(b)
		if len(rest) != 0 {
			t.Fatalf("%d bytes are left", len(rest))
		}
		if at >= 0 && n >= 0 && at <= len(text) && n <= len(text)-at && !may(filter, gramsOf(text[at:at+n])) {
			t.Fatalf("%q is said not to be in %q", text[at:at+n], text)
		}
		parseFilters([]byte(text)) // anything at all
	})
}

// An address whose shape says that it is shown as it stands is shown so.
func TestShapes(t *testing.T) {
	for field, want := range map[string]int{
		"Ann Example <ann.b-c@mail.Example.org>": addressNamed, "A <b@c>": addressNamed, "Ann@Example.org": addressBare, "a_b@1.c": addressBare,
		"": addressOther, "ann": addressOther, "Ann  X <a@b>": addressOther, " Ann <a@b>": addressOther, "Ann <a@b> ": addressOther, "<a@b>": addressOther,
		"A. B <a@b>": addressOther, "\"A\" <a@b>": addressOther, "a..b@c": addressOther, ".a@c": addressOther, "a@c.": addressOther, "a@b@c": addressOther,
		"a@b, c@d": addressOther, "Ann <a@b>, c@d": addressOther, "Ann (x) <a@b>": addressOther, "Ann <>": addressOther, "Ann <a@b": addressOther,
		"@b": addressOther, "a@": addressOther, "=?utf-8?q?x?= <a@b>": addressOther, "Ann <c@d>x <a@b>": addressOther, "J\u00fcrgen <a@b>": addressOther,
	} {
		got := shapeOf([]byte(field))
		if got != want {
			t.Errorf("%q has shape %d, want %d", field, got, want)
		}
	}
	alphabet := "ab Z9-_.@<> "
	for seed := range uint64(300_000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var field []byte
		for range 1 + rnd.IntN(12) {
			field = append(field, alphabet[rnd.IntN(len(alphabet))])
		}
		var want string
		switch shapeOf(field) {
		case addressNamed:
			want = string(field)
		case addressBare:
			want = " <" + string(field) + ">"
		default:
			continue
		}
		list := mime.ParseAddressList(string(field))
		if len(list) != 1 || (*headerText)(nil).shown(list[0]) != want {
			t.Fatalf("%q is %+v", field, list)
		}
	}
}

// Many searches at the same time find the same, and give back the hands they had.
func TestSearchTogether(t *testing.T) {
	w := newWorld(t)
	const many = 150
	for n := range many {
		w.deliver("INBOX", letter(n), 0)
	}
	v := &view{owner: owner{acct: w.alice}, pic: w.picture("INBOX")}
	keys := []imap.SearchKey{{Op: imap.SearchText, Text: "café_7"}, {Op: imap.SearchBody, Text: "1 "}, {Op: imap.SearchAddress, Field: "From", Text: "ärger 1"},
		{Op: imap.SearchFuzzy, Keys: []imap.SearchKey{{Op: imap.SearchText, Text: "inner café"}}}}
	var want []string
	find := func(key *imap.SearchKey) string {
		s := &session{srv: w.imap, ctx: w.ctx, acct: w.alice}
		found, err := s.find(v, key)
		if err != nil {
			t.Error(err)
		}
		return fmt.Sprint(found.set, found.scores)
	}
	w.imap.hands.free.Store(0)
	for i := range keys {
		want = append(want, find(&keys[i]))
	}
	w.imap.hands.free.Store(3)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if got := find(&keys[i%len(keys)]); got != want[i%len(keys)] {
				t.Errorf("%+v: %s, want %s", keys[i%len(keys)], got, want[i%len(keys)])
			}
		})
	}
	wg.Wait()
	if n := w.imap.hands.free.Load(); n != 3 {
		t.Errorf("%d hands are free of 3", n)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	s := &session{srv: w.imap, ctx: ctx, acct: w.alice}
	if _, err := s.find(v, &keys[1]); err == nil {
		t.Error("a session that has ended searches on")
	}
	if n := w.imap.hands.free.Load(); n != 3 {
		t.Errorf("%d hands are free of 3", n)
	}
}

// A search that is given up does not go on to the end of a portion: its hands are others'.
func TestSearchIsGivenUp(t *testing.T) {
	w := newWorld(t)
	w.fillBox("INBOX", "40")
	w.imap.hands.portion = readAtOnce
	s := sessionOn(w, w.picture("INBOX"))
	p := &portioned{}
	for _, m := range s.view.pic.Messages(store.All()) {
		p.pending = append(p.pending, &candidate{m: m})
	}
	asked := 0
	q := &search{s: s, v: s.view, root: cond{row: func(*store.Message) bool {
		if asked++; asked == 3 {
			p.stop.Store(true)
		}
		return true
	}}}
	if err := q.newReading().portions(p, func() bool { return false }); err == nil || asked != 3 {
		t.Errorf("%d messages were looked at, not 3 (%v)", asked, err)
	}
}

// A panic of one who reads for a search ends the session, and says where it was.
func TestSearchHandsOnPanics(t *testing.T) {
	w := newWorld(t)
	w.fillBox("INBOX", "40")
	s := sessionOn(w, w.picture("INBOX"))
	q := &search{s: s, v: s.view, root: cond{row: func(*store.Message) bool { return breaks() }}}
	var pending []*candidate
	for _, m := range s.view.pic.Messages(store.All()) {
		pending = append(pending, &candidate{m: m})
	}
	defer func() {
		if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "broken\n") || !strings.Contains(got, ".breaks(") {
			t.Errorf("the panic is %.200q", got)
		}
	}()
	q.settle(pending)
}

//go:noinline
func breaks() bool { panic("broken") }

// A hand that has stopped helping, or has found nothing left to do, is no more one of its account's.
func TestHandGivesItsTurnBack(t *testing.T) {
	w := newWorld(t)
	s := sessionOn(w, w.picture("INBOX"))
	gate := turn.NewGate(2)
	work, other := gate.Turn(), gate.Turn()
	work.Take("alice")
	defer work.Give()
	second, ok := work.Beside()
	if !ok {
		t.Fatal("there is no second turn")
	}
	other.Take("bob")
	defer other.Give()
	if !second.Over() || !work.Over() {
		t.Fatal("two of one processor are not too many")
	}
	r := (&search{s: s}).newReading()
	if err := r.help(&portioned{}, second); err != nil {
		t.Fatal(err)
	}
	if work.Over() {
		t.Error("the hand has stopped, and its turn still counts")
	}
}
