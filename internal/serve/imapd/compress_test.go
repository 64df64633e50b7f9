package imapd

import (
	"bufio"
	"bytes"
	"compress/flate"
	"io"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// squeezer compresses what a client says. Each time it goes out as one write: on a pipe
// the server cannot answer while we write.
type squeezer struct {
	*flate.Writer
	out bytes.Buffer
	to  io.Writer
}

func newSqueezer(to io.Writer) *squeezer {
	s := &squeezer{to: to}
	s.Writer, _ = flate.NewWriter(&s.out, flate.BestSpeed)
	return s
}

func (s *squeezer) say(t *testing.T, text string, end func() error) {
	t.Helper()
	_, err := io.WriteString(s.Writer, text)
	if err == nil {
		err = end()
	}
	if err == nil {
		_, err = s.out.WriteTo(s.to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// COMPRESS (RFC 4978) and its end (RFC 8437, 4.1).
func TestCompress(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", message(strings.Repeat("long ", 2000)), 0)
	for _, last := range []bool{false, true} {
		conn := w.dial()
		l := newLineClient(t, conn)
		l.hear("* OK")
		l.say("a COMPRESS DEFLATE\r\n")
		l.hear("a BAD")
		l.say("b LOGIN alice@example.org \"" + password + "\"\r\n")
		l.hear("COMPRESS=DEFLATE")
		l.say("c COMPRESS LZW\r\n")
		l.hear("c BAD")
		l.say("d COMPRESS deflate\r\n")
		l.hear("d OK")

		plain := l.r
		l.r = bufio.NewReader(flate.NewReader(plain))
		packer := newSqueezer(conn)
		say := func(text string) { t.Helper(); packer.say(t, text, packer.Flush) }
		say("e COMPRESS DEFLATE\r\n")
		l.hear("e NO [COMPRESSIONACTIVE]")
		say("f SELECT INBOX\r\n")
		for !strings.HasPrefix(l.hear(""), "f OK") {
		}
		say("g FETCH 1 BODY.PEEK[TEXT]\r\n")
		l.hear("* 1 FETCH")
		if text := l.hear("Text of long"); len(text) < 10_000 {
			t.Fatal(len(text))
		}
		l.hear(")")
		l.hear("g OK")
		say("h APPEND INBOX {40000+}\r\nSubject: x\r\n\r\n" + strings.Repeat("y", 39_986) + "\r\n")
		l.hear("* 2 EXISTS")
		l.hear("RECENT")
		l.hear("h OK")
		say("h2 STORE 2 +FLAGS.SILENT \\Deleted\r\nh3 EXPUNGE\r\n")
		l.hear("h2 OK")
		l.hear("* 2 EXPUNGE")
		l.hear(" RECENT")
		l.hear("h3 OK")
		say("i NOOP\r\nj IDLE\r\n")
		l.hear("i OK")
		l.hear("+ idling")
		w.deliver("INBOX", message("news"), 0)
		l.hear("* 2 EXISTS")
		l.hear("RECENT")
		say("DONE\r\n")
		l.hear("j OK")

		// The end: what follows is plain, both ways.
		end := packer.Flush
		if last {
			end = packer.Close
		}
		packer.say(t, "k UNAUTHENTICATE\r\n", end)
		l.hear("k OK")
		l.r = plain
		l.say("l LOGIN bob@example.org \"" + strings.ReplaceAll(password, "alice", "bob") + "\"\r\nm NOOP\r\n")
		l.hear("l OK")
		l.hear("m OK")
		conn.Close()
		w.change(func(tx *store.Tx) error {
			inbox, err := tx.Mailbox("INBOX")
			if err == nil {
				_, err = tx.Expunge(inbox.ID, mail.UIDSet{{From: 2, To: 1000}}, false)
			}
			return err
		})
	}
}

// What is not compressed, after it should be, ends the session.
func TestCompressNonsense(t *testing.T) {
	w := newWorld(t)
	conn := w.dial()
	l := newLineClient(t, conn)
	l.hear("* OK")
	l.say("a LOGIN alice@example.org \"" + password + "\"\r\n")
	l.hear("a OK")
	l.say("b COMPRESS DEFLATE\r\n")
	l.hear("b OK")
	l.r = bufio.NewReader(flate.NewReader(l.r))
	l.say("c NOOP\r\nd NOOP\r\n")
	l.hear("* BYE what you send cannot be decompressed")
}

// A kilobyte that becomes a megabyte is a command of a megabyte.
func TestCompressBomb(t *testing.T) {
	w := newWorld(t)
	conn := w.dial()
	l := newLineClient(t, conn)
	l.hear("* OK")
	l.say("a LOGIN alice@example.org \"" + password + "\"\r\n")
	l.hear("a OK")
	l.say("b COMPRESS DEFLATE\r\n")
	l.hear("b OK")
	l.r = bufio.NewReader(flate.NewReader(l.r))
	packer := newSqueezer(conn)
	packer.say(t, `c LIST "" `+strings.Repeat("x", 1<<20)+"\r\n", packer.Flush)
	l.hear("c BAD the command is longer")
	packer.say(t, "d NOOP\r\n", packer.Flush)
	l.hear("d OK")
}
