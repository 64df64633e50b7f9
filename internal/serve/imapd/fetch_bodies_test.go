package imapd

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// literal reads what comes between a line that ends with {n} and the next line.
func (l *lineClient) literal(line string) string {
	l.t.Helper()
	var n int
	if _, err := fmt.Sscanf(line[strings.LastIndexByte(line, '{'):], "{%d}", &n); err != nil {
		l.t.Fatalf("%q: %v", line, err)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(l.r, b); err != nil {
		l.t.Fatal(err)
	}
	return string(b)
}

// Messages of all sizes side by side, kept in all ways, are read as they came in, whole
// and in part.
func TestFetchOfBodies(t *testing.T) {
	w := newWorld(t)
	rnd := rand.New(rand.NewPCG(5, 5))
	noise := func(n int) string {
		var b strings.Builder
		for b.Len() < n {
			fmt.Fprintf(&b, "%x%x%x%x\r\n", rnd.Uint64(), rnd.Uint64(), rnd.Uint64(), rnd.Uint64())
		}
		return b.String()[:n]
	}
	var all []string
	sizes := []int{0, 1, 500, 1400, 4 << 10, 4<<10 + 1, 9000, 33 << 10, 150 << 10, 700}
	for i := range 400 {
		long := 0
		if i%37 == 0 {
			long = 3000 * (i % 3) // headers over 4 KB
		}
		head := fmt.Sprintf("Subject: number %d\r\nX-Long: %s\r\n\r\n", i, strings.ReplaceAll(noise(long), "\r\n", "\r\n "))
		all = append(all, head+noise(sizes[i%len(sizes)]))
		w.deliver("INBOX", []byte(all[i]), mail.Seen)
	}
	l := newLineClient(t, w.dial())
	l.hear("* OK")
	l.say("a LOGIN alice@example.org \"" + password + "\"\r\n")
	l.hear("a OK")
	l.say("b SELECT INBOX\r\n")
	for !strings.HasPrefix(l.hear(""), "b OK") {
	}
	body := func(s string) string { return s[strings.Index(s, "\r\n\r\n")+4:] }
	cut := func(s string, from, n int) string { return s[min(from, len(s)):min(from+n, len(s))] }
	for _, c := range []struct {
		item, answer string
		want         func(string) string
	}{
		{"BODY.PEEK[]", "BODY[] ", func(s string) string { return s }},
		{"RFC822", "RFC822 ", func(s string) string { return s }},
		{"BODY.PEEK[]<40.2000>", "BODY[]<40> ", func(s string) string { return cut(s, 40, 2000) }},
		{"BODY.PEEK[TEXT]", "BODY[TEXT] ", body},
		{"BODY.PEEK[TEXT]<3.700>", "BODY[TEXT]<3> ", func(s string) string { return cut(body(s), 3, 700) }},
		{"BODY.PEEK[1]", "BODY[1] ", body},
		{"BINARY.PEEK[1]", "BINARY[1] ~", body},
	} {
		l.say("c FETCH 1:* " + c.item + "\r\n")
		for i, message := range all {
			line := l.hear(fmt.Sprintf("* %d FETCH (%s{", i+1, c.answer))
			if got := l.literal(line); got != c.want(message) {
				t.Fatalf("%s of %d: %d bytes, not %d", c.item, i+1, len(got), len(c.want(message)))
			}
			l.hear(")")
		}
		l.hear("c OK")
	}
}

// A message that went away between the view and the reading is lost; its neighbours are
// not.
func TestFetchOfBodiesGone(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		w.deliver("INBOX", message(fmt.Sprint("number ", i)), 0)
	}
	pic := w.picture("INBOX")
	var chunk []store.Message
	for _, m := range pic.Messages(store.All()) {
		chunk = append(chunk, m)
	}
	chunk[1].ID = 999
	for _, plan := range []*fetchPlan{{heavy: true}, {heavy: true, shape: true, keys: true, parts: true}} {
		var b bodies
		err := w.alice.View(w.ctx, func(snap *store.Snapshot) error { return b.load(snap, plan, chunk) })
		if err != nil || len(b.list) != 3 {
			t.Fatal(len(b.list), err)
		}
		for i := range b.list {
			ld := &b.list[i]
			if gone := i == 1; ld.gone != gone || !gone && (!ld.whole() || ld.m.UID != chunk[i].UID) {
				t.Errorf("%+v, message %d: gone %v, whole %v", plan, i, ld.gone, ld.whole())
			}
		}
	}
}

// Whatever the share of headers is, no record is read twice for one chunk, and no more of
// them at the same time than is stated.
func TestBodiesAreReadOnce(t *testing.T) {
	for name, of := range map[string]struct{ head, body int }{
		"headers of 2.2 KB": {2200, 1000}, "headers of 4.5 KB": {4500, 300}, "large bodies": {300, 28 << 10}, "both": {28 << 10, 28 << 10},
		"long": {3000, 200 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			head := "Subject: one\r\n" + strings.Repeat("X-Long: "+strings.Repeat("trace ", 14)+"\r\n", of.head/94) + "\r\n"
			for range 256 {
				w.deliver("INBOX", []byte(head+strings.Repeat("filling ", of.body/8)), 0)
			}
			var all []store.Message
			var candidates []*candidate
			for _, m := range w.picture("INBOX").Messages(store.All()) {
				all = append(all, m)
				candidates = append(candidates, &candidate{m: m})
			}
			once := func(what string, read func(snap *store.Snapshot, from int) (heads, done, bytes int, err error)) {
				heads, most := 0, 0
				for from := 0; from < len(all); {
					err := w.alice.View(w.ctx, func(snap *store.Snapshot) error {
						n, done, bytes, err := read(snap, from)
						heads, from, most = heads+n, from+done, max(most, bytes)
						return err
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				if heads != len(all) {
					t.Errorf("%s: %d headers were read of %d messages", what, heads, len(all))
				}
				if most > 2*bodyBytes+64<<10 {
					t.Errorf("%s: %d bytes were read at once", what, most)
				}
			}
			var b bodies
			once("FETCH", func(snap *store.Snapshot, from int) (int, int, int, error) {
				err := b.load(snap, &fetchPlan{heavy: true}, all[from:])
				return len(b.head.ends), len(b.list), len(b.head.all) + len(b.body.all), err
			})
			q := &search{s: &session{srv: w.imap, ctx: w.ctx, acct: w.alice}, v: &view{owner: owner{acct: w.alice}}, needles: []string{"x"}}
			r := q.newReading()
			once("SEARCH", func(snap *store.Snapshot, from int) (int, int, int, error) {
				done, err := r.read(snap, candidates[from:])
				return len(r.heads.ends), done, len(r.heads.all) + len(r.bodies), err
			})
		})
	}
}
