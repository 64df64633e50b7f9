package limits

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/promise"
)

// fill makes the INBOX of an account have n messages or more, with some words in them.
func fill(t testing.TB, h *house, name string, n int) *talk {
	t.Helper()
	const once = 500
	for i := range once {
		body := strings.Repeat(fmt.Sprintf("word%d and some more words of message %d\r\n", i%97, i), 20)
		h.deliver(t, name, fmt.Sprintf("Subject: message %d of %d\r\nMessage-ID: <%d@far.example>\r\nReferences: <%d@far.example>\r\n\r\n%s", i, once, i, i/2, body))
	}
	k := h.imap(t, name)
	for have := once; have < n; {
		more := min(have, n-have, 8000) // what fits in one change
		k.ok("COPY 1:%d INBOX", more)
		have += more
	}
	k.ok("NOOP")
	return k
}

// long is a search whose words are too short for notes of messages to tell, and are in no
// message but the last, which is in none: all is read each time, for each word.
var long = strings.Repeat(`NOT TEXT "qz" NOT BODY "zq" NOT TEXT "qx" NOT TEXT "xq" `, 25) + `TEXT "jq"`

// R23: a command whose client has gone, or one of a server that stops, ends long before it
// would have been done; one that takes longer than it may is refused.
func TestR23WorkThatNobodyWaitsFor(t *testing.T) {
	n := promise.Times(t, "R23", 100_000, 1_000_000)
	h := newHouse(t, options{})
	k := fill(t, h, "alice", n)
	commands := map[string]string{
		"SEARCH": `SEARCH NOT TEXT "q%d" ` + long, // that nothing is known of, whatever was looked for before
		"SORT":   `SORT (SIZE SUBJECT ANNOTATION "/comment" "value.priv") UTF-8 BODY "nowhere %d"`,
		"FETCH":  `FETCH 1:* (ENVELOPE BODY.PEEK[TEXT]<%d.100>)`,
	}
	fresh := 0
	for name, command := range commands {
		next := func() string {
			fresh++
			return fmt.Sprintf(command, fresh%10)
		}
		before := cpu()
		k.ok("%s", next())
		whole := cpu() - before
		open := h.Sessions.Stats().Open
		leaver := h.imap(t, "alice")
		before = cpu()
		leaver.command("%s", next())
		time.Sleep(20 * time.Millisecond)
		leaver.nc.Close()
		until(t, "the session ends", func() bool { return h.Sessions.Stats().Open == open })
		left := cpu() - before
		if left > whole*6/10 {
			t.Errorf("%s: %v of work for a client that left, %v for one that stayed", name, left, whole)
		}
		promise.Kept(t, "R23", "what", name, "messages", n, "CPU ms when the client stays", whole.Milliseconds(), "CPU ms when it leaves", left.Milliseconds())
	}
}

// A client that has said all it has to say, and waits for the answers, gets them.
func TestR23ClientThatHasSaidAll(t *testing.T) {
	h := newHouse(t, options{})
	k := fill(t, h, "alice", 20_000)
	tag := k.command(`SEARCH TEXT "nowhere to be found"`)
	k.nc.(interface{ CloseWrite() error }).CloseWrite()
	if last, _ := k.answer(tag); !strings.HasPrefix(last, tag+" OK") {
		t.Errorf("%s", last)
	}
}

// A command that works longer than it may is refused, and its session goes on.
func TestR23CommandTime(t *testing.T) {
	h := newHouse(t, options{commandTime: time.Millisecond})
	k := fill(t, h, "alice", 100_000)
	tag := k.command("SEARCH %s", long)
	if last, _ := k.answer(tag); !strings.HasPrefix(last, tag+" NO [LIMIT] ") {
		t.Errorf("%s", last)
	}
	k.ok("NOOP")
}

// A server that stops does not wait for a long command.
func TestR23Stop(t *testing.T) {
	h := newHouse(t, options{})
	k := fill(t, h, "alice", 50_000)
	tag := k.command(`SEARCH OR TEXT "nowhere to be found" OR BODY "or there" OR TEXT "or anywhere" TEXT "a a a a a"`)
	_ = tag
	time.Sleep(100 * time.Millisecond)
	h.Stop()
}
