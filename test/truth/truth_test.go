// Package truth shows that protocols show one mailbox: random work in each of them, and
// after each step the same messages, sizes, texts and names in all.
//
// What each protocol says of itself is tested where it is; here they are held against one
// another.
package truth

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/martlet-mail/martlet/test/house"
	"github.com/martlet-mail/martlet/test/promise"
)

// message is what a protocol says of one message.
type message struct {
	uid  uint32 // POP3 does not tell it: its name holds it
	size int64
	text string
}

// world is one user's mailbox, and who works on it.
type world struct {
	t    *testing.T
	h    *house.House
	rng  *rand.Rand
	imap *imapclient.Client
	sent int
	uidl map[string]string // name in POP3 -> text, for ever
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, h: house.New(t, house.Options{}), rng: rand.New(rand.NewPCG(seed, 14)), uidl: map[string]string{}}
	w.h.Account(t, "alice")
	var err error
	if w.imap, err = imapclient.DialInsecure(w.h.Addr("imap"), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.imap.Close() })
	w.must(w.imap.Login("alice@example.org", house.Password).Wait())
	w.selects("INBOX")
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) selects(box string) uint32 {
	w.t.Helper()
	got, err := w.imap.Select(box, nil).Wait()
	w.must(err)
	return got.NumMessages
}

// letter makes a new message; dots at the ends of lines are what POP3 and LMTP stuff.
func (w *world) letter() string {
	w.sent++
	var b strings.Builder
	fmt.Fprintf(&b, "From: eve@example.net\r\nSubject: letter %d\r\n\r\n", w.sent)
	for range w.rng.IntN(6) {
		b.WriteString([]string{"words\r\n", ".\r\n", "..\r\n", "\r\n", ".dot\r\n", strings.Repeat("x", 900) + "\r\n"}[w.rng.IntN(6)])
	}
	return b.String()
}

// deliver brings a letter over LMTP.
func (w *world) deliver() {
	c := w.h.Dial(w.t, "lmtp")
	c.Reply()
	c.Ask("LHLO x")
	c.Ask("MAIL FROM:<eve@example.net>")
	c.Ask("RCPT TO:<alice@example.org>")
	c.Ask("DATA")
	stuffed := strings.ReplaceAll(w.letter(), "\r\n.", "\r\n..")
	if got := c.Ask(stuffed + "."); !strings.HasPrefix(got, "250") {
		w.t.Fatal(got)
	}
	c.Close()
}

func (w *world) appends() {
	text := w.letter()
	cmd := w.imap.Append("INBOX", int64(len(text)), nil)
	_, err := io.WriteString(cmd, text)
	w.must(err)
	w.must(cmd.Close())
	_, err = cmd.Wait()
	w.must(err)
}

// some chooses messages of the selected mailbox.
func (w *world) some() (imap.UIDSet, bool) {
	found, err := w.imap.UIDSearch(&imap.SearchCriteria{}, nil).Wait()
	w.must(err)
	var set imap.UIDSet
	for _, uid := range found.AllUIDs() {
		if w.rng.IntN(4) == 0 {
			set.AddNum(uid)
		}
	}
	return set, len(set) > 0
}

func (w *world) expunges() {
	if set, ok := w.some(); ok {
		w.must(w.imap.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close())
		w.must(w.imap.Expunge().Close())
	}
}

func (w *world) copies() {
	if set, ok := w.some(); ok {
		_, err := w.imap.Copy(set, "INBOX").Wait()
		w.must(err)
	}
}

// moves takes some away and some of these back.
func (w *world) moves() {
	if set, ok := w.some(); ok {
		_, err := w.imap.Move(set, "Archive").Wait()
		w.must(err)
	}
	w.selects("Archive")
	if set, ok := w.some(); ok {
		_, err := w.imap.Move(set, "INBOX").Wait()
		w.must(err)
	}
	w.selects("INBOX")
}

// pop3 is a session, logged in.
func (w *world) pop3() *house.Client {
	for {
		c := w.h.Dial(w.t, "pop3")
		c.Reply()
		c.Ask("USER alice@example.org")
		got := c.Ask("PASS " + house.Password)
		if strings.HasPrefix(got, "+OK") {
			return c
		}
		if !strings.Contains(got, "[IN-USE]") { // the session before is not over yet
			w.t.Fatal(got)
		}
		c.Close()
		time.Sleep(time.Millisecond)
	}
}

// deletes removes some messages over POP3; a session that ends without QUIT removes none.
func (w *world) deletes() {
	c := w.pop3()
	n, _ := strconv.Atoi(strings.Fields(c.Ask("STAT"))[1])
	for i := range n {
		if w.rng.IntN(4) == 0 {
			c.Ask(fmt.Sprint("DELE ", i+1))
		}
	}
	if w.rng.IntN(3) > 0 {
		if got := c.Ask("QUIT"); !strings.HasPrefix(got, "+OK") {
			w.t.Fatal(got)
		}
	}
	c.Close()
}

// byIMAP is the INBOX as a new session of IMAP sees it.
func (w *world) byIMAP() []message {
	if w.selects("INBOX") == 0 {
		return nil
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	var set imap.SeqSet
	set.AddRange(1, 0)
	got, err := w.imap.Fetch(set, &imap.FetchOptions{UID: true, RFC822Size: true, BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
	w.must(err)
	var all []message
	for _, m := range got {
		all = append(all, message{uint32(m.UID), m.RFC822Size, string(m.FindBodySection(whole))})
	}
	return all
}

// byPOP3 is the INBOX as POP3 sees it. A name stands for one text for ever.
func (w *world) byPOP3() []message {
	c := w.pop3()
	defer c.Close()
	var all []message
	c.Ask("LIST")
	for _, line := range list(c.In) {
		size, err := strconv.ParseInt(strings.Fields(line)[1], 10, 64)
		w.must(err)
		all = append(all, message{size: size})
	}
	c.Ask("UIDL")
	for i, line := range list(c.In) {
		name := strings.Fields(line)[1]
		c.Ask(fmt.Sprint("RETR ", i+1))
		text := strings.Join(list(c.In), "\r\n") + "\r\n"
		if known, ok := w.uidl[name]; ok && known != text {
			w.t.Errorf("%s is now another message", name)
		}
		w.uidl[name] = text
		uid, err := strconv.ParseUint(name[len(name)-8:], 16, 32)
		w.must(err)
		all[i].uid, all[i].text = uint32(uid), text
	}
	c.Ask("QUIT")
	return all
}

// list reads a long answer of POP3, dots undone.
func list(in *bufio.Reader) (lines []string) {
	for {
		line, err := in.ReadString('\n')
		line = strings.TrimSuffix(line, "\r\n")
		if err != nil || line == "." {
			return lines
		}
		lines = append(lines, strings.TrimPrefix(line, "."))
	}
}

// agree compares what the protocols show.
func agree(a, b []message) error {
	if len(a) != len(b) {
		return fmt.Errorf("IMAP shows %d messages, POP3 %d", len(a), len(b))
	}
	for i := range a {
		if a[i] != b[i] {
			return fmt.Errorf("message %d: IMAP shows UID %d, %d bytes, POP3 UID %d, %d bytes; the texts are the same: %v", i+1, a[i].uid, a[i].size, b[i].uid, b[i].size, a[i].text == b[i].text)
		}
	}
	return nil
}

func TestOneTruth(t *testing.T) {
	steps := promise.Times(t, "R14", 1000, 1_000_000)
	const seed = 1
	w := newWorld(t, seed)
	work := []func(){w.deliver, w.deliver, w.appends, w.appends, w.expunges, w.copies, w.moves, w.deletes}
	compared := 0
	for n := range steps {
		work[w.rng.IntN(len(work))]()
		if w.rng.IntN(5) > 0 {
			continue
		}
		seen := w.byIMAP()
		if err := agree(seen, w.byPOP3()); err != nil {
			t.Fatalf("seed %d, step %d: %v", seed, n, err)
		}
		compared++
		if len(seen) > 40 { // it is to stay a mailbox of which much can be asked
			w.must(w.imap.Store(imap.UIDSet{{Start: 1, Stop: imap.UID(seen[len(seen)-10].uid)}}, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close())
			w.must(w.imap.Expunge().Close())
		}
	}
	// The comparison sees what it looks for.
	w.deliver()
	seen := w.byIMAP()
	other := slices.Clone(seen)
	other[0].text += "x"
	if agree(seen, other) == nil || agree(seen, seen[1:]) == nil {
		t.Error("a difference is not noticed")
	}
	promise.Kept(t, "R14", "operations", steps, "comparisons", compared, "messages", w.sent, "differences", 0)
}
