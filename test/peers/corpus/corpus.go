// Package corpus makes several hundred messages, whole and broken, always the same
// ones, that a mail server must give back byte for byte.
//
// It knows nothing of protocols; Lines puts a message into the form that SMTP can
// carry.
package corpus

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Message is one of the corpus.
type Message struct {
	Name string
	Data []byte
}

// NUL tells whether the message holds a NUL, which neither SMTP nor a plain IMAP
// literal may carry.
func (m Message) NUL() bool { return bytes.IndexByte(m.Data, 0) >= 0 }

// Lines returns the message with CRLF at the end of each line and of the whole, which
// is what SMTP makes of it (RFC 5321, 2.3.8). An empty message stays empty.
func (m Message) Lines() []byte {
	out := make([]byte, 0, len(m.Data)+len(m.Data)/40+2)
	for i := 0; i < len(m.Data); i++ {
		switch c := m.Data[i]; {
		case c == '\r':
			out = append(out, "\r\n"...)
			if i+1 < len(m.Data) && m.Data[i+1] == '\n' {
				i++
			}
		case c == '\n':
			out = append(out, "\r\n"...)
		default:
			out = append(out, c)
		}
	}
	if len(out) > 0 && !bytes.HasSuffix(out, []byte("\r\n")) {
		out = append(out, "\r\n"...)
	}
	return out
}

// All returns the whole corpus, the made messages first.
func All() []Message {
	c := &collector{rnd: rand.New(rand.NewPCG(822, 5322))}
	c.charsets()
	c.headers()
	c.bodies()
	c.multiparts()
	c.nested()
	c.boundaries()
	c.sizes()
	c.mutants(120)
	c.big()
	c.found()
	return c.all
}

// collector gathers messages.
type collector struct {
	rnd *rand.Rand
	all []Message
}

// add takes a message whose lines are separated by LF and gives it CRLF.
func (c *collector) add(name, text string) {
	c.raw(name, []byte(strings.ReplaceAll(text, "\n", "\r\n")))
}

// raw takes a message as it is.
func (c *collector) raw(name string, data []byte) {
	c.all = append(c.all, Message{fmt.Sprintf("%03d-%s", len(c.all), name), data})
}

const usual = "From: Ada <ada@example.org>\nTo: bob@example.net\nSubject: %s\n" +
	"Date: Mon, 4 Mar 2024 10:11:12 +0100\nMessage-ID: <%s@corpus.example>\nMIME-Version: 1.0\n"

// head returns the usual fields.
func head(name string) string { return fmt.Sprintf(usual, name, name) }

// mutants damages messages that are there already: bytes changed, cut out, doubled.
func (c *collector) mutants(n int) {
	var seeds []Message
	for _, m := range c.all {
		if len(m.Data) > 40 && len(m.Data) < 20_000 {
			seeds = append(seeds, m)
		}
	}
	for i := range n {
		data := bytes.Clone(seeds[c.rnd.IntN(len(seeds))].Data)
		for range 1 + c.rnd.IntN(8) {
			data = c.damage(data)
		}
		c.raw(fmt.Sprintf("mutant-%d", i), data)
	}
}

func (c *collector) damage(data []byte) []byte {
	if len(data) < 4 {
		return append(data, "more\r\n"...)
	}
	at := c.rnd.IntN(len(data))
	run := min(1+c.rnd.IntN(60), len(data)-at)
	switch c.rnd.IntN(6) {
	case 0:
		data[at] = byte(1 + c.rnd.IntN(255))
	case 1:
		return append(data[:at], data[at+run:]...)
	case 2:
		return append(data[:at+run], bytes.Clone(data[at:])...)
	case 3:
		return data[:at]
	case 4:
		odd := []string{"\r\n\r\n", "\r\n--", "\r\n.\r\n", "=?utf-8?q?", "\"", "(", "\r\n ", "\n", "\x80\xff", ";"}
		ins := odd[c.rnd.IntN(len(odd))]
		return append(data[:at], append([]byte(ins), data[at:]...)...)
	case 5:
		other := c.rnd.IntN(len(data))
		data[at], data[other] = data[other], data[at]
	}
	return data
}

// found adds the mails of Python's test suite, where Debian's package
// libpython3.11-testsuite is installed.
func (c *collector) found() {
	paths, _ := filepath.Glob("/usr/lib/python3.*/test/test_email/data/msg_*.txt")
	for _, p := range paths {
		if b, err := os.ReadFile(p); err == nil {
			c.raw("python-"+strings.TrimSuffix(filepath.Base(p), ".txt"), b)
		}
	}
}
