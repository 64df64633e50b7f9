package imapd

import (
	"bufio"
	"compress/flate"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Bad input has a clear answer and a bound. Time is not measured here; what is, is the
// memory that was taken, which what is quadratic takes much of, and whether the next
// command is answered as ever.

// costs returns how much memory was ever taken while fn ran, by everybody.
func costs(fn func()) int64 {
	before := allocated()
	fn()
	return int64(allocated() - before)
}

// asks sends a hostile command, and checks how it is answered, what it costs, and that
// the session goes on.
func asks(t *testing.T, c *client, command, want string, most int64) (lines []string) {
	t.Helper()
	var tagged string
	took := costs(func() { lines, tagged = c.command(t, command) })
	if !strings.HasPrefix(tagged, "zz "+want) {
		t.Errorf("%.40s: %.80s, want %s", command, tagged, want)
	}
	if took > slack*most {
		t.Errorf("%.40s: took %d bytes, should take %d at most", command, took, most)
	}
	if _, tagged := c.command(t, "NOOP"); tagged != "zz OK NOOP done" {
		t.Errorf("%.40s: then %s", command, tagged)
	}
	return lines
}

// Searches of many keys, deep ones, and sets of thousands of ranges cost what their text
// costs, over and over for each message at most.
func TestSearchesOfManyKeys(t *testing.T) {
	w := newWorld(t)
	const n = 300
	for i := range n {
		w.deliver("INBOX", message(fmt.Sprint(i)), 0)
	}
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	odd := make([]string, 5000)
	for i := range odd {
		odd[i] = fmt.Sprint(2*i + 1)
	}
	set := strings.Join(odd, ",")
	const mb = 1 << 20
	for _, q := range []struct {
		key, want string
		most      int64
	}{
		{strings.Repeat("SEEN ", 1990) + "ALL", "OK", 4 * mb},
		{strings.Repeat("SEEN ", 2100) + "ALL", "BAD", 4 * mb},
		{strings.Repeat("OR SEEN ", 90) + "ALL", "OK", 4 * mb},
		{strings.Repeat("OR SEEN ", 5000) + "ALL", "BAD", 4 * mb},
		{strings.Repeat("NOT ", 95) + "ALL", "OK", 4 * mb},
		{strings.Repeat("NOT ", 10_000) + "ALL", "BAD", 4 * mb},
		{strings.Repeat("(", 99) + "ALL" + strings.Repeat(")", 99), "OK", 4 * mb},
		{strings.Repeat("(", 20_000) + "ALL" + strings.Repeat(")", 20_000), "BAD", 4 * mb},
		{"UID " + set, "OK", 8 * mb},
		{set, "OK", 8 * mb},
		{strings.Repeat("UID 1:* ", 900) + "ALL", "OK", 8 * mb},
		{strings.Repeat(`HEADER X-`+strings.Repeat("y", 20)+` "z" `, 300) + "ALL", "OK", 64 * mb},
	} {
		asks(t, c, "SEARCH "+q.key, q.want, q.most)
		asks(t, c, "SORT (SIZE) UTF-8 "+q.key, q.want, q.most)
		asks(t, c, "THREAD REFS UTF-8 "+q.key, q.want, q.most)
	}
	asks(t, c, "FETCH "+strings.Repeat("1:*,", 5000)+"1 FLAGS", "OK", 8*mb)
	asks(t, c, "UID FETCH "+set+" FLAGS", "OK", 8*mb)
	asks(t, c, "UID STORE "+set+" +FLAGS.SILENT (x)", "OK", 16*mb)
	asks(t, c, "SORT ("+strings.Repeat("SUBJECT ", 1000)+"SIZE) UTF-8 ALL", "OK", 64*mb)
}

// A mailbox keeps so many keywords and no more; a command cannot name a hundred thousand.
func TestManyKeywords(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", message("one"), 0)
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	words := func(from, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, " k%d", from+i)
		}
		return b.String()[1:]
	}
	asks(t, c, "STORE 1 +FLAGS.SILENT ("+words(0, 100_000)+")", "BAD", 4<<20)
	kept := 0
	for range 100 { // a hundred thousand in all
		_, tagged := c.command(t, "STORE 1 +FLAGS.SILENT ("+words(kept, 1000)+")")
		if !strings.HasPrefix(tagged, "zz OK") {
			break // too many for one command, or for the mailbox
		}
		kept += 1000
	}
	for kept < 2*store.MaxKeywords {
		if _, tagged := c.command(t, "STORE 1 +FLAGS.SILENT (k"+fmt.Sprint(kept)+")"); !strings.HasPrefix(tagged, "zz OK") {
			break
		}
		kept++
	}
	if kept != store.MaxKeywords {
		t.Errorf("%d keywords are kept, should be %d", kept, store.MaxKeywords)
	}
	asks(t, c, "STORE 1 FLAGS (k1)", "OK", 4<<20)
	asks(t, c, "STORE 1 FLAGS (another)", "NO [LIMIT]", 4<<20)
	if lines, _ := c.command(t, "SELECT INBOX"); strings.Contains(strings.Join(lines, "\n"), `\*`) {
		t.Error("new keywords are still promised to be kept")
	}
}

// boxes makes many mailboxes.
func (w *world) boxes(n int) {
	w.t.Helper()
	for from := 0; from < n; from += 1000 {
		w.change(func(tx *store.Tx) error {
			for i := range 1000 {
				if _, err := tx.CreateMailbox(fmt.Sprintf("m%05d", from+i), ""); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// Ten thousand mailboxes are listed, searched and watched one after the other.
func TestTenThousandMailboxes(t *testing.T) {
	w := newWorld(t)
	const n = 10_000
	w.boxes(n)
	w.deliver("m00007", message("one"), 0)
	w.deliver("m09999", message("two"), 0)
	c := w.login("A", "")
	const mb = 1 << 20
	for _, q := range []struct{ pattern, want string }{
		{strings.Repeat("*%", 1000), "OK"}, // which is one wildcard
		{strings.Repeat("m*0%0*", 100), "OK"},
		{strings.Repeat("*0", 500), "OK"},
		{strings.Repeat("*a", 20_000), "OK"}, // longer than any name
		{"(" + strings.Repeat("*a*b*%c%d ", 1900) + "*)", "NO [LIMIT]"},
		{"(" + strings.Repeat("m00001 ", 1900) + "none)", "OK"},
	} {
		asks(t, c, `LIST "" `+q.pattern, q.want, 24*mb)
		if q.pattern[0] != '(' {
			asks(t, c, `LSUB "" `+q.pattern, q.want, 24*mb)
		}
	}
	if lines := asks(t, c, `LIST "" *`, "OK", 48*mb); len(lines) < n {
		t.Errorf("%d mailboxes are listed", len(lines))
	}
	if lines := asks(t, c, `LIST "" * RETURN (STATUS (MESSAGES UNSEEN))`, "OK", 96*mb); len(lines) < 2*n {
		t.Errorf("%d lines", len(lines))
	}
	if lines := asks(t, c, "ESEARCH IN (personal) RETURN (COUNT) ALL", "OK", 256*mb); len(lines) != 2 {
		t.Errorf("%d mailboxes have what was searched: %q", len(lines), lines)
	}
	if lines := asks(t, c, `ESEARCH IN (subtree ("m0*" "x" `+strings.Repeat(`"y" `, 900)+`"z")) RETURN (COUNT) TEXT one`, "OK", 64*mb); len(lines) != 0 {
		t.Errorf("%q", lines)
	}
	asks(t, c, "SELECT INBOX", "OK", mb)
	asks(t, c, "NOTIFY SET STATUS (selected MessageNew MessageExpunge FlagChange) (personal MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)", "", 128*mb)
	asks(t, c, "NOTIFY NONE", "OK", 4*mb)
}

// FETCH of the same thing over and over is cut short, or costs no more memory than once.
func TestFetchOfManyItems(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", message("one"), 0)
	w.deliver("INBOX", []byte("Subject: long\r\n\r\n"+strings.Repeat(strings.Repeat("x", 70)+"\r\n", 3000)), 0)
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	const mb = 1 << 20
	items := func(item string, n int) string { return "(" + strings.Repeat(item+" ", n) + "UID)" }
	deep := "BODY.PEEK[" + strings.Repeat("1.", 1000) + "1]"
	for _, q := range []struct {
		items, want string
		most        int64
	}{
		{items("BODY.PEEK[]<0.10>", 99), "OK", 16 * mb},
		{items("BODY.PEEK[]", 5000), "BAD", 4 * mb},
		{items("FLAGS", 1900), "BAD", 4 * mb},
		{items("BODY.PEEK[]<0.4294967295>", 20), "OK", 40 * mb}, // 20 times 216,000 bytes, as lines here
		{items("BODY.PEEK[1.1.1.1.1.1]", 99), "OK", 16 * mb},
		{deep, "", 4 * mb},
		{items("BODY.PEEK[HEADER.FIELDS ("+strings.Repeat("a ", 1000)+"b)]", 2), "", 16 * mb},
		{"BODY.PEEK[HEADER.FIELDS (" + strings.Repeat("a ", 20_000) + "b)]", "BAD", 16 * mb},
		{"BODY.PEEK[]<4294967295.4294967295>", "OK", 4 * mb},
	} {
		asks(t, c, "FETCH 2 "+q.items, q.want, q.most)
	}
}

// A client that does not read is not waited for in memory: what it has asked for stays
// where it is.
func TestSlowReader(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", []byte("Subject: long\r\n\r\n"+strings.Repeat(strings.Repeat("x", 70)+"\r\n", 60_000)), 0)
	const readers = 20
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var lines []*lineClient
	for range readers {
		l := newLineClient(t, w.dial())
		l.hear("* OK")
		l.say("a " + signIn + "\r\nb SELECT INBOX\r\n")
		for !strings.HasPrefix(l.hear(""), "b OK") {
		}
		lines = append(lines, l)
	}
	before := heap()
	for _, l := range lines {
		l.say("c FETCH 1 (" + strings.Repeat("BODY.PEEK[] ", 50) + "UID)\r\n")
		l.hear("* 1 FETCH") // it is being sent, and will not be read
	}
	var grown int64
	for range 10 { // the servers come to where they wait
		grown = max(grown, heap()-before)
		time.Sleep(5 * time.Millisecond)
	}
	if grown > readers*(512<<10) {
		t.Errorf("%d slow readers hold %d bytes", readers, grown)
	}
	c := w.login("A", "")
	if _, tagged := c.command(t, "EXAMINE INBOX"); !strings.HasPrefix(tagged, "zz OK") {
		t.Error(tagged)
	}
}

// A gigabyte of nothing, which is a megabyte on the line, is no message and no command.
func TestCompressedGigabyte(t *testing.T) {
	for name, command := range map[string]string{
		"a line":            `c LIST "" `,
		"a literal":         "c LIST \"\" {1073741824+}\r\n",
		"a message":         "c APPEND INBOX {1073741824+}\r\n",
		"a message, asking": "c APPEND INBOX (\\Seen) {1073741824}\r\n",
	} {
		w := newWorld(t)
		l := newLineClient(t, w.dial())
		l.hear("* OK")
		l.say("a " + signIn + "\r\n")
		l.hear("a OK")
		l.say("b COMPRESS DEFLATE\r\n")
		l.hear("b OK")
		wire := l.c
		took := costs(func() {
			go func() { // until the server has had enough
				z, _ := flate.NewWriter(wire, flate.BestSpeed)
				fmt.Fprint(z, command)
				zeros := make([]byte, 1<<20)
				for range 200 {
					if _, err := z.Write(zeros); err != nil {
						return
					}
				}
				z.Close()
				wire.Close()
			}()
			l.r = bufio.NewReader(flate.NewReader(l.r))
			got := l.hear("")
			if !strings.HasPrefix(got, "c BAD ") && !strings.HasPrefix(got, "c NO [") && !strings.HasPrefix(got, "* BYE ") && !strings.HasPrefix(got, "+ ") {
				t.Errorf("%s: %q", name, got)
			}
			for {
				if _, err := l.r.ReadString('\n'); err != nil {
					break
				}
			}
		})
		if took > 40<<20 {
			t.Errorf("%s: took %d bytes", name, took)
		}
	}
}

// Annotations are as many as a mailbox may have, and as long.
func TestManyEntries(t *testing.T) {
	w := newWorld(t)
	c := w.login("A", "")
	const mb = 1 << 20
	last := ""
	for i := range 100 {
		var b strings.Builder
		for j := range 50 {
			fmt.Fprintf(&b, ` /private/e%d "v"`, 50*i+j)
		}
		if _, last = c.command(t, "SETMETADATA INBOX ("+b.String()[1:]+")"); !strings.HasPrefix(last, "zz OK") {
			break
		}
	}
	if !strings.HasPrefix(last, "zz NO [METADATA TOOMANY]") {
		t.Error(last)
	}
	var names strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&names, " /private/e%d", i%200)
	}
	asks(t, c, "GETMETADATA INBOX ("+names.String()[1:]+")", "", 64*mb)
	asks(t, c, "GETMETADATA (DEPTH infinity) INBOX (/private)", "OK", 16*mb)
	asks(t, c, "GETMETADATA INBOX ("+strings.Repeat("/private/a ", 10_000)+"/private/b)", "BAD", 16*mb)
	asks(t, c, "SETMETADATA INBOX (/private/"+strings.Repeat("x", 50_000)+` "v")`, "", 16*mb)
}

// THREAD of messages that all refer to each other reads and keeps a bounded part of what
// they say.
func TestThreadOfEveryoneToEveryone(t *testing.T) {
	w := newWorld(t)
	const n = 300
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, "\r\n <%d@example.org>", i)
	}
	for i := range n {
		w.deliver("INBOX", []byte(fmt.Sprintf("Message-ID: <%d@example.org>\r\nReferences:%s\r\nSubject: Re: all\r\n\r\n", i, all.String())), mail.Seen)
	}
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	for _, how := range []string{"REFERENCES", "REFS", "ORDEREDSUBJECT"} {
		lines := asks(t, c, "THREAD "+how+" UTF-8 ALL", "OK", 16<<20)
		if len(lines) != 1 || strings.Count(lines[0], "(") > 2*n {
			t.Errorf("%s: %q", how, lines)
		}
	}
}
