package provider

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
)

// Endless is an IMAP server with one mailbox of so many messages of so many bytes, which it
// makes up as they are asked for.
type Endless struct {
	Messages, Bytes int
	Late            bool // the UID of a message is said behind its body
	Gaps            bool // every third UID is missing: the set of UIDs cannot be said shortly
}

func (e *Endless) serve(c net.Conn) {
	defer c.Close()
	r, w := bufio.NewReader(c), bufio.NewWriterSize(c, 256<<10)
	body := strings.Repeat("a line of a message that is made up\r\n", e.Bytes/37+1)[:e.Bytes]
	fmt.Fprint(w, "* PREAUTH [CAPABILITY IMAP4rev1 ESEARCH CONDSTORE] ready\r\n")
	w.Flush()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		tag, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case strings.HasPrefix(rest, "LIST"):
			fmt.Fprint(w, "* LIST () \"/\" INBOX\r\n")
		case strings.HasPrefix(rest, "STATUS"):
			fmt.Fprintf(w, "* STATUS INBOX (MESSAGES %d UIDVALIDITY 5 UIDNEXT %d)\r\n", e.Messages, e.Last()+1)
		case strings.HasPrefix(rest, "EXAMINE"):
			fmt.Fprintf(w, "* %d EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n* OK [UIDNEXT %d] x\r\n* OK [HIGHESTMODSEQ 9] x\r\n", e.Messages, e.Last()+1)
		case strings.HasPrefix(rest, "UID SEARCH"):
			e.search(w, tag)
		case strings.HasPrefix(rest, "UID FETCH"):
			f := strings.Fields(rest)
			for _, part := range strings.Split(f[2], ",") {
				a, b, ranged := strings.Cut(part, ":")
				from, _ := strconv.Atoi(a)
				to := from
				if ranged {
					to, _ = strconv.Atoi(b)
				}
				for u := from; u <= to; u++ {
					if e.Gaps && u%3 == 0 {
						continue
					}
					if strings.Contains(rest, "BODY.PEEK[]") && e.Late {
						fmt.Fprintf(w, "* %d FETCH (BODY[] {%d}\r\n%s UID %d)\r\n", u, e.Bytes, body, u)
					} else if strings.Contains(rest, "BODY.PEEK[]") {
						fmt.Fprintf(w, "* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n", u, u, e.Bytes, body)
					} else {
						fmt.Fprintf(w, "* %d FETCH (UID %d FLAGS (\\Seen $Forwarded) INTERNALDATE \" 3-Feb-2009 04:05:06 +0000\" RFC822.SIZE %d)\r\n", u, u, e.Bytes)
					}
				}
			}
		}
		fmt.Fprintf(w, "%s OK done\r\n", tag)
		w.Flush()
	}
}

// Last returns the highest UID.
func (e *Endless) Last() int {
	if e.Gaps {
		return e.Messages/2*3 - 1
	}
	return e.Messages
}

func (e *Endless) search(w io.Writer, tag string) {
	fmt.Fprintf(w, "* ESEARCH (TAG %q) UID ALL ", tag)
	if !e.Gaps {
		fmt.Fprintf(w, "1:%d\r\n", e.Messages)
		return
	}
	for u := 1; u <= e.Last(); u += 3 {
		if u > 1 {
			io.WriteString(w, ",")
		}
		fmt.Fprintf(w, "%d:%d", u, u+1)
	}
	io.WriteString(w, "\r\n")
}

// Start has it listen until the test ends, and returns where.
func (e *Endless) Start(t testing.TB) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go e.serve(c)
		}
	}()
	return l.Addr().String()
}
