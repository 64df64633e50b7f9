package limits

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/test/promise"
)

// hostile are inputs of strangers that try to make the server keep much.
var hostile = []struct{ name, listener, text string }{
	{"nothing", "imap", ""},
	{"a line without end", "imap", "a " + strings.Repeat("x", 1<<20)},
	{"a line without end", "smtp", strings.Repeat("x", 1<<20)},
	{"a line without end", "pop3", "USER " + strings.Repeat("x", 1<<20)},
	{"a quoted string without end", "imap", "a LOGIN \"" + strings.Repeat("\\\"", 1<<19)},
	{"the longest line", "imap", "a ID (" + strings.Repeat("\"k\" \"v\" ", 5000)},
	{"a field of ID", "imap", "a ID (" + strings.Repeat("\"kkkkkkkkkkkkkkkkkkkkkkk\" \""+strings.Repeat("v", 1000)+"\" ", 29) + "\"k\" \""},
	{"literals", "imap", "a LOGIN {4096+}\r\n" + strings.Repeat("x", 4096) + " {4096+}\r\n" + strings.Repeat("y", 4095)},
	{"many literals", "imap", "a ID (" + strings.Repeat("{4096+}\r\n"+strings.Repeat("x", 4096)+" ", 4) + "{4096+}\r\n"},
	{"a literal of gigabytes", "imap", "a LOGIN {4294967295+}\r\n" + strings.Repeat("x", 60<<10)},
	{"parentheses", "imap", "a ID " + strings.Repeat("(", 30000)},
	{"a sequence set", "imap", "a FETCH " + strings.Repeat("1,", 15000)},
	{"AUTHENTICATE", "imap", "a AUTHENTICATE PLAIN\r\n" + strings.Repeat("QUFB", 5000)},
	{"AUTHENTICATE at once", "imap", "a AUTHENTICATE PLAIN " + strings.Repeat("QUFB", 9000)},
	{"SCRAM under way", "imap", "a AUTHENTICATE SCRAM-SHA-256 " + base64.StdEncoding.EncodeToString([]byte("n,,n=alice@example.org,r="+strings.Repeat("r", 6000))) + "\r\n"},
	{"AUTH", "submission", "EHLO me\r\nAUTH PLAIN\r\n" + strings.Repeat("QUFB", 3000)},
	{"AUTH", "pop3", "AUTH PLAIN\r\n" + strings.Repeat("QUFB", 3000)},
	{"many recipients", "smtp", "EHLO me\r\nMAIL FROM:<a@far.example>\r\n" + strings.Repeat("RCPT TO:<alice@example.org> NOTIFY=NEVER ORCPT=rfc822;"+strings.Repeat("x", 400)+"\r\n", 900)},
	{"data without a line end", "smtp", "EHLO me\r\nMAIL FROM:<a@far.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n" + strings.Repeat("x", 1<<20)},
	{"a chunk without end", "smtp", "EHLO me\r\nMAIL FROM:<a@far.example>\r\nRCPT TO:<alice@example.org>\r\nBDAT 100000\r\n" + strings.Repeat("x\r\n", 10000)},
	{"a partial TLS record", "imaps", "\x16\x03\x01\x40\x00" + strings.Repeat("r", 16383)},
	{"a partial hello of 64 KB", "imaps", "\x16\x03\x01\x40\x00\x01\x00\xff\xf0" + strings.Repeat("r", 16380) + strings.Repeat("\x16\x03\x01\x40\x00"+strings.Repeat("r", 16384), 2)},
	{"many small records", "imaps", "\x16\x03\x01\x00\x04\x01\x00\xff\xf0" + strings.Repeat("\x16\x03\x01\x00\x01r", 3000)},
	{"STARTTLS and a partial hello", "imap", "a STARTTLS\r\n"},
	{"STARTTLS and a partial hello", "smtp", "EHLO me\r\nSTARTTLS\r\n"},
}

var partialHello = "\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + strings.Repeat("r", 16300)

// tokens are what random inputs are made of.
var tokens = []string{
	"a ", "LOGIN ", "ID ", "AUTHENTICATE ", "PLAIN", "(", ")", "\"", "\\", "{10}\r\n", "{4000+}\r\n", "{16+}\r\n", "\r\n", "\n", "\r", " ", "*",
	"USER ", "PASS ", "AUTH ", "EHLO x\r\n", "HELO ", "MAIL FROM:<a@b>\r\n", "RCPT TO:<alice@example.org>\r\n", "BDAT 100000\r\n", "BDAT 1 LAST\r\n",
	"RSET\r\n", "NOOP\r\n", "CAPABILITY\r\n", "STARTTLS", "STLS\r\n", "QUFBQUFB", "=", "\x00", "\xff\xfe", "1:*,", "ÄÖÜ",
}

func randomInput(rng *rand.Rand) string {
	var b strings.Builder
	for n := rng.IntN(60 << 10); b.Len() < n; {
		b.WriteString(strings.Repeat(tokens[rng.IntN(len(tokens))], 1+rng.IntN(1<<rng.IntN(12))))
	}
	return b.String()
}

// heldFor opens many connections, has all send a text, and returns what each costs.
func heldFor(t *testing.T, h *house, listener string, n int, text func(i int) string) int64 {
	t.Helper()
	before := held()
	conns := make([]net.Conn, n)
	for i := range conns {
		var err error
		if conns[i], err = net.Dial("tcp", h.at(listener)); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i, nc := range conns {
		wg.Go(func() {
			nc.SetDeadline(time.Now().Add(time.Second)) // who is not read from does not wait
			s := text(i)
			if strings.HasSuffix(s, "STARTTLS\r\n") {
				io.WriteString(nc, s)
				got := make([]byte, 4<<10)
				for have := 0; have < len(got) && !bytes.Contains(got[:have], []byte("220 ")) && !bytes.Contains(got[:have], []byte("begin TLS")); {
					n, err := nc.Read(got[have:])
					if have += n; err != nil {
						break
					}
				}
				s = partialHello
			}
			io.WriteString(nc, s)
		})
	}
	wg.Wait()
	settle()
	each := (held() - before) / int64(n)
	for range 10 { // while they are still at work, what they have just done with counts, too
		if each < perStranger {
			break
		}
		time.Sleep(50 * time.Millisecond)
		each = min(each, (held()-before)/int64(n))
	}
	for _, nc := range conns {
		nc.Close()
	}
	until(t, "all sessions end", func() bool { return h.Sessions.Stats().Open == 0 })
	return each
}

// settle waits until nobody works any more.
func settle() {
	for range 100 {
		before := cpu()
		time.Sleep(15 * time.Millisecond)
		if cpu()-before < 3*time.Millisecond {
			return
		}
	}
}

// perStranger is what one who has not logged in may cost.
const (
	perStranger = 64 << 10
	perIntake   = 192 << 10 // where anybody may send mail, while a message is on its way
)

// R21: whatever a client sends before it has logged in, the server keeps little of it. The
// client's end of the connection is counted, too.
func TestR21MemoryBeforeLogin(t *testing.T) {
	trusted := newHouse(t, options{net: netsrv.Options{Handshake: time.Minute}}) // where passwords may travel
	strange := newHouse(t, options{net: netsrv.Options{Handshake: time.Minute, Trusted: []netip.Prefix{}}})
	at := func(listener string) *house {
		if listener == "smtp" {
			return strange
		}
		return trusted
	}
	const conns = 48
	for _, listener := range []string{"imap", "smtp"} {
		heldFor(t, at(listener), listener, conns, func(int) string { return "" }) // what is made once
	}
	worst, intake, inputs := int64(0), int64(0), 0
	for _, in := range hostile {
		each := heldFor(t, at(in.listener), in.listener, conns, func(int) string { return in.text })
		t.Logf("%s, %s: %d bytes for each connection", in.listener, in.name, each)
		limit := int64(perStranger)
		if in.name == "a chunk without end" {
			intake, limit = each, perIntake
		} else {
			worst = max(worst, each)
		}
		if each > limit {
			t.Errorf("%s, %s: %d bytes for each connection", in.listener, in.name, each)
		}
		inputs++
	}
	seed := rand.Uint64()
	for round := range promise.Times(t, "R21", 10, 1000) {
		listener := []string{"imap", "smtp", "submission", "pop3", "lmtp", "imaps"}[round%6]
		each := heldFor(t, at(listener), listener, conns, func(i int) string {
			return randomInput(rand.New(rand.NewPCG(seed, uint64(round*conns+i))))
		})
		if each > perStranger {
			t.Errorf("seed %d, round %d, %s: %d bytes for each connection", seed, round, listener, each)
		}
		worst = max(worst, each)
		inputs += conns
	}
	promise.Kept(t, "R21", "inputs", inputs, "connections at a time", conns, "KiB each at worst", worst>>10, "KiB each while a message comes in", intake>>10, "seed", fmt.Sprint(seed))
}
