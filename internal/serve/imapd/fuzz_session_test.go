package imapd

import (
	"bufio"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// setups are the states in which a session is when the fuzzer begins to speak: the
// commands that lead there. A session that compresses does so from there on.
var setups = []struct {
	name     string
	commands []string
	zip      bool
	idle     bool
	legacy   bool // at a listener for old clients
}{
	{name: "greeted"},
	{name: "signed in", commands: []string{signIn}},
	{name: "selected", commands: []string{signIn, "SELECT INBOX"}},
	{name: "read only", commands: []string{signIn, "EXAMINE INBOX"}},
	{name: "idling", commands: []string{signIn, "SELECT INBOX"}, idle: true},
	{name: "compressed", commands: []string{signIn, "SELECT INBOX", "COMPRESS DEFLATE"}, zip: true},
	{name: "QRESYNC", commands: []string{signIn, "ENABLE QRESYNC", "SELECT INBOX"}},
	{name: "UIDONLY", commands: []string{signIn, "ENABLE UIDONLY", "SELECT INBOX"}},
	{name: "UTF-8", commands: []string{signIn, "ENABLE UTF8=ACCEPT IMAP4rev2", "SELECT INBOX"}},
	{name: "told of annotations", commands: []string{signIn, "ENABLE METADATA CONDSTORE", "SELECT INBOX"}},
	{name: "German", commands: []string{signIn, "LANGUAGE de", "SELECT INBOX"}},
	{name: "told of everything", commands: []string{
		signIn, "NOTIFY SET (selected (MessageNew (UID FLAGS) MessageExpunge FlagChange)) (personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange))",
		"SELECT INBOX", "UID SORT RETURN (UPDATE (ENVELOPE)) (SUBJECT REVERSE DATE) UTF-8 UNSEEN",
	}},
	{name: "IMAP2", commands: []string{signIn, "SELECT INBOX"}, legacy: true},
	{name: "IMAP4 of 1994", commands: []string{"CAPABILITY", signIn, "SELECT INBOX"}, legacy: true},
}

const signIn = `LOGIN alice@example.org "` + password + `"`

// oneWay is a connection whose two directions end apart from each other, as those of TCP
// do: it reads from one pipe and writes to the other.
type oneWay struct {
	net.Conn // reads, and tells addresses
	out      net.Conn
}

func (c oneWay) Write(p []byte) (int, error)        { return c.out.Write(p) }
func (c oneWay) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }
func (c oneWay) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
func (c oneWay) Close() error { return errors.Join(c.Conn.Close(), c.out.Close()) }

// loudLog counts what is logged as an error: what the server thinks is wrong with itself.
type loudLog struct {
	slog.Handler
	errors atomic.Int64
	last   atomic.Pointer[string]
}

func (l *loudLog) Enabled(_ context.Context, at slog.Level) bool { return at >= slog.LevelError }
func (l *loudLog) WithAttrs([]slog.Attr) slog.Handler            { return l }
func (l *loudLog) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	l.errors.Add(1)
	l.last.Store(&text)
	return nil
}

// longTest lets a world outlive the input it was made for, which the tests of a fuzz
// target do not.
type longTest struct {
	testing.TB // the one that runs
	cleanups   []func()
}

func (l *longTest) Helper()           {}
func (l *longTest) Cleanup(fn func()) { l.cleanups = append(l.cleanups, fn) }
func (l *longTest) TempDir() string {
	dir, err := os.MkdirTemp("", "imapd-fuzz")
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ring is a world for hostile sessions, and a bystander in it.
type ring struct {
	*world
	test      *longTest
	log       *loudLog
	bystander *client
	used      int
}

func newRing(tb testing.TB) *ring {
	t := &longTest{TB: tb}
	r := &ring{world: newWorld(t), test: t, log: &loudLog{Handler: slog.DiscardHandler}}
	r.net = netsrv.New(netsrv.Options{NewID: func() string { return "c" }, Log: slog.New(r.log)})
	r.deliver("INBOX", message("one"), 0)
	r.deliver("INBOX", []byte("Subject: =?utf-8?q?two?=\r\nReferences: <one@example.org>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"+
		"--b\r\nContent-Transfer-Encoding: base64\r\n\r\ndHdv\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nside\r\n--b--\r\n"), 0)
	r.bystander = r.login("B", "bob@example.org")
	r.bystander.command(t, "APPEND INBOX {4+}\r\nmine")
	r.bystander.command(t, "SELECT INBOX")
	r.bystander.command(t, "FETCH 1 BODY[]")
	return r
}

func (r *ring) close() {
	for _, fn := range slices.Backward(r.test.cleanups) {
		fn()
	}
}

// heard is what a session said.
type heard struct {
	tagged []string // the tags of answers, "*" for a BAD without one
	plain  bool     // all of it was read; not so if the input changed the stream
	bye    bool
	bytes  int
}

var (
	literalEnd = regexp.MustCompile(`\{(\d+)\}\r\n$`)
	answerLine = regexp.MustCompile(`^(\S+) (OK|NO|BAD) (?:\[[^\]\r\n]*\] )?[^\r\n]{2,}\r\n$`)
)

// listen reads all that the server says until it ends the connection, and checks that
// each response is one of IMAP (grammatical). zip says that it is compressed from the start.
func listen(r *bufio.Reader, zip bool) (a heard, err error) {
	if zip {
		r = bufio.NewReader(flate.NewReader(r))
	}
	for {
		text, err := response(r)
		a.bytes += len(text)
		if err != nil {
			if zip || errors.Is(err, io.EOF) && text == "" {
				err = nil
			}
			a.plain = a.plain || err == nil
			return a, err
		}
		if err := grammatical(text); err != nil {
			return a, err
		}
		m := answerLine.FindStringSubmatch(text)
		switch {
		case strings.HasPrefix(text, "+ "):
		case m != nil && m[1] != "*":
			a.tagged = append(a.tagged, m[1])
			if strings.Contains(text, " OK begin compression now") || strings.Contains(text, german["begin compression now"]) || strings.Contains(text, " OK UNAUTHENTICATE") && zip {
				n, _ := io.Copy(io.Discard, r)
				a.bytes += int(n)
				return a, nil
			}
		case strings.HasPrefix(text, "* BAD "):
			a.tagged = append(a.tagged, "*")
		case strings.HasPrefix(text, "* "):
			a.bye = a.bye || strings.HasPrefix(text, "* BYE ")
		default:
			return a, fmt.Errorf("the server said %q", text)
		}
		if m != nil && (m[2] == "NO" || m[2] == "BAD") && strings.Contains(text, "[SERVERBUG]") {
			return a, fmt.Errorf("the server said %q", text)
		}
	}
}

// response reads one response with its literals.
func response(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return b.String(), err
		}
		if !strings.HasSuffix(line, "\r\n") || strings.ContainsAny(line[:len(line)-2], "\r\x00") {
			return b.String(), fmt.Errorf("not a line: %q", line)
		}
		m := literalEnd.FindStringSubmatch(line)
		if m == nil {
			return b.String(), nil
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err == nil {
			_, err = io.CopyN(&b, r, n)
		}
		if err != nil {
			return b.String(), err
		}
	}
}

// play speaks to a new session in one of the states and returns what it said until it
// ended, after the input did.
func (r *ring) play(t *testing.T, state int, input string) heard {
	setup := setups[state]
	up, upEnd := net.Pipe()
	down, downEnd := net.Pipe()
	service := r.service
	if setup.legacy {
		service.Handle = r.legacy().Handle
	}
	go r.net.ServeConn(r.ctx, oneWay{upEnd, downEnd}, service)
	limit := time.Now().Add(patience) // of a session that hangs
	up.SetDeadline(limit)
	down.SetDeadline(limit)
	defer down.Close()
	defer up.Close()
	in := bufio.NewReader(down)
	if _, err := response(in); err != nil {
		t.Fatal("greeting:", err)
	}
	for _, command := range setup.commands {
		io.WriteString(up, "setup "+command+"\r\n")
		for text := ""; !strings.HasPrefix(text, "setup "); {
			var err error
			if text, err = response(in); err != nil || strings.HasPrefix(text, "setup NO") || strings.HasPrefix(text, "setup BAD") {
				t.Fatalf("%s: %q %v", command, text, err)
			}
		}
	}
	if setup.idle {
		io.WriteString(up, "idle IDLE\r\n")
		response(in)
	}
	go func() {
		defer up.Close()
		if !setup.zip {
			io.WriteString(up, input)
			return
		}
		z, _ := flate.NewWriter(up, flate.BestSpeed)
		io.WriteString(z, input)
		z.Flush()
	}()
	a, err := listen(in, setup.zip)
	if err != nil {
		t.Fatalf("%s, %q: %v", setup.name, input, err)
	}
	return a
}

// commandTags returns the tags of an input without literals and without commands that
// take lines of their own, and whether it is one.
func commandTags(input string) (tags []string, simple bool) {
	lines := strings.Split(input, "\n")
	for _, line := range lines[:len(lines)-1] { // the last one is not complete
		line = strings.TrimSuffix(line, "\r")
		if strings.Contains(line, "{") || lineModes.MatchString(line) || len(line) > 30_000 {
			return nil, false
		}
		if line == "" {
			continue
		}
		tag, _, _ := strings.Cut(line, " ")
		tags = append(tags, tag)
	}
	return tags, true
}

var lineModes = regexp.MustCompile(`(?i)\s(IDLE|AUTHENTICATE|STARTTLS|COMPRESS|LOGOUT|UNAUTHENTICATE)`)

// check holds what a session said against what was said to it.
func (a *heard) check(input string, idle bool) error {
	want, simple := commandTags(input)
	if idle {
		simple = false
	}
	if simple && a.plain {
		if n := len(a.tagged); n < len(want) && !a.bye || !slices.EqualFunc(a.tagged, want[:min(n, len(want))], sameTag) {
			return fmt.Errorf("it answered %q, to %q", a.tagged, want)
		}
		return nil
	}
	// Each answer is to a line, in their order.
	lines := strings.Split(input, "\n")
	for _, tag := range a.tagged {
		if tag == "*" || tag == "idle" {
			continue
		}
		i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(strings.TrimSuffix(line, "\r"), tag) })
		if i < 0 {
			return fmt.Errorf("%q is no tag in order", tag)
		}
		lines = lines[i+1:]
	}
	return nil
}

// sameTag: a tag is answered as it was sent; one with something odd in it as far as it
// was read, or by a BAD without a tag.
func sameTag(got, want string) bool {
	odd := want == "" || len(want) > 1000 || strings.ContainsFunc(want, func(c rune) bool {
		return c <= ' ' || c >= 127 || strings.ContainsRune("(){%*\"\\+", c)
	})
	return got == want || odd && (got == "*" || strings.HasPrefix(want, got))
}

// allocated is all memory that was ever taken.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// transcriptInputs returns what each client of each transcript says.
func transcriptInputs(f *testing.F) (out []string) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatal("no transcripts:", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		said := map[string]string{}
		for _, line := range strings.Split(string(b), "\n") {
			if m := exchange.FindStringSubmatch(line); m != nil && m[2] == ">" {
				said[m[1]] += strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(hole.ReplaceAllString(m[3], "1")) + "\r\n"
			}
			if word, rest, _ := strings.Cut(line, " "); word == "select" {
				name, box, _ := strings.Cut(rest, " ")
				said[name] += "s SELECT " + box + "\r\n"
			}
		}
		for _, name := range slices.Sorted(maps.Keys(said)) {
			out = append(out, said[name])
		}
	}
	return out
}

// Whatever a client sends, and in whatever state: each complete command is answered
// once and in order, every byte said is in the grammar of IMAP, what is taken of memory has a bound,
// nothing is the server's own fault, the session ends when its input does, and the
// session of somebody else goes on.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"a LOGIN alice@example.org \"" + password + "\"\r\nb SELECT INBOX\r\nc FETCH 1:* (FLAGS BODY[] ENVELOPE)\r\nd STORE 1 -FLAGS.SILENT (x)\r\n",
		"a LOGIN {3+}\r\nabc {1}\r\nx\r\n", "a AUTHENTICATE PLAIN\r\n*\r\n", "a LOGOUT\r\n",
		"a LOGIN alice@example.org \"" + password + "\"\r\nb SELECT INBOX\r\nc SEARCH RETURN (SAVE) OR TEXT a NOT 1\r\nd UID COPY $ Archive\r\ne IDLE\r\nDONE\r\nf UID MOVE 1:* Trash\r\n",
		"a LOGIN alice@example.org \"" + password + "\"\r\nb ENABLE QRESYNC UIDONLY UTF8=ACCEPT\r\nc SELECT INBOX (QRESYNC (1772366406 1 1:9))\r\nd UID FETCH 1:* (EMAILID PREVIEW) (CHANGEDSINCE 1 VANISHED)\r\ne UID REPLACE 1 INBOX {1+}\r\nx\r\nf GETQUOTAROOT INBOX\r\ng UNAUTHENTICATE\r\n",
		"a LOGIN alice@example.org \"" + password + "\"\r\nb COMPRESS DEFLATE\r\n",
		"a LOGIN alice@example.org \"" + password + "\"\r\nb APPEND INBOX (\\Seen) {3+}\r\nabc\r\nc LIST (SUBSCRIBED) \"\" (* %) RETURN (STATUS (SIZE))\r\nd RENAME a b\r\n",
		"a LOGIN alice@example.org \"" + password + "\"\r\nb SELECT INBOX\r\nc UID SORT RETURN (PARTIAL -1:-5 COUNT RELEVANCY) (REVERSE SUBJECT RELEVANCY) UTF-8 FUZZY TEXT one\r\nd UID THREAD REFS UTF-8 OLDER 5\r\ne ESEARCH IN (personal subtree INBOX) RETURN (MIN) FILTER x\r\n",
		"a LOGIN alice@example.org \"" + password + "\"\r\nb ENABLE METADATA\r\nc SETMETADATA INBOX (/private/a {1+}\r\nx /shared/b NIL)\r\nd GETMETADATA (DEPTH infinity MAXSIZE 3) INBOX (/private /shared/b)\r\ne LIST \"\" * RETURN (METADATA (/private/a))\r\n",
		"a LOGIN alice@example.org \"" + password + "\"\r\nb SELECT INBOX\r\nc APPEND Sent CATENATE (URL \";UID=1/;SECTION=HEADER\" TEXT {2+}\r\nab) CATENATE (URL /INBOX/;UID=1/;PARTIAL=3.4)\r\n" +
			"d GENURLAUTH imap://alice@example.org/INBOX/;uid=1;urlauth=anonymous INTERNAL\r\ne URLFETCH (imap://alice@example.org/INBOX/;uid=1/;section=1;urlauth=anonymous:internal:01ab BINARY BODYPARTSTRUCTURE)\r\nf RESETKEY INBOX\r\n",
	} {
		for state := range setups {
			f.Add(uint8(state), s)
		}
	}
	for i, s := range transcriptInputs(f) {
		f.Add(uint8(1+i%(len(setups)-1)), s)
	}
	var r *ring
	f.Cleanup(func() {
		if r != nil {
			r.close()
		}
	})
	f.Fuzz(func(t *testing.T, state uint8, input string) {
		if len(input) > 200_000 {
			return
		}
		if r == nil || r.used >= 100 { // what was done to the mailboxes may be much
			if r != nil {
				r.close()
			}
			r = newRing(t)
		}
		r.used++
		r.test.TB = t
		before, at := allocated(), int(state)%len(setups)
		a := r.play(t, at, input)
		if err := a.check(input, setups[at].idle); err != nil {
			t.Fatalf("%s, %q: %v", setups[at].name, input, err)
		}
		if took, may := allocated()-before, uint64(64<<20+4000*len(input)+40*a.bytes); took > may {
			t.Fatalf("%s, %q: took %d bytes of memory for %d read and %d written", setups[at].name, input, took, len(input), a.bytes)
		}
		if r.log.errors.Swap(0) > 0 {
			t.Fatalf("%s, %q: the log says %s", setups[at].name, input, *r.log.last.Load())
		}
		lines, tagged := r.bystander.command(t, "FETCH 1 BODY[]")
		if got := strings.Join(lines, "\n"); got != "* 1 FETCH (BODY[] {4}\nmine)" || !strings.HasPrefix(tagged, "zz OK") {
			t.Fatalf("%s, %q: then somebody else reads %q %s", setups[at].name, input, lines, tagged)
		}
	})
}
