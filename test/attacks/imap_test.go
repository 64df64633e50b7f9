package attacks

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/serve/imapd"
	"github.com/martlet-mail/martlet/test/house"
)

// forgiving makes the house forgive any number of wrong commands.
func forgiving(o *imapd.Options) { o.MaxBad = 1 << 30 }

// greet connects to IMAP.
func greet(t *testing.T, h *house.House) *house.Client {
	t.Helper()
	c := h.Dial(t, "imap")
	if got := c.Line(); !strings.HasPrefix(got, "* OK") {
		t.Fatalf("greeting: %s", got)
	}
	return c
}

// login is a session of a user's with the INBOX selected.
func login(t *testing.T, h *house.House, local string) *house.Client {
	t.Helper()
	c := greet(t, h)
	tagged(t, c, "LOGIN "+local+"@example.org \""+house.Password+"\"", "OK")
	tagged(t, c, "SELECT INBOX", "OK")
	return c
}

// tagged sends a command and holds its tagged line against how it is to begin, without its
// tag; alternatives are parted by a bar.
func tagged(t *testing.T, c *house.Client, command, want string) []string {
	t.Helper()
	untagged, got := c.Tagged("t", command)
	for w := range strings.SplitSeq(want, "|") {
		if strings.HasPrefix(got, "t "+w) {
			return untagged
		}
	}
	t.Errorf("%.100q (%d bytes): %.200s, want %s", command, len(command), got, want)
	return untagged
}

// store appends messages to the INBOX.
func appendAll(t *testing.T, c *house.Client, texts ...string) {
	t.Helper()
	for _, text := range texts {
		tagged(t, c, fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(text), text), "OK")
	}
}

// steady fails if what f does leaves the server with more than some memory, in bytes.
func steady(t *testing.T, most int64, f func()) {
	t.Helper()
	before := heap()
	f()
	if grown := int64(heap()) - int64(before); grown > most {
		t.Errorf("the server holds %d bytes more, at most %d are allowed", grown, most)
	}
}

// A literal is refused by its announcement, before login above all, and nothing of it is
// kept.
func TestAttack33Literals(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	for _, size := range []string{"4294967295", "4294967296", "2000000000", "18446744073709551616", "99999999999999999999999", "-1", "1e9", "0x7f", ""} {
		c := greet(t, h)
		c.Send("t LOGIN {" + size + "}\r\n")
		if _, got := c.Until("t"); !strings.HasPrefix(got, "t BAD") && !strings.HasPrefix(got, "t NO") && got != "" {
			t.Errorf("LOGIN {%s}: %s", size, got)
		}
	}
	steady(t, 4<<20, func() {
		for range 20 {
			c := greet(t, h)
			c.Send("t LOGIN {2000000000+}\r\n" + strings.Repeat("x", 1<<20)) // what does not wait is not waited for
			if rest := c.Rest(); strings.Contains(rest, "t OK") {
				t.Errorf("%.200s", rest)
			}
		}
	})
	c := greet(t, h)
	c.Send("t LOGIN" + strings.Repeat(" {1+}\r\na", 1000) + "\r\n")
	if _, got := c.Until("t"); !strings.HasPrefix(got, "t BAD") && got != "" {
		t.Errorf("1,000 literals: %s", got)
	}
	c = login(t, h, "alice")
	tagged(t, c, "APPEND INBOX {4294967295}", "NO [TOOBIG]|BAD")
	c = login(t, h, "alice")
	tagged(t, c, "SELECT {2000000000}", "BAD|NO")
	sound(t, h)
}

// Parentheses nest to a limit.
func TestAttack34Parentheses(t *testing.T) {
	h := house.New(t, house.Options{IMAP: forgiving})
	h.Account(t, "alice")
	for _, nest := range []string{
		strings.Repeat("(", 1_000_000), strings.Repeat("()", 500_000), strings.Repeat("(", 30_000) + strings.Repeat(")", 30_000),
		strings.Repeat("(a ", 20_000), strings.Repeat("(", 100) + "SEEN" + strings.Repeat(")", 100),
	} {
		steady(t, 4<<20, func() {
			for _, command := range []string{"SEARCH ", "FETCH 1 ", "STORE 1 FLAGS ", "STATUS INBOX ", "LIST ", "ID ", "NOTIFY SET ", "SORT ", "THREAD "} {
				c := login(t, h, "alice")
				c.Send("t " + command + nest + "\r\n")
				if _, got := c.Until("t"); strings.HasPrefix(got, "t OK") && len(nest) > 1000 {
					t.Errorf("%s%.20s... (%d bytes): %s", command, nest, len(nest), got)
				}
			}
			c := greet(t, h)
			c.Send("t ID " + nest) // and no line end
		})
	}
	sound(t, h)
}

// Counts are exact, and quoted strings hold no line ends.
func TestAttack35CountsAndQuotes(t *testing.T) {
	h := house.New(t, house.Options{IMAP: forgiving})
	h.Account(t, "alice")
	c := login(t, h, "alice")
	// Fewer bytes announced than sent: the rest of the line is no second command.
	c.Send("t SEARCH SUBJECT {3+}\r\nabcdef\r\n")
	if _, got := c.Until("t"); !strings.HasPrefix(got, "t BAD") {
		t.Errorf("a short count: %s", got)
	}
	tagged(t, c, "NOOP", "OK")
	c.Send("t SEARCH SUBJECT \"a\r\nx DELETE Trash\r\n")
	if _, got := c.Until("t"); !strings.HasPrefix(got, "t BAD") {
		t.Errorf("a line end in quotes: %s", got)
	}
	if _, got := c.Until("x"); strings.HasPrefix(got, "x OK") {
		t.Logf("the next line is a command of its own, as it must be: %s", got)
	}
	tagged(t, c, "SEARCH SUBJECT \"a\rb\"", "BAD")
	tagged(t, c, "SEARCH SUBJECT \"a\x00b\"", "BAD")
	tagged(t, c, "SEARCH SUBJECT {3+}\r\na\x00b", "BAD")
	sound(t, h)
}

// Tags and atoms that are none.
func TestAttack36Tags(t *testing.T) {
	h := house.New(t, house.Options{IMAP: forgiving})
	h.Account(t, "alice")
	c := login(t, h, "alice")
	for _, line := range []string{"* NOOP", "+ NOOP", " NOOP", "a", "a ", "a+b NOOP", strings.Repeat("a", 10_000) + " NOOP", "\xff NOOP", "a\x00 NOOP", "(a NOOP", "a%b NOOP", `a"b NOOP`, "a\\b NOOP", "a{3} NOOP"} {
		c.Send(line + "\r\n")
		if got := c.Line(); !strings.Contains(got, "BAD") {
			t.Errorf("%.40q: %s", line, got)
		}
	}
	tagged(t, c, "NOOP", "OK")
	sound(t, h)
}

// Long sets and lists of flags are read once.
func TestAttack37LongLists(t *testing.T) {
	h := house.New(t, house.Options{IMAP: forgiving})
	h.Account(t, "alice")
	c := login(t, h, "alice")
	appendAll(t, c, "Subject: x\r\n\r\n", "Subject: y\r\n\r\n")
	steady(t, 4<<20, func() {
		for _, set := range []string{strings.Repeat("1,", 20_000) + "1", strings.Repeat("1:*,", 10_000) + "1", strings.Repeat("*,", 20_000) + "2", strings.Repeat("4294967295:1,", 3000) + "1"} {
			tagged(t, c, "UID FETCH "+set+" FLAGS", "OK|BAD")
			tagged(t, c, "UID SEARCH UID "+set, "OK|BAD")
		}
		tagged(t, c, "STORE 1 +FLAGS ("+strings.Repeat("a", 40_000)+")", "NO|BAD")
		tagged(t, c, "STORE 1 +FLAGS ("+strings.Repeat("\\Seen ", 8000)+"\\Seen)", "OK|BAD|NO")
	})
	sound(t, h)
}

// A set names what exists; numbers are not counted through.
func TestAttack38Sets(t *testing.T) {
	h := house.New(t, house.Options{IMAP: forgiving})
	h.Account(t, "alice")
	c := login(t, h, "alice")
	appendAll(t, c, "Subject: x\r\n\r\n", "Subject: y\r\n\r\n")
	for _, set := range []string{"1:4294967295", "4294967295:1", "1:*", "*:1", "2,1:4294967295,*"} {
		if got := tagged(t, c, "UID FETCH "+set+" UID", "OK"); len(got) != 2 {
			t.Errorf("UID FETCH %s: %v", set, got)
		}
		tagged(t, c, "UID SEARCH UID "+set, "OK")
		tagged(t, c, "UID STORE "+set+" +FLAGS (\\Seen)", "OK")
	}
	for _, set := range []string{"0", "4294967296", "1:4294967296", "-1", "1:", ":1", "1,,2", "", "a", "1:2:3", "18446744073709551617", "1.5"} {
		tagged(t, c, "UID FETCH "+set+" UID", "BAD")
	}
	sound(t, h)
}

// Searches nest and grow to a limit; a charset that is not known is said to be so.
func TestAttack39Searches(t *testing.T) {
	h := house.New(t, house.Options{IMAP: forgiving})
	h.Account(t, "alice")
	c := login(t, h, "alice")
	appendAll(t, c, "Subject: x\r\n\r\nwords\r\n")
	steady(t, 8<<20, func() {
		for _, search := range []string{
			strings.Repeat("OR SEEN ", 5_000) + "SEEN", strings.Repeat("NOT ", 10_000) + "SEEN", strings.Repeat("SEEN ", 10_000) + "SEEN",
			strings.Repeat("(NOT ", 5_000) + "SEEN" + strings.Repeat(")", 5_000), strings.Repeat("OR (SEEN) (NOT ", 3_000) + "SEEN" + strings.Repeat(")", 3_000),
		} {
			tagged(t, c, "SEARCH "+search, "BAD|NO|OK")
		}
		c.Send("t SEARCH TEXT {1000000+}\r\n" + strings.Repeat("a", 1_000_000) + "\r\n")
		if _, got := c.Until("t"); !strings.HasPrefix(got, "t BAD") && !strings.HasPrefix(got, "t NO") && got != "" {
			t.Errorf("a text of a megabyte: %s", got)
		}
	})
	c = login(t, h, "alice")
	for _, charset := range []string{"X-NONE", "UTF-7", strings.Repeat("A", 5000), "\"\""} {
		tagged(t, c, "SEARCH CHARSET "+charset+" TEXT words", "NO [BADCHARSET|BAD")
	}
	tagged(t, c, "SEARCH CHARSET UTF-8 TEXT {2+}\r\n\xff\xfe", "BAD|NO|OK")
	sound(t, h)
}

// THREAD and SORT of what nobody writes: a chain, a cycle, one subject, one id for all.
func TestAttack40Threads(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	c := login(t, h, "alice")
	var all []string
	for n := range 300 {
		all = append(all, fmt.Sprintf("Message-ID: <%d@x>\r\nReferences: <%d@x>\r\nSubject: %sdeep\r\n\r\n", n, n-1, strings.Repeat("Re: ", n%50)))
	}
	long := ""
	for n := range 5000 {
		long += fmt.Sprintf(" <r%d@x>\r\n", n)
	}
	all = append(all,
		"Message-ID: <a@x>\r\nReferences: <b@x>\r\nSubject: x\r\n\r\n", "Message-ID: <b@x>\r\nReferences: <a@x>\r\nSubject: x\r\n\r\n", "Message-ID: <self@x>\r\nReferences: <self@x> <self@x>\r\n\r\n",
		"Message-ID: <same@x>\r\n\r\n", "Message-ID: <same@x>\r\n\r\n", "Message-ID: <"+strings.Repeat("i", 1<<20)+"@x>\r\n\r\n", "References:"+long+"Message-ID: <end@x>\r\n\r\n",
	)
	appendAll(t, c, all...)
	for _, command := range []string{"THREAD REFERENCES UTF-8 ALL", "THREAD ORDEREDSUBJECT UTF-8 ALL", "THREAD REFS UTF-8 ALL", "SORT (SUBJECT DATE FROM) UTF-8 ALL", "UID SORT (REVERSE SUBJECT ARRIVAL) UTF-8 ALL"} {
		got := tagged(t, c, command, "OK|BAD")
		named := strings.FieldsFunc(strings.Join(got, " "), func(r rune) bool { return r < '0' || r > '9' })
		if len(got) > 0 && len(named) != len(all) {
			t.Errorf("%s names %d of %d messages", command, len(named), len(all))
		}
	}
	sound(t, h)
}

// A FETCH asks for so many things and no more, and what is asked for is exact.
func TestAttack41Fetches(t *testing.T) {
	h := house.New(t, house.Options{IMAP: forgiving})
	h.Account(t, "alice")
	c := login(t, h, "alice")
	text := "Content-Type: text/plain\r\nContent-Transfer-Encoding: x-secret\r\n\r\nthis is no base64!\r\n"
	appendAll(t, c, text, "Content-Transfer-Encoding: base64\r\n\r\n=====\x80!\r\n")
	tagged(t, c, "FETCH 1 ("+strings.Repeat("BODY.PEEK[] ", 10_000)+"UID)", "BAD|NO")
	tagged(t, c, "FETCH 1 BODY[1"+strings.Repeat(".1", 1000)+"]", "BAD|OK")
	tagged(t, c, "FETCH 1 BODY.PEEK[HEADER.FIELDS ("+strings.Repeat("X ", 10_000)+"Y)]", "BAD|OK|NO")
	for _, partial := range []string{"<-1.5>", "<1>", "<1.0>", "<99999999999999999999.1>"} {
		tagged(t, c, "FETCH 1 BODY.PEEK[]"+partial, "BAD")
	}
	for partial, want := range map[string]string{"<0.4294967295>": text, "<5.3>": text[5:8], "<4294967290.9>": ""} {
		start, _, _ := strings.Cut(partial[1:], ".")
		c.Send("t FETCH 1 BODY.PEEK[]" + partial + "\r\n")
		line := c.Line()
		if _, after, _ := strings.Cut(line, "BODY[]<"+start+"> "); after == `""` && want == "" {
			c.Until("t")
			continue
		}
		open := strings.LastIndex(line, "{")
		size, err := strconv.Atoi(strings.TrimSuffix(line[open+1:], "}"))
		got := make([]byte, max(size, 0))
		if _, rerr := io.ReadFull(c.In, got); err != nil || rerr != nil || string(got) != want {
			t.Errorf("%s: %s %q", partial, line, got)
		}
		c.Until("t")
	}
	tagged(t, c, "FETCH 1 BINARY.PEEK[1]", "NO [UNKNOWN-CTE]")
	tagged(t, c, "FETCH 2 BINARY.PEEK[1]", "NO [UNKNOWN-CTE]|OK") // what is no base64 is passed over (RFC 2045, 6.8)
	sound(t, h)
}

// What is compressed is limited by what it becomes.
func TestAttack42Compression(t *testing.T) {
	h := house.New(t, house.Options{})
	h.Account(t, "alice")
	var bomb bytes.Buffer
	w, err := flate.NewWriter(&bomb, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 64 {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	steady(t, 4<<20, func() {
		c := login(t, h, "alice")
		tagged(t, c, "COMPRESS DEFLATE", "OK")
		for range 16 { // a gigabyte: what is flushed after zeros goes on with zeros
			c.Send(bomb.String())
		}
		_ = c.Rest() // it hangs up, whatever it says
	})
	c := login(t, h, "alice")
	tagged(t, c, "COMPRESS DEFLATE", "OK")
	packed := struct {
		*flate.Writer
		in io.Reader
	}{nil, flate.NewReader(c.In)}
	if packed.Writer, err = flate.NewWriter(c.Conn, 6); err != nil {
		t.Fatal(err)
	}
	ask := func(line string) string {
		t.Helper()
		if _, err := io.WriteString(packed.Writer, line+"\r\n"); err != nil || packed.Flush() != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4096)
		n, err := packed.in.Read(got)
		if err != nil {
			t.Fatal(err)
		}
		return string(got[:n])
	}
	if got := ask("u COMPRESS DEFLATE"); !strings.HasPrefix(got, "u NO [COMPRESSIONACTIVE]") {
		t.Errorf("twice: %s", got)
	}
	if got := ask("u STARTTLS"); !strings.HasPrefix(got, "u BAD") && !strings.HasPrefix(got, "u NO") {
		t.Errorf("TLS within: %s", got)
	}
	sound(t, h)
}
