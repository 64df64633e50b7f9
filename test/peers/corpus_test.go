package peers

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/test/peers/corpus"
	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// letters is the corpus, made once.
var letters = sync.OnceValue(corpus.All)

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// TestCorpusByAppend stores each message with APPEND and reads it with FETCH: all
// bytes must be the same, bare line ends and all. Those with NUL come back so as BINARY.
func TestCorpusByAppend(t *testing.T) {
	t.Parallel()
	s := start(t, martlet.Options{})
	w := dialIMAP(t, s, "alice")
	w.ok("CREATE corpus")
	var stored []corpus.Message
	for _, m := range letters() {
		literal := ""
		if m.NUL() {
			literal = "~" // RFC 9051, 4.3: only literal8 may hold a NUL
		}
		status := w.append("corpus", "", literal, m.Data)
		switch {
		case strings.HasPrefix(status, "OK"):
			stored = append(stored, m)
		case m.NUL() && s.Server == nil, len(m.Data) == 0: // RFC 3502, 6.3.11: an empty literal stores nothing
		case m.NUL() && strings.HasPrefix(status, "NO [UNKNOWN-CTE]"): // in the header, where nothing encodes it
		default:
			t.Errorf("APPEND of %s: %s", m.Name, status)
		}
	}
	w.ok("SELECT corpus")
	item := "BODY.PEEK[]"
	_, got := w.bodies(item)
	if len(got) != len(stored) {
		t.Fatalf("%d messages were stored and %d are there", len(stored), len(got))
	}
	for i, m := range stored {
		whole := s.Server != nil || bytes.Equal(m.Data, m.Lines()) // Dovecot keeps lines, not bytes
		if whole && !bytes.Equal(got[i], m.Data) && !m.NUL() {
			t.Errorf("%s came back different: %s", m.Name, difference(m.Data, got[i]))
		}
	}
	s.sizesAgree(t, w, stored)
	s.readNUL(t, w, stored)
	s.pop3Gives(t, "alice", nil)
	t.Logf("%d messages stored and read", len(stored))
}

// sizesAgree compares RFC822.SIZE with what was stored, and reads envelope and
// structure of all messages, which must not break the session.
func (s *subject) sizesAgree(t *testing.T, w *imapWire, stored []corpus.Message) {
	t.Helper()
	n := 0
	for _, r := range w.ok("FETCH 1:* (RFC822.SIZE ENVELOPE BODYSTRUCTURE)") {
		m := regexp.MustCompile(`^\* (\d+) FETCH \(RFC822\.SIZE (\d+) `).FindStringSubmatch(r.text)
		if m == nil {
			continue
		}
		n++
		var seq, size int
		fmt.Sscan(m[1], &seq)
		fmt.Sscan(m[2], &size)
		if c := stored[seq-1]; s.Server != nil && size != len(c.Data) && !c.NUL() {
			t.Errorf("%s has RFC822.SIZE %d, not %d", c.Name, size, len(c.Data))
		}
	}
	if n != len(stored) {
		t.Errorf("%d of %d messages answered with size, envelope and structure", n, len(stored))
	}
}

// readNUL reads the bodies with NUL as BINARY, which gives the bytes that came;
// elsewhere they are encoded, as no literal may hold NUL (RFC 3516, 4.2 and 4.4). The
// messages of the corpus that can be stored have one part each.
func (s *subject) readNUL(t *testing.T, w *imapWire, stored []corpus.Message) {
	t.Helper()
	n := 0
	for i, m := range stored {
		_, body, _ := bytes.Cut(m.Data, []byte("\r\n\r\n"))
		if !m.NUL() || s.Server == nil || bytes.Contains(body, []byte("\r\n\r\n--")) {
			continue
		}
		var got [][]byte
		for _, r := range w.ok("FETCH %d (BINARY.PEEK[1])", i+1) {
			got = append(got, r.literals...)
		}
		if n++; len(got) != 1 || !bytes.Equal(got[0], body) {
			t.Errorf("the body of %s came back different as BINARY.PEEK[1]", m.Name)
		}
	}
	if n == 0 && s.Server != nil {
		t.Error("no message with NUL could be stored")
	}
}

// difference says where two messages part.
func difference(want, got []byte) string {
	at := 0
	for at < len(want) && at < len(got) && want[at] == got[at] {
		at++
	}
	cut := func(b []byte) []byte { return b[max(min(at, len(b))-20, 0):min(at+20, len(b))] }
	return fmt.Sprintf("%d bytes, not %d; from byte %d %q, not %q", len(got), len(want), at, cut(got), cut(want))
}

// TestCorpusByLMTP delivers each message and reads it with IMAP and POP3.
func TestCorpusByLMTP(t *testing.T) { deliverCorpus(t, "lmtp") }

// TestCorpusBySMTP is the same on port 25.
func TestCorpusBySMTP(t *testing.T) { deliverCorpus(t, "smtp") }

func deliverCorpus(t *testing.T, road string) {
	s := start(t, martlet.Options{})
	s.need(t, road)
	to := s.account(t, "bob").Address
	w := dialSMTP(t, s.addr(road), road == "lmtp")
	box := dialIMAP(t, s, "bob")
	before := box.exists("INBOX")
	var sent []corpus.Message
	for _, m := range letters() {
		code, text := w.deliver("sender@example.org", to, m.Lines())
		switch {
		case code == 250:
			sent = append(sent, m)
		case m.NUL() && code/100 == 5: // refused with a reason, which is as good
		default:
			t.Errorf("%s: %s", m.Name, text)
		}
	}
	box.ok("SELECT INBOX")
	_, got := box.bodies("BODY.PEEK[]")
	got = got[before:]
	if len(got) != len(sent) {
		t.Fatalf("%d messages were accepted and %d are there", len(sent), len(got))
	}
	for i, m := range sent {
		if m.NUL() && s.Server == nil {
			continue // Dovecot keeps another byte in its place
		}
		if trouble := traced(got[i], m.Lines()); trouble != "" {
			t.Errorf("%s over %s and IMAP: %s", m.Name, road, trouble)
		}
	}
	box.ok("LOGOUT")
	s.pop3Gives(t, "bob", func(i int, b []byte) string {
		if i < before || sent[i-before].NUL() && s.Server == nil {
			return ""
		}
		return traced(b, sent[i-before].Lines())
	})
	t.Logf("%d messages delivered and read", len(sent))
}

// pop3Gives reads all messages of a maildrop with RETR and judges each.
func (s *subject) pop3Gives(t *testing.T, name string, judge func(i int, b []byte) string) {
	t.Helper()
	p := dialPOP3(t, s, name)
	var n, total int
	fmt.Sscanf(p.ok("STAT"), "+OK %d %d", &n, &total)
	for i := range n {
		b := p.multi("RETR %d", i+1)
		total -= len(b)
		if judge == nil {
			continue
		}
		if trouble := judge(i, b); trouble != "" {
			t.Errorf("message %d over POP3: %s", i+1, trouble)
		}
	}
	if total != 0 && s.Server != nil {
		t.Errorf("POP3's STAT is off by %d bytes from what RETR gives", total)
	}
	p.ok("QUIT")
}

// traceField matches the fields that a server puts in front of what it takes in.
var traceField = regexp.MustCompile(`(?i)^(return-path|received|delivered-to|x-original-to|authentication-results|received-spf|date|message-id):`)

// traced says what is wrong with a delivered message: it must be the original with
// whole trace fields in front (RFC 5321, 4.4).
func traced(got, original []byte) string {
	if !bytes.HasSuffix(got, original) {
		return difference(original, got[min(len(got), max(len(got)-len(original), 0)):])
	}
	head := got[:len(got)-len(original)]
	if len(head) == 0 {
		return "there is no trace field in front"
	}
	for _, l := range strings.SplitAfter(string(head), "\r\n") {
		if l == "" || l[0] == ' ' || l[0] == '\t' {
			continue
		}
		if !traceField.MatchString(l) || !strings.HasSuffix(l, "\r\n") {
			return fmt.Sprintf("%q in front is no trace field", l)
		}
	}
	return ""
}

// TestCorpusThroughQueue submits each message for another host, which a DNS server of
// the test names, and looks at what arrives there.
func TestCorpusThroughQueue(t *testing.T) {
	t.Parallel()
	if against() != "" {
		t.Skip("Dovecot has no queue")
	}
	sink := startSink(t)
	host, port := sink.HostPort()
	dns, err := dnstest.Start("sink.test. 300 IN MX 10 mx.sink.test.\nmx.sink.test. 300 IN A " + host + "\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dns.Close)
	s := start(t, martlet.Options{Set: outward(dns.Addr(), port)})
	a := s.account(t, "alice")
	w := dialSMTP(t, s.addr("submission"), false)
	w.login(a.Address, a.Password)
	want := map[string]corpus.Message{}
	for i, m := range letters() {
		to := fmt.Sprintf("m%d@sink.test", i)
		code, text := w.deliver(a.Address, to, m.Lines())
		switch {
		case code == 250:
			want[to] = m
		case m.NUL() && code/100 == 5:
		default:
			t.Errorf("%s was not taken: %s", m.Name, text)
		}
	}
	within(t, 90*time.Second, "everything has come out of the queue", func() bool { return sink.count() >= len(want) })
	for to, m := range want {
		got, times := sink.message(to)
		if times != 1 {
			t.Errorf("%s came %d times", m.Name, times)
			continue
		}
		if trouble := traced(got, m.Lines()); trouble != "" {
			t.Errorf("%s out of the queue: %s", m.Name, trouble)
		}
	}
	within(t, 10*time.Second, "the queue is empty", func() bool {
		out, err := s.Command("queue", "list", "--json")
		return err == nil && strings.TrimSpace(out) == ""
	})
	t.Logf("%d messages went through the queue", len(want))
}

// outward are the settings that let the queue find hosts of the test.
func outward(resolver, port string) map[string]string {
	return map[string]string{"queue.resolver": fmt.Sprintf("%q", resolver), "queue.port": port, "queue.allow_private": "true",
		"queue.retry": `["3s"]`}
}

// digest is short enough to be printed.
func digest(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b))[:12] }
